"""A run as a table for people."""

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.chaos.figures import Figures, quantile
from tests.chaos.history import as_json
from tests.chaos.rules.broken import Broken
from tests.chaos.topology import Memory

OUTCOMES = ("answered", "failed", "worker_lost", "unavailable", "unanswered", "cancelled", "refused", "hung")
MOST_BROKEN = 25


def table(found: Figures, broken: Sequence[Broken], memory: dict[str, Memory], seconds: float) -> str:
    """Return the table of a run."""
    rows = [("seconds", f"{seconds:.0f}")]
    rows += [(f"faults: {kind}", str(count)) for kind, count in sorted(found.faults.items())]
    rows += [
        ("connections cut by clients", str(found.client_cuts)),
        ("connections cut by faults", str(found.server_cuts)),
        ("requests for calls", str(found.requests)),
        ("messages received", str(found.events)),
        ("resumptions", str(found.resumptions)),
        ("calls taken over and ended", str(found.takeovers)),
        ("calls ended as interrupted", str(found.interrupted)),
        ("probes by strangers", str(found.probes)),
        ("from a cut to the next event, p50 and p99", _seconds(found.recoveries, 0.5, 0.99)),
        ("from a call to its end, p50, p99 and longest", _seconds(found.durations, 0.5, 0.99, 1)),
        ("from a change to hearing of it, p50 and p99", _seconds(found.hearings, 0.5, 0.99)),
    ]
    if found.epochs:
        rows += [
            ("epochs of Redis", str(found.epochs)),
            ("requests while Redis was down", str(found.outage_answers)),
            ("from Redis to service at a server, p50, p99, longest", _seconds(found.returns, 0.5, 0.99, 1)),
        ]
    rows += [
        (f"memory of {name}, MiB", f"{one.first:.0f} at start, {one.highest:.0f} at most, {one.last:.0f} at end")
        for name, one in memory.items()
    ]
    rows.append(("rules broken", str(len(broken))))
    return "\n".join(["", *_aligned(rows), "", *_calls(found.calls), ""])


def shown(broken: Sequence[Broken]) -> str:
    """Return what was broken, each with the lines that show it."""
    parts = [f"{rule}: {count}" for rule, count in sorted(Counter(one.rule for one in broken).items())]
    for one in broken[:MOST_BROKEN]:
        parts += ["", f"{one.rule}: {one.what}", *(f"    {as_json(line)[:600]}" for line in one.lines)]
    if len(broken) > MOST_BROKEN:
        parts += ["", f"… and {len(broken) - MOST_BROKEN} more"]
    return "\n".join(parts)


def _calls(calls: dict[tuple[str, str], Counter[str]]) -> Iterable[str]:
    used = [outcome for outcome in OUTCOMES if any(counts[outcome] for counts in calls.values())]
    total: Counter[str] = sum(calls.values(), Counter())
    rows = [("era", "tool", *used)]
    rows += [(era, tool, *(str(counts[one]) for one in used)) for (era, tool), counts in sorted(calls.items())]
    rows.append(("", "all", *(str(total[one]) for one in used)))
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _seconds(values: Sequence[float], *shares: float) -> str:
    found = (quantile(values, share) for share in shares)
    return ", ".join("-" if value is None else f"{value:.2f} s" for value in found)
