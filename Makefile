# Needs make and Python 3.11 or later. `make` lists what there is.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
PYTEST_ARGS ?=
BENCH_ARGS ?=
CHAOS_ARGS ?=
STORE ?=

BIN := $(VENV)/bin
PY := $(BIN)/python
DEMO := $(VENV)/.installed
DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check pytest unit fmt conformance bench chaos everything interpreters lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(DEMO) ## Install, load and serve the demo at 127.0.0.1:$(PORT)   (PORT=8000 DATABASE_URL= REDIS_URL=)
	$(PY) manage.py demo --port $(PORT)

test: check pytest interpreters ## Run everything: check, then all tests, then the other Pythons   (PYTEST_ARGS=)

check: $(DEV) ## Run formatting, lint, types, import floors, migrations and system checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PY) manage.py makemigrations --check --dry-run
	$(PY) manage.py check

pytest: $(DEV) ## Run unit, contract, live and conformance tests   (PYTEST_ARGS=)
	$(PY) -m pytest -n auto -m "not conformance" $(PYTEST_ARGS)
	$(PY) -m pytest -m conformance $(PYTEST_ARGS)

unit: $(DEV) ## Run the tests that start no server and need no service   (PYTEST_ARGS=)
	$(PY) -m pytest -n auto -m "not live and not services and not conformance" $(PYTEST_ARGS)

fmt: $(DEV) ## Format, and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

conformance: $(DEV) ## Run the official conformance suites and show their tables   (SERVER=daphne|uvicorn)
	$(PY) -m pytest -s tests/conformance $(PYTEST_ARGS)

bench: $(DEV) ## Measure beside the official SDK's server, then the stores   (BENCH_ARGS=)
	$(PY) -m benchmarks $(BENCH_ARGS)
	$(PY) -m benchmarks.stores

chaos: $(DEV) ## Kill servers, stores and connections under load, and judge what clients saw   (STORE= CHAOS_ARGS=)
	$(PY) -m tests.chaos $(if $(STORE),--store $(STORE)) $(CHAOS_ARGS)

everything: $(DEV) ## Serve the everything server at 127.0.0.1:$(PORT)/mcp   (SERVER= DATABASE_URL= REDIS_URL=)
	$(PY) -m tests.everything --port $(PORT)

interpreters: $(DEV) ## Run unit and contract tests on every other Python from 3.11 to 3.13 that is installed
	@set -e; for version in 3.11 3.12 3.13; do \
		if $(PY) -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$$version')"; then continue; fi; \
		found=; \
		for python in python$$version "$$HOME"/.pyenv/versions/$$version.*/bin/python; do \
			if "$$python" -c 'import ensurepip' 2> /dev/null; then found="$$python"; break; fi; \
		done; \
		if [ -z "$$found" ]; then echo "Python $$version is not installed here"; continue; fi; \
		echo "Python $$version"; \
		$(MAKE) --no-print-directory unit PYTHON="$$found" VENV=.venv-$$version; \
	done

lock: $(DEV) ## Resolve requirements*.txt anew from pyproject.toml   (UPGRADE=--upgrade)
	$(PY) -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra all --universal --python-version 3.11 --quiet $(UPGRADE) \
		--annotation-style line --custom-compile-command "make lock" --output-file requirements.txt
	$(BIN)/uv pip compile pyproject.toml --extra all --group dev --universal --python-version 3.11 --quiet $(UPGRADE) \
		--annotation-style line --custom-compile-command "make lock" --constraint requirements.txt \
		--output-file requirements-dev.txt

clean: ## Remove what was made: environments, caches, builds (the demo's data stays)
	rm -rf .venv .venv-3.* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(PY):
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(DEMO): requirements.txt | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(DEV): requirements-dev.txt | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
