"""Streams, questions, calls, claims, results and changes, as a part of what a store keeps."""

from collections import Counter
from collections.abc import Callable
from typing import ClassVar, Final

from django_mcp.sessions.migration.log import migrate_log
from django_mcp.sessions.migration.part import Outcome, Part, Progress, Report
from django_mcp.sessions.stores import CallRecord, LogStore

RUNNING: Final = "calls that run at processes of the old store"


class LogPart(Part):
    """Args: `interrupted` makes the terminal event of a call whose process is gone and that may have had effects."""

    name: ClassVar[str] = "streams and calls"

    def __init__(self, source: LogStore, target: LogStore, *, interrupted: Callable[[CallRecord], bytes]) -> None:
        self.source = source
        self.target = target
        self.interrupted = interrupted

    def count(self) -> int | None:
        return 0 if self.source.place == self.target.place else self.source.count_records()

    def run(self, report: Report) -> Outcome:
        if self.source.place == self.target.place:
            return Outcome()

        def tell(done: int, total: int | None) -> None:
            report(Progress(done=done, total=max(done, total or 0), what="copied"))

        moved = migrate_log(self.source, self.target, interrupted=self.interrupted, tell=tell)
        changed = sum(moved.changed.values())
        return Outcome(
            moved=changed,
            there=sum(moved.read.values()) - changed - moved.left,
            left=Counter({RUNNING: moved.left}) if moved.left else Counter(),
        )
