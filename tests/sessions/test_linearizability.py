"""The search for an order finds those that there are, and none where there is none."""

import pytest

from tests.sessions.linearizability import Operation, linearize


def read(began: int, ended: int, **saw: int) -> Operation:
    return Operation(verb="read", began=began, ended=ended, saw=saw)


def assign(began: int, ended: int, saw: int | None, wrote: int | None, key: str = "a") -> Operation:
    return Operation(verb="assign", began=began, ended=ended, key=key, saw=saw, wrote=wrote)


def increment(began: int, ended: int, wrote: int) -> Operation:
    return Operation(verb="increment", began=began, ended=ended, key="a", wrote=wrote)


def conflict(began: int, ended: int, saw: int | None, wrote: int | None) -> Operation:
    return Operation(verb="conflict", began=began, ended=ended, key="a", saw=saw, wrote=wrote)


def test_an_order_need_not_be_that_of_the_beginnings() -> None:
    late, early, seen = assign(0, 9, 1, 2), assign(1, 2, None, 1), read(3, 4, a=1)
    assert linearize([late, early, seen]) == [early, seen, late]


def test_a_history_of_all_verbs_has_an_order() -> None:
    history = [
        assign(0, 10, None, 5),
        conflict(0, 12, None, 6),
        increment(3, 11, 6),
        read(4, 12, a=6, b=1),
        assign(1, 11, None, 1, key="b"),
        assign(13, 15, 6, None),
        conflict(13, 16, 6, None),
        read(17, 18, b=1),
    ]
    assert linearize(history) is not None


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([increment(0, 9, 1), increment(0, 9, 1)], id="an increment is lost"),
        pytest.param([assign(0, 9, None, 1), assign(0, 9, None, 2)], id="an assignment overwrites what nobody saw"),
        pytest.param([assign(0, 9, None, 1), assign(0, 9, None, 1)], id="two counted to one"),
        pytest.param([assign(0, 1, None, 1), read(2, 3)], id="a read is older than what had ended before"),
        pytest.param([assign(5, 6, None, 1), read(2, 3, a=1)], id="a read knows the future"),
        pytest.param([read(0, 9, a=1)], id="a read sees what nobody wrote"),
        pytest.param(
            [assign(0, 9, None, 1), assign(0, 9, None, 1, key="b"), read(0, 5, a=1), read(0, 5, b=1)],
            id="two readers disagree on what came first",
        ),
        pytest.param([conflict(0, 9, None, 2)], id="a conflict with nobody"),
        pytest.param([assign(0, 9, None, 1), conflict(0, 9, None, 2), read(10, 11, a=2)], id="a conflict had effects"),
        pytest.param([assign(0, 1, None, 1), assign(2, 3, 1, None), read(4, 5, a=1)], id="a deletion is lost"),
    ],
)
def test_what_nothing_explains_has_no_order(history: list[Operation]) -> None:
    assert linearize(history) is None
