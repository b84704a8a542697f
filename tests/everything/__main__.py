"""Serve everything in the foreground: `python -m tests.everything --port 8123`.

`SERVER=daphne|uvicorn` chooses the server, `DATABASE_URL` and `REDIS_URL` the database and the channel layer; two of
these on one database are one service.
"""

import argparse
import os
import sys

import django
from django.core.management import call_command

APPLICATION = "tests.everything.asgi:application"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.everything", description=__doc__)
    parser.add_argument("--port", type=int, default=8123)
    port = parser.parse_args().port
    # Not a default: pytest leaves the settings of the tests in the environment of what it starts.
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.everything.settings"
    django.setup()
    call_command("migrate", verbosity=0)
    server = os.environ.get("SERVER", "daphne")
    words = {
        "daphne": ["-b", "127.0.0.1", "-p", str(port), "-v", "0"],
        "uvicorn": ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"],
    }.get(server)
    if words is None:
        parser.error(f"SERVER is {server!r}; it is daphne or uvicorn")
    print(f"serving on http://127.0.0.1:{port}/mcp with {server}", flush=True)
    # By this interpreter, not by PATH: the environment need not be activated.
    os.execv(sys.executable, [sys.executable, "-m", server, *words, APPLICATION])


if __name__ == "__main__":
    main()
