"""`python -m tests.chaos`: break it on purpose. Exit code 1 where a rule was broken, 2 where nothing can be run."""

import sys
from functools import partial

from tests.chaos.figures import figures
from tests.chaos.options import parse
from tests.chaos.run import run
from tests.chaos.table import shown, table
from tests.services import Unavailable


def main() -> int:
    try:
        options, path = parse()
        report = run(options, path, tell=partial(print, file=sys.stderr))
    except Unavailable as reason:
        print(f"Nothing can be broken here: {reason}", file=sys.stderr)
        return 2
    found = figures(report.history.lines, report.truth)
    print(table(found, report.broken, report.memory, report.seconds))
    print(f"history: {report.path}\nlogs of the servers: {report.logs}")
    if report.broken:
        print(shown(report.broken))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
