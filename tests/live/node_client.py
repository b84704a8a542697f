"""Clients from npm, run as processes of Node; what they print is JSON."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.node import node_or_skip, npm_install

SDK = {"dependencies": {"@modelcontextprotocol/sdk": "1.32.2"}}
INSPECTOR = {"dependencies": {"@modelcontextprotocol/inspector": "2.12.0"}}
SCRIPTS = Path(__file__).with_name("typescript")
RUN_SECONDS = 120


def typescript_call(folder: Path, url: str, token: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """List the tools and call one with the official TypeScript client."""
    return typescript(folder, "call.mjs", url, token, tool, json.dumps(arguments))


def typescript(folder: Path, script: str, *words: str) -> dict[str, Any]:
    """Run a script beside this module in `folder`, where it finds the packages, and return what it reports."""
    packages = npm_install("typescript-client", SDK)
    work = folder / "typescript"
    if not work.is_dir():
        shutil.copytree(SCRIPTS, work)
        (work / "node_modules").symlink_to(packages / "node_modules")
    return dict(_run(folder, [str(work / script), *words]))


def inspect(folder: Path, url: str, token: str, *words: str) -> dict[str, Any]:
    """Run the MCP Inspector's command line with an access token, and return what it prints."""
    package = npm_install("inspector", INSPECTOR) / "node_modules" / "@modelcontextprotocol" / "inspector"
    launcher = package / "clients" / "launcher" / "build" / "index.js"
    header = ["--header", f"Authorization: Bearer {token}"] if token else []
    return dict(_run(folder, [str(launcher), "--cli", url, "--transport", "http", *header, *words]))


def _run(home: Path, words: Sequence[str]) -> Any:
    node = node_or_skip()
    # What a client keeps for its user stays in the test's own folder.
    environment = {**node.environment, "HOME": str(home)}
    done = subprocess.run(
        [str(node.node), *words],
        env=environment,
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{words[0]} exited with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return json.loads(done.stdout)
