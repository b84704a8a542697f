"""The figures of the small run by hand, and the table that they are shown in."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.chaos.figures import figures, quantile
from tests.chaos.good_run import good_lines, good_truth
from tests.chaos.history import Ended
from tests.chaos.judge import judge
from tests.chaos.table import shown, table
from tests.chaos.topology import Memory


def test_what_is_counted() -> None:
    found = figures(good_lines(), good_truth())
    assert found.faults == Counter({"kill": 1, "restart of Redis": 1})
    assert (found.client_cuts, found.server_cuts) == (0, 1)
    assert (found.requests, found.resumptions, found.takeovers, found.interrupted, found.probes) == (8, 1, 1, 0, 1)
    assert found.calls["handshake", "count"] == Counter(answered=1)
    assert found.calls["modern", "add"] == Counter(answered=1, unanswered=1)
    assert list(found.recoveries) == pytest.approx([0.5])
    assert (found.epochs, found.outage_answers, found.returns) == (1, 1, (0.2,))


def test_a_share_of_the_values_does_not_exceed_its_quantile() -> None:
    values = [float(number) for number in range(100)]
    assert [quantile(values, share) for share in (0, 0.5, 0.99, 1)] == [0, 50, 99, 99]
    assert quantile([], 0.5) is None


def test_the_table_says_what_broke_and_how_calls_ended() -> None:
    memory = Memory()
    for mib in (100.0, 150.0, 120.0):
        memory.note(mib)
    lines = table(figures(good_lines(), good_truth()), [], {"daphne:1": memory}, 61.4).splitlines()
    rows = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in lines if line}
    assert rows["faults: kill"] == "1"
    assert rows["memory of daphne:1, MiB"] == "100 at start, 150 at most, 120 at end"
    assert rows["from a cut to the next event, p50 and p99"] == "0.50 s, 0.50 s"
    assert rows["from Redis to service at a server, p50, p99, longest"] == "0.20 s, 0.20 s, 0.20 s"
    assert rows["rules broken"] == "0"
    assert [line.split() for line in lines if line.startswith("modern")] == [
        ["modern", "add", "1", "1", "0"],
        ["modern", "add_row", "1", "0", "0"],
    ]


def test_what_was_broken_is_shown_with_its_lines() -> None:
    lines = [replace(line, outcome="hung") if isinstance(line, Ended) else line for line in good_lines()]
    text = shown(judge(lines, good_truth()))
    assert "nobody hangs: 7" in text
    assert '"line": "ended", "at": 2, "op": "a"' in text
