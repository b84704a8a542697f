"""Moving what a log store keeps to another: streams, questions, calls, claims, results and changes.

**Stop, move, start.** Stop all processes of the old store, run the move, start the processes of the new one. Nothing
is lost and nothing runs twice: a client resumes its stream by its `Last-Event-ID`, a question waits on, a call that
had not begun, or that may be repeated, goes on at a new process, one that may have had effects has ended with an
answer that says so, an idempotency key that was used has its outcome, a link its result. Calls whose process was
killed count as running until their lease is over (LEASE_SECONDS); the move says how many it left, and is run again
after that.

**A rolling deploy.** Run the move before and after. Between the two runs a stream that was resumed at a new process
waits for what an old one still writes; a call that runs at an old process stays there, and comes with the second run;
an idempotency key that is used for the first time at an old process is not known at a new one, nor the other way
round; a stream of a GET that both sides wrote to stays as it is at the new one, whose client is told of later changes.

It may be stopped at any time and run again, as often as one likes.
"""

import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from django.utils import timezone

from django_mcp.exceptions import ConfigurationError, StoreUnavailable
from django_mcp.sessions.stores import CallRecord, LogStore, QuestionRecord
from django_mcp.sessions.stores.calls import CallState
from django_mcp.sessions.stores.kept import Kept, KeptChanges, KeptClaim, KeptCursor, KeptResult, KeptStream

HOLD_SECONDS: Final = 60.0
"""For so long a call that goes on elsewhere is the move's: after that it is anybody's again at the old store."""
TELL_EVERY: Final = 100

Tell = Callable[[int, int | None], None]
"""Takes how many records were read, and about how many there are, None where that is not known."""

_NAMES: Final[Mapping[type[Kept], str]] = {
    KeptChanges: "servers",
    KeptStream: "streams",
    KeptCursor: "cursors",
    QuestionRecord: "questions",
    CallRecord: "calls",
    KeptClaim: "claims",
    KeptResult: "results",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMoved:
    """What a move did.

    `read` and `changed` count by name: servers, streams, cursors, questions, calls, claims, results.
    `left` are calls that run at processes of the old store, and stay there; `interrupted` those whose process was gone
    and that ended by the move; `continued` those whose process was gone and that go on in the new store.
    """

    read: Mapping[str, int] = field(default_factory=dict)
    changed: Mapping[str, int] = field(default_factory=dict)
    left: int = 0
    interrupted: int = 0
    continued: int = 0

    @property
    def is_complete(self) -> bool:
        """Say whether nothing has to come later."""
        return not self.left


def migrate_log(
    source: LogStore,
    target: LogStore,
    *,
    interrupted: Callable[[CallRecord], bytes],
    tell: Tell = lambda done, total: None,
) -> LogMoved:
    """Copy what `source` keeps into `target`, and read it back there.

    Args:
        interrupted: makes the terminal event of a call that may have had effects and whose process is gone.
        tell: called now and then, and at the end.

    Raises:
        ConfigurationError: both are one store.
        StoreUnavailable: one of them is down, or the target did not keep what it was given. What was copied stays.
    """
    if source.place == target.place:
        raise ConfigurationError(
            f"The stores {source.alias!r} and {target.alias!r} keep streams and calls in the same place."
        )
    owner = f"move:{secrets.token_hex(8)}"
    ended = _take_abandoned(source, owner, interrupted)
    total = source.count_records()
    read: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    left = continued = 0
    for record in source.records():
        name = _NAMES[type(record)]
        read[name] += 1
        if not (isinstance(record, CallRecord) and record.state == "running"):
            changed[name] += _copy(record, target)
        elif record.owner == owner and _goes_on(record, source, target):
            continued += 1
            changed[name] += 1
        else:
            left += 1
        if read.total() % TELL_EVERY == 0:
            tell(read.total(), total)
    tell(read.total(), read.total())
    return LogMoved(read=dict(read), changed=dict(changed), left=left, interrupted=ended, continued=continued)


def _take_abandoned(source: LogStore, owner: str, interrupted: Callable[[CallRecord], bytes]) -> int:
    """Take every call whose owner is gone; return how many have ended by that. The others are `owner`'s."""
    states: dict[str, CallState] = {}
    for server in source.call_servers():
        while True:
            taken = source.take_over_calls(server, owner, lease_seconds=HOLD_SECONDS, interrupted=interrupted)
            # What was taken long ago is anybody's again, the move's own too.
            if not taken or states.keys() >= {record.id for record in taken}:
                break
            states |= {record.id: record.state for record in taken}
    return sum(state != "running" for state in states.values())


def _goes_on(record: CallRecord, source: LogStore, target: LogStore) -> bool:
    """Give a call that is the move's to the target; False, and nothing is done, if it is not the move's any more.

    From the first step on it may run there, so at the source it counts as one whose body began: where the last step
    is never done, it is interrupted there, and not run a second time.
    """
    if not source.begin_body(record.hold):
        return False
    target.restore(replace(record, lease_until=timezone.now()))
    if target.find_call(record.id) is None:
        raise _not_kept(record, target)
    return source.forget_call(record.hold)


def _copy(record: Kept, target: LogStore) -> bool:
    """Restore a record and read it back; say whether that changed anything."""
    if not target.restore(record):
        return False
    # What is there is not restored again.
    if target.restore(record) or (isinstance(record, KeptStream) and not _is_there(record, target)):
        raise _not_kept(record, target)
    return True


def _is_there(record: KeptStream, target: LogStore) -> bool:
    """Say whether the target has the events of a stream, or has let go of them by itself since."""
    after = record.first - 1
    while after < record.last:
        page = target.read_stream(record.session, record.name, after)
        if page is None:
            return record.expires_at is not None and record.expires_at <= timezone.now()
        if page.last < record.last or any(
            event.sequence <= record.last and event.body != record.body(event.sequence) for event in page.events
        ):
            return False
        after = page.events[-1].sequence if page.events else record.last
    return True


def _not_kept(record: Kept, target: LogStore) -> StoreUnavailable:
    return StoreUnavailable(f"The store {target.alias!r} did not keep what it was given: {_NAMES[type(record)]}")
