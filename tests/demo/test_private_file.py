"""Private files are made once, whole, and for their owner."""

import stat
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Barrier

from demo_project.private_file import read_or_create, write_private


def test_many_first_readers_get_one_text(tmp_path: Path) -> None:
    numbers = count()
    barrier = Barrier(8)

    def read(_: int) -> str:
        barrier.wait(timeout=10)
        return read_or_create(tmp_path / "secret", lambda: f"secret {next(numbers)}")

    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(read, range(8)))

    assert found == {(tmp_path / "secret").read_text()}
    assert {path.name for path in tmp_path.iterdir()} == {"secret", ".gitignore"}
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_rewritten_file_stays_private(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_text("old")
    path.chmod(0o644)

    write_private(path, "new")

    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
