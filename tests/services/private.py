"""A server process of the tests' own: in a temporary folder, on a free port, under an ordinary user.

Knows processes, folders and users; what the server is, its subclass says.
"""

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from tests.services.ports import free_port, wait_until
from tests.services.service import Service
from tests.services.unavailable import Unavailable

ATTEMPTS = 20
START_SECONDS = 60.0
STOP_SECONDS = 30.0
FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/opt/homebrew/bin")


def find_binary(*names: str, folders: Sequence[str] = ()) -> str:
    """Return the path of the first of `names`, in `folders`, on PATH or where servers live.

    Raises Unavailable.
    """
    path = os.pathsep.join([*folders, os.environ.get("PATH", ""), *FOLDERS])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    msg = f"no {' or '.join(names)} on this machine"
    raise Unavailable(msg)


class PrivateServer(ABC):
    """Run one server for tests, which may kill and restart it; its data and its port outlive the process.

    Starting raises Unavailable where this machine cannot run it.
    """

    title: ClassVar[str]
    users: ClassVar[tuple[str, ...]]  # who runs it where the tests are root's: the first that exists
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.folder: Path | None = None
        self._owner = self._find_owner()
        self._attempts = 0

    @abstractmethod
    def prepare(self, folder: Path) -> None:
        """Lay out the data below the empty `folder`, once."""

    @abstractmethod
    def command(self, folder: Path) -> list[str]:
        """Return the command that serves in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Tell whether the server answers a query."""

    @property
    @abstractmethod
    def service(self) -> Service:
        """Return the address of the server, with the database that is always there."""

    @property
    def log(self) -> str:
        """Return what the server has printed so far."""
        return (self.folder / "log").read_text(errors="replace") if self.folder else ""

    def start(self) -> None:
        """Return when it answers; after `kill` or `stop` on the same port, with the same data."""
        if self.process is not None and self.process.poll() is None:
            return
        if self.folder is None:
            self.folder = self._make_folder()
            atexit.register(self.close)
            try:
                self.prepare(self.folder)
            except subprocess.CalledProcessError as error:
                output = f"{error.stdout.decode(errors='replace')}{error.stderr.decode(errors='replace')}"
                msg = f"{self.title}: {error.cmd[0]} exited with {error.returncode}: {output.strip()[-2000:]}"
                self.close()
                raise Unavailable(msg) from error
            except Unavailable:
                self.close()
                raise
        self._attempts = 1
        self._spawn()
        try:
            wait_until(self._answers, seconds=START_SECONDS, what=f"{self.title} on port {self.port}")
        except TimeoutError as error:
            msg = f"{error}: {self.log.strip()[-2000:]}"
            self.close()
            raise Unavailable(msg) from error

    def kill(self) -> None:
        """End the server as `kill -9` does, its worker processes too."""
        if self.process is None:
            return
        # A worker that outlives its parent for a moment holds shared memory, which delays the next start.
        children = self._children(self.process.pid)
        self.process.kill()
        self.process.wait()
        for pid in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the server in good order; kill it when it does not end in time. The data stays."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def close(self) -> None:
        """Stop, and remove the data."""
        self.stop()
        self.process = None
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def run(self, *command: str) -> None:
        """Run a command of the preparation to its end, as the user that will serve."""
        subprocess.run(
            command, check=True, capture_output=True, stdin=subprocess.DEVNULL, cwd=self.folder, **self._as_owner()
        )

    def _answers(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            # Ended by itself: perhaps something of its killed predecessor was still there.
            if self._attempts == ATTEMPTS:
                msg = f"{self.title} ended by itself"
                raise TimeoutError(msg)
            self._attempts += 1
            time.sleep(0.2)
            self._spawn()
            return False
        return self.is_ready()

    def _spawn(self) -> None:
        assert self.folder is not None
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,  # an interrupt at the keyboard is for the tests, which then stop the server
                **self._as_owner(),
            )

    def _find_owner(self) -> pwd.struct_passwd | None:
        if os.geteuid() != 0:
            return None
        for name in (*self.users, "nobody"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name)
        msg = f"{self.title}: there is no ordinary user to run it, not even nobody"
        raise Unavailable(msg)

    def _as_owner(self) -> dict[str, Any]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "MYSQL"))}
        if self._owner is None:
            return {"env": environment}
        environment |= {"HOME": str(self.folder), "USER": self._owner.pw_name, "LOGNAME": self._owner.pw_name}
        return {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": [], "env": environment}

    def _make_folder(self) -> Path:
        # Another user has to get there, and the path of a Unix socket has a hundred characters.
        folder = Path(tempfile.mkdtemp(prefix="django_mcp-", dir=None if self._owner is None else "/tmp"))
        if self._owner is not None:
            os.chown(folder, self._owner.pw_uid, self._owner.pw_gid)
        return folder

    @staticmethod
    def _children(pid: int) -> list[int]:
        children = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, ValueError):
                # The name in brackets may hold anything; the parent is the second field behind it.
                fields = entry.read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid:
                    children.append(int(entry.parent.name))
        return children
