"""Who listens hears of every change, sooner or later."""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.chaos.history import Broke, Deaf, Ended, Heard, Line, Listening, Resumed, grouped, of_type
from tests.chaos.rules.broken import Broken
from tests.chaos.truth import Truth

HEARING_SECONDS: Final = 60.0
"""So long somebody may be connected after a change, all in all, without having heard of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """How long a listener was connected after a change until it heard of it, or all the rest of its time."""

    listening: Listening
    change: Ended
    seconds: float
    has_heard: bool


def changes_are_heard(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """A change that was acknowledged while somebody listened is heard of by them after a while of being connected."""
    for wait in waits(lines):
        if wait.seconds > HEARING_SECONDS:
            heard = "until it heard" if wait.has_heard else "and never heard"
            text = f"{wait.listening.listener} was connected for {wait.seconds:.0f} s {heard} of {wait.change.uri}"
            yield Broken.of("changes are heard", text, [wait.listening, wait.change])


def waits(lines: Sequence[Line]) -> Iterator[Wait]:
    """Give what each listener waited for: a change of one of its topics that began after it listened."""
    heard = grouped(of_type(lines, Heard), lambda line: (line.listener, line.uri))
    times = {place: [line.at for line in found] for place, found in heard.items()}
    connections = _connections(lines)
    changes = [
        line
        for line in of_type(lines, Ended)
        if line.tool == "touch" and line.outcome == "answered" and line.key == line.op
    ]
    for listening in of_type(lines, Listening):
        for change in changes:
            if change.uri not in listening.uris or change.began < listening.at:
                continue
            known = times.get((listening.listener, change.uri), [])
            place = bisect_left(known, change.began)
            until = known[place] if place < len(known) else math.inf
            connected = connections.get(listening.listener, ())
            yield Wait(
                listening=listening,
                change=change,
                seconds=sum(max(0.0, min(end, until) - max(begin, change.at)) for begin, end in connected),
                has_heard=until < math.inf,
            )


def _connections(lines: Sequence[Line]) -> dict[str, list[tuple[float, float]]]:
    """Return from when to when each listener was connected."""
    found: dict[str, list[tuple[float, float]]] = {}
    began: dict[str, float] = {}
    for line in lines:
        match line:
            case Listening():
                began[line.listener] = line.at
            case Resumed() if line.op in found or line.op in began:
                began[line.op] = line.at
            case Broke() if line.op in began:
                found.setdefault(line.op, []).append((began.pop(line.op), line.at))
            case Deaf() if line.listener in began:
                found.setdefault(line.listener, []).append((began.pop(line.listener), line.at))
    return found
