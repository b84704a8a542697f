"""Serve in the foreground: `python -m tests.live.serve uvicorn 8200`, with the settings of `DJANGO_SETTINGS_MODULE`.

The database is migrated first, unless `LIVE_MIGRATED` says that it is. `LIVE_APPLICATION` names another application
with the consumer. `LIVE_WORKERS` is how many processes uvicorn has, and with `LIVE_PATIENT` it waits for streams
without limit when it ends.
"""

import os
import sys

import django
from django.core.management import call_command
from django.db import connections

HOST = "127.0.0.1"


def main(kind: str, port: str) -> None:
    django.setup()
    if "LIVE_MIGRATED" not in os.environ:
        call_command("migrate", verbosity=0)
        connections.close_all()
    if kind == "view-wsgi":
        from django.core.servers.basehttp import run
        from django.core.wsgi import get_wsgi_application

        run(HOST, int(port), get_wsgi_application(), threading=True)
        return
    application = os.environ.get("LIVE_APPLICATION", "tests.live.asgi:application")
    words = {
        "daphne": ["daphne", "-b", HOST, "-p", port, "-v", "0", application],
        "uvicorn": _uvicorn(port, application),
        "view-asgi": _uvicorn(port, "tests.live.asgi:django_application"),
    }[kind]
    # The interpreter's own scripts, whatever PATH says.
    os.execv(sys.executable, [sys.executable, "-m", *words])


def _uvicorn(port: str, application: str) -> list[str]:
    words = ["uvicorn", "--host", HOST, "--port", port, "--loop", "uvloop", "--http", "httptools"]
    if "LIVE_PATIENT" not in os.environ:
        words += ["--timeout-graceful-shutdown", "5"]
    return [*words, "--log-level", "warning", "--workers", os.environ.get("LIVE_WORKERS", "1"), application]


if __name__ == "__main__":
    main(*sys.argv[1:])
