"""Rates as they are written, and their windows."""

import pytest

from django_mcp.core.rate import Rate


@pytest.mark.parametrize(
    ("text", "count", "seconds"),
    [
        ("1/s", 1, 1),
        ("20/second", 20, 1),
        ("10/minute", 10, 60),
        ("10/min", 10, 60),
        (" 3 / h ", 3, 3_600),
        ("1000/day", 1_000, 86_400),
    ],
)
def test_a_rate_is_a_number_and_a_period(text: str, count: int, seconds: int) -> None:
    assert Rate.parse(text) == Rate(count=count, seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "10", "/minute", "0/minute", "-1/s", "1.5/s", "10/month", "10/mm", "10/M", 10, None]
)
def test_anything_else_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="a rate like '10/minute'"):
        Rate.parse(text)


def test_a_window_ends_where_the_next_begins() -> None:
    rate = Rate.parse("5/minute")
    assert rate.window(59.999) == 0
    assert rate.window(60.0) == 1
    assert [rate.left(now) for now in (0.0, 0.5, 59.0, 59.999, 60.0)] == [60, 60, 1, 1, 60]
