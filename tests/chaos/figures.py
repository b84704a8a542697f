"""The figures of a run, out of its history and of what the database holds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.history import (
    Asked,
    Broke,
    Ended,
    Epoch,
    Got,
    Line,
    Probed,
    Resumed,
    Returned,
    Sent,
    Struck,
    grouped,
    of_type,
)
from tests.chaos.rules.listeners import waits
from tests.chaos.truth import Truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Counts of one run, and sorted seconds: from cuts to next events, of calls, until changes are heard of."""

    faults: Counter[str]
    client_cuts: int
    server_cuts: int
    calls: dict[tuple[str, str], Counter[str]]
    """By era and tool, how many ended how."""
    requests: int
    resumptions: int
    takeovers: int
    interrupted: int
    probes: int
    events: int
    recoveries: tuple[float, ...]
    durations: tuple[float, ...]
    hearings: tuple[float, ...]
    outage_answers: int
    """What was asked while Redis was down."""
    returns: tuple[float, ...]
    """From Redis being back to the first call at each server, in seconds."""
    epochs: int


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the value that this share of the values, given in order of size, does not exceed; None of none."""
    return values[min(int(share * len(values)), len(values) - 1)] if values else None


def figures(lines: Sequence[Line], truth: Truth) -> Figures:
    """Count."""
    eras = {line.op: line.era for line in of_type(lines, Sent)}
    calls: dict[tuple[str, str], Counter[str]] = {}
    for ended in of_type(lines, Ended):
        calls.setdefault((eras.get(ended.op, ""), ended.tool), Counter())[ended.outcome] += 1
    broke = of_type(lines, Broke)
    return Figures(
        faults=Counter(line.kind for line in of_type(lines, Struck)),
        client_cuts=sum(line.by == "client" for line in broke),
        server_cuts=sum(line.by == "server" for line in broke),
        calls=calls,
        requests=len(of_type(lines, Sent)),
        resumptions=len(of_type(lines, Resumed)),
        takeovers=sum(call.fence > 1 and call.state != "interrupted" for call in truth.calls),
        interrupted=sum(call.state == "interrupted" for call in truth.calls),
        probes=len(of_type(lines, Probed)),
        events=len(of_type(lines, Got)),
        recoveries=_recoveries(lines),
        durations=tuple(sorted(line.at - line.began for line in of_type(lines, Ended))),
        hearings=tuple(sorted(wait.seconds for wait in waits(lines) if wait.has_heard)),
        outage_answers=len(of_type(lines, Asked)),
        returns=tuple(sorted(line.seconds for line in of_type(lines, Returned))),
        epochs=len(of_type(lines, Epoch)),
    )


def _recoveries(lines: Sequence[Line]) -> tuple[float, ...]:
    """Return the seconds from each cut of a call's stream to the next event for the same call."""
    found = []
    calls = {line.op for line in of_type(lines, Sent)}
    mine = [line for line in lines if isinstance(line, Broke | Got) and line.op in calls]
    for events in grouped(mine, lambda line: line.op).values():
        cut_at: float | None = None
        for line in events:
            if isinstance(line, Got):
                if cut_at is not None:
                    found.append(line.at - cut_at)
                cut_at = None
            elif cut_at is None:
                cut_at = line.at
    return tuple(sorted(found))
