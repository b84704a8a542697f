"""The official Python client of the handshake era, run in an environment of its own; what it prints is JSON."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.venv import pip_install

FOLDER = Path(__file__).with_name("python")
RUN_SECONDS = 120


def python_call(url: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """List the tools and call one; return what the client's own callbacks saw."""
    python = pip_install("python-client", FOLDER / "requirements.txt")
    done = subprocess.run(
        [python, FOLDER / "call.py", url, tool, json.dumps(arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"the client exited with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-6000:]}")
    return dict(json.loads(done.stdout))
