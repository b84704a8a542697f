"""A demo that runs, for tests that talk to it from outside."""

import json
import os
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError, URLError

import demo_project

ROOT = Path(demo_project.__file__).resolve().parent.parent
START_SECONDS = 90
STOP_SECONDS = 15


class Served:
    """A demo that runs, and what it printed."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.address = f"http://127.0.0.1:{port}"
        self.log = folder / f"log-{port}"
        environment = {**os.environ, "DEMO_VAR": str(folder / "var"), "PYTHONUNBUFFERED": "1"}
        for name in ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE"):
            environment.pop(name, None)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "demo", "--port", str(port)],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def printed(self) -> str:
        return self.log.read_text()

    def status(self, path: str) -> int:
        """Return the status of a GET, 0 where nobody answers."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=10) as answer:
                return int(answer.status)
        except HTTPError as error:
            return error.code
        except URLError:
            return 0

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.printed
        return self.status("/admin/login/") == 200

    def stop(self) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_SECONDS)

    def token(self, name: str) -> str:
        """Return the access token of one of the demo's users."""
        credentials = json.loads((self.log.parent / "var" / "demo-credentials.json").read_text())
        return str(credentials[name]["token"])
