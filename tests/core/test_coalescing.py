"""How many messages of one kind a stream takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_mcp.core.coalescing import MOST_PER_SECOND, Allowance, per_second

SHARES = st.floats(min_value=0, max_value=1)


@pytest.mark.parametrize(
    ("used", "rate"),
    [(0, 100), (0.5, 100), (0.55, 10), (0.6, 10), (0.65, 1), (0.75, 0.1), (0.85, 0.01), (0.9, 0), (1, 0), (1.5, 0)],
)
def test_the_rate_falls_by_ten_with_each_tenth_behind_the_middle(used: float, rate: float) -> None:
    assert per_second(used) == pytest.approx(rate)


@given(SHARES, SHARES)
def test_a_fuller_stream_never_takes_more(one: float, other: float) -> None:
    assert per_second(max(one, other)) <= per_second(min(one, other))


def test_a_second_s_worth_goes_at_once_and_then_a_hundredth_of_a_second_apart() -> None:
    allowance = Allowance.fresh(0, now=10)
    for _ in range(int(MOST_PER_SECOND)):
        assert allowance.wait_seconds(0, now=10) == 0
        left = allowance.take(0, now=10)
        assert left is not None
        allowance = left
    assert allowance.take(0, now=10) is None
    assert allowance.wait_seconds(0, now=10) == pytest.approx(0.01)
    assert allowance.take(0, now=10.011) is not None


def test_what_was_saved_up_is_no_more_than_a_second_s_worth() -> None:
    later = Allowance.fresh(0, now=0).take(0, now=1_000)
    assert later == Allowance(left=MOST_PER_SECOND - 1, at=1_000)


def test_near_the_end_of_a_stream_nothing_goes_and_nothing_waits_for_it() -> None:
    allowance = Allowance.fresh(0, now=0)
    assert allowance.take(0.95, now=5) is None
    assert allowance.wait_seconds(0.95, now=5) is None
    assert Allowance.fresh(0.95, now=0).left == 0


@given(st.lists(st.floats(min_value=0, max_value=0.2), min_size=1, max_size=200))
def test_whatever_comes_when_the_rate_is_kept(gaps: list[float]) -> None:
    now, sent, allowance = 0.0, 0, Allowance.fresh(0.55, now=0)
    for gap in gaps:
        now += gap
        if (left := allowance.take(0.55, now)) is not None:
            allowance, sent = left, sent + 1
    assert sent <= per_second(0.55) * (1 + now) + 1e-6


def test_messages_that_come_for_days_never_fill_a_stream() -> None:
    used, now, sent = 0, 0.0, 0
    allowance = Allowance.fresh(0, now=0)
    while now < 7 * 86_400:
        wait = allowance.wait_seconds(used / 1_000, now)
        if wait is None:
            break
        now += wait + 1e-6
        left = allowance.take(used / 1_000, now)
        if left is not None:
            allowance, used, sent = left, used + 1, sent + 1
    assert 800 <= sent <= 900
