"""Every piece of work ends, in time and with an answer that a well-behaved client may get."""

from collections.abc import Iterator, Sequence
from typing import Final

from tests.chaos.history import Ended, Line, Refused, Sent, of_type
from tests.chaos.rules.broken import Broken
from tests.chaos.rules.losses import between, losses
from tests.chaos.truth import Truth

NOT_FOUND: Final = 404
_EXPIRED: Final = "event_expired"


def is_expiry(line: Refused) -> bool:
    """Say whether a client was told that the rest of its stream is not kept any more."""
    return line.what == "resume" and line.status == 400 and _EXPIRED in line.detail


def nobody_hangs(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """No client waits for ever."""
    for ended in of_type(lines, Ended):
        if ended.outcome == "hung":
            yield Broken.of("nobody hangs", f"{ended.op} ({ended.tool}) was given up at {ended.at:.1f}", [ended])


def sessions_stay(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """A session that nobody ended is never unknown."""
    for refused in of_type(lines, Refused):
        if refused.status == NOT_FOUND and not refused.is_expected:
            yield Broken.of("sessions stay", f"{refused.op}: {refused.what} found no session", [refused])


def nothing_is_refused(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """A good request is answered, or told to come back; what has ended is not served.

    The rest of a stream may have expired where Redis lost something after the call was sent.
    """
    found = losses(lines)
    sent = {line.op: line.at for line in reversed(of_type(lines, Sent))}
    for line in lines:
        if isinstance(line, Refused) and is_expiry(line) and between(found, sent.get(line.op, line.at), line.at):
            continue
        if isinstance(line, Refused) and line.status != NOT_FOUND and not line.is_expected:
            yield Broken.of("nothing is refused", f"{line.op}: {line.what} was answered {line.status}", [line])
        elif isinstance(line, Ended) and line.outcome == "refused":
            yield Broken.of("nothing is refused", f"{line.op} ({line.tool}): {line.detail}", [line])
