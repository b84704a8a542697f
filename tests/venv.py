"""Python environments of a test's own: made with pip, once for each content of a requirements file.

For what cannot be in the environment of the tests themselves, such as another version of a package that they need.
"""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.node import cache_folder
from tests.services.unavailable import skip_or_fail

INSTALL_SECONDS = 600


def pip_install(name: str, requirements: Path) -> Path:
    """Install what a requirements file names into an environment in the user's cache, and return its interpreter.

    `name` begins the name of the folder. Skip or fail the test where pip cannot do it.
    """
    content = f"{sys.version}\n{requirements.read_text()}"
    folder = cache_folder() / "venv" / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    python = Path("Scripts", "python.exe") if sys.platform == "win32" else Path("bin", "python")
    if folder.is_dir():
        return folder / python
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when it is whole: another process of the tests may be at the same. The interpreter bears that, the
    # scripts beside it do not.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as temporary:
        work = Path(temporary, "work")
        _run(name, sys.executable, "-m", "venv", str(work))
        quietly = ("--quiet", "--no-input", "--disable-pip-version-check")
        _run(name, str(work / python), "-m", "pip", "install", *quietly, "-r", str(requirements))
        try:
            work.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    return folder / python


def _run(name: str, *words: str) -> None:
    try:
        subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=INSTALL_SECONDS,
            check=True,
            text=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        skip_or_fail(f"pip could not install {name}: {error}: {getattr(error, 'output', '') or ''!s}")
