"""Files that only their owner reads, in a folder that no version control picks up.

Knows paths and bytes; what a secret means, its reader says.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def private_folder(path: Path) -> Path:
    """Make a folder of mode 0700 that git ignores by a file of its own, and return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    ignore = path / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    return path


def write_private(path: Path, text: str) -> None:
    """Replace a file by `text` at once, readable by its owner only."""
    temporary = _temporary(path, text)
    temporary.replace(path)


def read_or_create(path: Path, make: Callable[[], str]) -> str:
    """Return what a file holds; where there is none, let exactly one of the callers write `make()`."""
    if not path.exists():
        temporary = _temporary(path, make())
        try:
            # A link fails where the name is taken, so that two processes end with one text.
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    return path.read_text()


def _temporary(path: Path, text: str) -> Path:
    """Write `text` to a new file of mode 0600 beside `path`."""
    handle, name = tempfile.mkstemp(dir=private_folder(path.parent), prefix=f".{path.name}-")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    return Path(name)
