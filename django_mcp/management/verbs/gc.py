"""`manage.py mcp gc`: expire what is due and delete what nothing needs, in every store."""

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any, Final

from django.apps import apps
from django.core.management.base import OutputWrapper
from django.utils import timezone

from django_mcp.core.manifest import references
from django_mcp.exceptions import ConfigurationError
from django_mcp.management import layout
from django_mcp.management.faults import told
from django_mcp.management.numbers import whole
from django_mcp.management.terminal import Terminal
from django_mcp.management.verbs.base import Verb
from django_mcp.models import MCPSession
from django_mcp.sessions.stores import Collected, LogStore, StateStore, store, stores
from django_mcp.sessions.stores.state import COLLECT_AT_ONCE

COUNTS: Final = ("expired", "conversations", "snapshots", "blobs", "bytes")
UNKNOWN: Final = "-"


class GcVerb(Verb):
    name = "gc"
    help = "Expire what is due and delete what nothing needs; on any number of machines at once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Count what a round would take; change nothing.")
        parser.add_argument(
            "--limit",
            type=whole(1),
            default=COLLECT_AT_ONCE,
            metavar="N",
            help="The most of each kind that a round takes (default: %(default)s).",
        )

    def handle(self, options: Mapping[str, Any], stdout: OutputWrapper, stderr: OutputWrapper) -> None:
        terminal = Terminal(stderr)
        show = terminal.show if stderr.isatty() else stderr.write
        is_dry = options["dry_run"]
        rows: list[tuple[str, ...]] = [("store", *COUNTS, "records")]
        is_complete = True
        try:
            with told():
                for alias in stores:
                    log = store(alias)
                    state = _state(log)
                    counts = [UNKNOWN] * len(COUNTS)
                    if state is not None:
                        total = _collect(state, show, limit=options["limit"], is_dry=is_dry)
                        is_complete = is_complete and total.is_complete
                        counts = [str(getattr(total, name)) for name in COUNTS]
                    rows.append((alias, *counts, UNKNOWN if is_dry else str(_all(log.sweep))))
                sessions = _due_sessions() if is_dry else _all(MCPSession.objects.sweep)
                logged = _logged_calls(is_dry)
        finally:
            terminal.clear()
        stdout.write(f"{layout.table(rows)}\nSessions that are over: {sessions}{logged}")
        if is_dry:
            stderr.write(f"Nothing was changed.{'' if is_complete else ' There is more than a round takes.'}")


def _state(log: LogStore) -> StateStore | None:
    try:
        return log.state
    except ConfigurationError:
        return None


def _collect(state: StateStore, show: Callable[[str], object], *, limit: int, is_dry: bool) -> Collected:
    """Return what all rounds together took; what the first one would take when it is dry."""
    total = Collected(is_complete=False)
    number = 0
    while not total.is_complete:
        taken = state.collect(references, limit=limit, dry_run=is_dry)
        sums = {name: getattr(total, name) + getattr(taken, name) for name in COUNTS}
        total = Collected(**sums, is_complete=taken.is_complete)
        number += 1
        if is_dry:
            break
        if not total.is_complete:
            show(f"{state.alias}, round {number}: {', '.join(f'{sums[name]} {name}' for name in COUNTS)}")
    return total


def _all(sweep: Callable[[], int]) -> int:
    """Return how many things all sweeps together took."""
    total = 0
    while taken := sweep():
        total += taken
    return total


def _logged_calls(is_dry: bool) -> str:
    """Return the line about the call log; nothing where the project does not have one."""
    if not apps.is_installed("django_mcp.contrib.call_log"):
        return ""
    rows: Any = apps.get_model("mcp_call_log", "LoggedCall")._default_manager.all()
    return f"\nLogged calls that are over: {rows.count_over() if is_dry else _all(rows.sweep)}"


def _due_sessions() -> int:
    now = timezone.now()
    rows = MCPSession.objects.all()
    rows = rows.using(rows.write_alias)
    return rows.due(now).count() + rows.forgettable(now).count()


verb = GcVerb()
