"""Move a log from one store to another: `python -m tests.live.move_log SOURCE TARGET` prints what it did, as JSON."""

import json
import sys
from dataclasses import asdict

import django


def main(source: str, target: str) -> None:
    django.setup()
    from django_mcp.server.keeper import worker_lost
    from django_mcp.sessions.migration.log import migrate_log
    from django_mcp.sessions.stores import store

    print(json.dumps(asdict(migrate_log(store(source), store(target), interrupted=worker_lost))))


if __name__ == "__main__":
    main(*sys.argv[1:])
