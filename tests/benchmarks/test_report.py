"""What is made of a measurement, and when one counts for nothing."""

import pytest

from benchmarks.load import WrongAnswers, rate_of
from benchmarks.report import Comparison, table


def compared(ours: list[float], theirs: list[float], goal: float = 1.5) -> Comparison:
    return Comparison(title="async tool", goal=goal, ours=ours, theirs=theirs)


def test_the_ratio_is_the_median_of_the_pairs() -> None:
    # The machine was slow during the second pair; the medians of the columns would be compared across pairs.
    assert compared([400, 90, 200], [200, 60, 190]).ratio == pytest.approx(1.5)


def test_a_goal_is_reached_at_its_value() -> None:
    assert compared([150], [100]).is_reached
    assert not compared([149], [100]).is_reached


def test_the_table_has_every_run_the_medians_and_the_verdict() -> None:
    text = table([compared([3_000, 1_000, 2_000], [1_000, 1_000, 1_000])], "ours", "theirs")
    assert [line.split() for line in text.splitlines()] == [
        ["async", "tool,", "requests/s", "run", "1", "run", "2", "run", "3", "median"],
        ["ours", "3,000", "1,000", "2,000", "2,000"],
        ["theirs", "1,000", "1,000", "1,000", "1,000"],
        ["ratio", "3.00", "1.00", "2.00", "2.00", "goal", "1.5:", "reached"],
    ]
    assert "MISSED" in table([compared([1], [1])], "ours", "theirs")


def test_a_run_is_requests_by_time() -> None:
    assert rate_of("Running 2s test\nmeasured 5000 2000000 0\n") == 2_500


@pytest.mark.parametrize("output", ["measured 5000 2000000 1\n", "measured 0 2000000 0\n", "nothing at all\n"])
def test_a_run_with_a_wrong_answer_counts_for_nothing(output: str) -> None:
    with pytest.raises(WrongAnswers, match="answers were wrong or missing"):
        rate_of(output)
