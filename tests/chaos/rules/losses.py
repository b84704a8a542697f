"""What Redis may have forgotten, and when: which refusals a history excuses, and no more than these."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.chaos.history import Epoch, Line, Struck, of_type
from tests.chaos.rules.broken import Broken
from tests.chaos.truth import Truth

NOTICED_SECONDS: Final = 5.0
"""So long after a loss a process may still work in the epoch before it: a beat, on a busy machine."""
TAIL_SECONDS: Final = 2.0
"""What Redis loses at most of its newest writes where it syncs once a second, beside the time in which it was cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A fault that made Redis forget; what was done in `at` … `until` may be of the epoch that ended."""

    at: float
    until: float
    is_all: bool
    struck: Struck

    def may_lie_between(self, first: float, last: float) -> bool:
        """Say whether what was done at `first` may be forgotten, or in doubt, at `last`."""
        return first <= self.until and self.at <= last

    def may_have_forgotten(self, told_at: float) -> bool:
        """Say whether what somebody was told of may be unknown now, and not only in doubt."""
        return self.is_all or told_at >= self.at - TAIL_SECONDS


def losses(lines: Sequence[Line]) -> list[Loss]:
    """Return all losses, in the order in which they were noted."""
    return [
        Loss(
            at=line.at,
            until=line.at + line.lasted + NOTICED_SECONDS,
            is_all=line.forgets == "all",
            struck=line,
        )
        for line in of_type(lines, Struck)
        if line.forgets
    ]


def between(found: Sequence[Loss], first: float, last: float) -> list[Loss]:
    """Return those losses by which what was done at `first` may be unknown at `last`."""
    return [loss for loss in found if loss.may_lie_between(first, last)]


def losses_are_noticed(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """After a loss Redis is in an epoch that was never before."""
    for loss in losses(lines):
        before = {line.name for line in of_type(lines, Epoch) if line.at < loss.at}
        after = [line.name for line in of_type(lines, Epoch) if loss.at <= line.at <= loss.until]
        if not set(after) - before:
            text = f"the {loss.struck.kind} at {loss.at:.1f} began no epoch"
            yield Broken.of("losses are noticed", text, [loss.struck])


def what_lasts_is_not_doubted(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """Where nothing was lost the epoch goes on, and with it all that is kept."""
    found = losses(lines)
    for line in of_type(lines, Epoch)[1:]:
        if not between(found, line.at, line.at):
            yield Broken.of(
                "what lasts is not doubted", f"epoch {line.name} began at {line.at:.1f} without a loss", [line]
            )
