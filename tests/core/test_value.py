"""What a state keeps comes back equal in value and type; everything else is refused where it stands."""

from __future__ import annotations

import json
import math
import sys
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings

from django_mcp.core import value
from django_mcp.core.canonical import canonical
from tests.core.values import same, scalars, texts, values


class Text(str):
    __slots__ = ()


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


@dataclass
class Point:
    x: int


class Odd(tzinfo):
    def utcoffset(self, moment: datetime | None, /) -> timedelta:
        return timedelta(hours=1)

    dst = utcoffset

    def tzname(self, moment: datetime | None, /) -> str:
        return "odd"

    def __repr__(self) -> str:
        return "Odd()"


@settings(deadline=None, max_examples=300)
@given(values)
def test_every_kept_value_comes_back_equal_in_value_and_type(kept: Any) -> None:
    data = value.to_bytes(kept)
    assert data.isascii()
    assert same(value.from_bytes(data), kept)
    assert same(value.normalise(kept), kept)


@settings(deadline=None, max_examples=600)
@given(scalars)
@example(Decimal("-0"))
@example(Decimal("0E+7"))
@example(Decimal("1.500"))
@example(-0.0)
@example(5e-324)
@example("\0")
@example("\ud800\udc00")
@example(timedelta(microseconds=-1))
@example(timedelta.max)
@example(datetime(2024, 10, 27, 2, 30, 0, 1, tzinfo=ZoneInfo("Europe/Berlin"), fold=1))
@example(datetime(2024, 1, 1, tzinfo=timezone(timedelta(0), "Zulu")))
@example(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=23, microseconds=1))))
@example(datetime(2024, 1, 1, tzinfo=timezone(timedelta(microseconds=-1))))
@example(time(1, 2, 3, 4, tzinfo=timezone(timedelta(seconds=-1)), fold=1))
@example(UUID(int=0))
def test_every_scalar_comes_back_equal_in_value_and_type(kept: Any) -> None:
    assert same(value.from_bytes(value.to_bytes(kept)), kept)


@settings(deadline=None)
@given(values, values)
def test_bytes_are_equal_exactly_when_value_and_type_are(left: Any, right: Any) -> None:
    assert (value.to_bytes(left) == value.to_bytes(right)) == same(left, right)


def test_numbers_that_python_takes_for_equal_have_different_bytes() -> None:
    equal = [1, 1.0, True, Decimal(1), Decimal("1.0")]
    assert len({value.to_bytes(one) for one in equal}) == len(equal)
    assert value.to_bytes(0.0) != value.to_bytes(-0.0)


@settings(deadline=None)
@given(texts, values)
def test_a_users_mapping_is_never_taken_for_a_tag(key: str, inner: Any) -> None:
    for kept in ({"$": key}, {"$": "decimal", "v": "1"}, {"$": inner, key: 1}, {key: {"$": "dict", "v": inner}}):
        assert same(value.from_bytes(value.to_bytes(kept)), kept)


def test_the_stored_form_is_plain_json() -> None:
    kept = {"at": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "price": Decimal("1.50"), "n": [1, None, "ü"]}
    assert json.loads(value.to_bytes(kept)) == {
        "at": {"$": "datetime", "v": "2026-01-02T03:04:05.000006+00:00"},
        "n": [1, None, "ü"],
        "price": {"$": "decimal", "v": "1.50"},
    }
    berlin = datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    assert value.encode(berlin) == {"$": "datetime", "fold": 1, "v": "2024-10-27T02:30:00", "zone": "Europe/Berlin"}


def test_very_long_texts_bytes_and_numbers_come_back() -> None:
    for kept in ("x" * 5_000_000, "ü\0" * 500_000, b"\xff" * 3_000_000, 10**20_000, -(1 << 2_048), (1 << 2_048) - 1):
        assert value.from_bytes(value.to_bytes(kept)) == kept


def test_a_long_number_comes_back_where_the_interpreter_converts_few_digits() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        for kept in (1 << 2_047, 1 << 2_048, 1 << 9_000):
            assert value.from_bytes(value.to_bytes(kept)) == kept
    finally:
        sys.set_int_max_str_digits(before)


def test_normalising_gives_a_copy_that_shares_nothing_and_has_the_order_of_a_later_reader() -> None:
    inner = {"b": [1], "a": {}}
    kept = {"z": inner, "y": inner}
    normal = value.normalise(kept)
    assert normal == kept
    assert list(normal) == ["y", "z"]
    assert list(normal["z"]) == list(value.from_bytes(value.to_bytes(kept))["z"]) == ["a", "b"]
    assert normal["z"] is not inner
    assert normal["z"] is not normal["y"]
    normal["z"]["b"].append(2)
    assert inner == {"b": [1], "a": {}}


REFUSED = [
    ((1, 2), "a tuple cannot be kept; use a list"),
    ({1}, "a set cannot be kept; use a list"),
    (frozenset(), "a frozenset cannot be kept; use a list"),
    ((item for item in [1]), "a generator cannot be kept; use a list"),
    (bytearray(b"x"), "a bytearray cannot be kept; use bytes"),
    (memoryview(b"x"), "a memoryview cannot be kept; use bytes"),
    (1j, "a complex cannot be kept; use the plain data that it is made of"),
    (object(), "an object cannot be kept; use the plain data that it is made of"),
    (SimpleNamespace(pk=1), "a SimpleNamespace cannot be kept; use its primary key"),
    (Point(1), "a Point cannot be kept; use dataclasses.asdict"),
    (Point, "a type cannot be kept; use its name"),
    (Colour.RED, "a Colour cannot be kept; use its value"),
    (Level.LOW, "a Level cannot be kept; use its value"),
    (Text("x"), "a Text cannot be kept; use a plain str"),
    (OrderedDict(), "an OrderedDict cannot be kept; use a plain dict"),
    (defaultdict(list), "a defaultdict cannot be kept; use a plain dict"),
    (Path("x"), "a PosixPath cannot be kept; use its text"),
    (math.nan, "nan is not a finite number; use None"),
    (-math.inf, "-inf is not a finite number; use None"),
    (Decimal("NaN"), "Decimal NaN is not a finite number; use None"),
    (Decimal("-Infinity"), "Decimal -Infinity is not a finite number; use None"),
    ({1: 2}, "the key 1 is an int; use a str"),
    ({None: 2}, "the key None is a NoneType; use a str"),
    ({Text("x"): 2}, "the key 'x' is a Text; use a str"),
    (
        datetime(2024, 1, 1, tzinfo=Odd()),
        "the time zone Odd() cannot be kept; use zoneinfo.ZoneInfo or datetime.timezone",
    ),
    (time(1, tzinfo=Odd()), "the time zone Odd() cannot be kept; use zoneinfo.ZoneInfo or datetime.timezone"),
]


@pytest.mark.parametrize(("wrong", "problem"), REFUSED, ids=[problem for _, problem in REFUSED])
def test_everything_else_is_refused_with_its_place_and_a_remedy(wrong: Any, problem: str) -> None:
    with pytest.raises(value.StateValueError) as raised:
        value.encode({"b": 1, "a": [0, {"x y": wrong}]}, path="state['draft']")
    assert str(raised.value) == f"state['draft']['a'][1]['x y']: {problem}"
    assert raised.value.path == "state['draft']['a'][1]['x y']"
    assert isinstance(raised.value, TypeError)
    assert isinstance(raised.value, ValueError)
    with pytest.raises(value.StateValueError, match=r"^value: "):
        value.normalise(wrong)


def test_a_zone_without_a_name_is_refused() -> None:
    with Path(next(path for path in _zone_files() if path.exists())).open("rb") as file:
        nameless = ZoneInfo.from_file(file)
    with pytest.raises(value.StateValueError, match="has no name that can be looked up"):
        value.encode(datetime(2024, 1, 1, tzinfo=nameless))


def _zone_files() -> list[Path]:
    return [Path(folder) / "Europe/Berlin" for folder in ("/usr/share/zoneinfo", "/usr/lib/zoneinfo")]


def test_a_message_is_printable_and_short() -> None:
    with pytest.raises(value.StateValueError) as raised:
        value.encode({"\ud800" + "k" * 500: {1}})
    assert len(str(raised.value).encode("utf-8")) < 120


def test_a_value_that_contains_itself_is_refused_as_such() -> None:
    loop: dict[str, Any] = {"name": "a"}
    loop["children"] = [{"parent": loop}]
    with pytest.raises(value.StateValueError, match=r"^state\['x'\]: it contains itself; use a value without cycles$"):
        value.encode(loop, path="state['x']")


def test_depth_is_bounded_exactly() -> None:
    def nested(levels: int) -> Any:
        return [] if levels == 1 else [nested(levels - 1)]

    assert value.encode(nested(32)) == nested(32)
    with pytest.raises(value.StateBoundExceeded, match=r"^v: nested deeper than 32 levels$") as raised:
        value.encode(nested(33), path="v")
    assert (raised.value.bound, raised.value.limit) == ("depth", 32)
    assert value.encode(1, max_depth=0) == 1
    with pytest.raises(value.StateBoundExceeded, match="nested deeper than 0 levels"):
        value.encode({}, max_depth=0)


def test_bytes_are_bounded_exactly() -> None:
    kept = {"a": ["ü", 1.5, Decimal(1)]}
    size = len(value.to_bytes(kept))
    assert value.to_bytes(kept, max_bytes=size) == value.to_bytes(kept)
    with pytest.raises(value.StateBoundExceeded, match=rf"^value: larger than {size - 1} bytes$") as raised:
        value.to_bytes(kept, max_bytes=size - 1)
    assert (raised.value.bound, raised.value.limit) == ("bytes", size - 1)


@settings(deadline=None)
@given(values)
def test_the_early_bound_never_refuses_what_fits(kept: Any) -> None:
    value.encode(kept, max_bytes=len(value.to_bytes(kept)))


def test_parts_that_are_shared_cannot_explode() -> None:
    tree: list[Any] = []
    for _ in range(31):
        tree = [tree, tree]
    with pytest.raises(value.StateBoundExceeded, match="larger than 100000 bytes"):
        value.encode(tree, max_bytes=100_000)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"{",
        b"\xff",
        b'{"$":"later","v":1}',
        b'{"$":"decimal"}',
        b'{"$":"decimal","v":"x"}',
        b'{"$":["list"],"v":1}',
        b'{"$":"datetime","v":5}',
        b'{"$":"datetime","v":"2024-01-01T00:00:00","zone":"Nowhere/Atall"}',
        b'{"$":"datetime","v":"2024-01-01T00:00:00","name":"x"}',
        b'{"$":"bytes","v":"?"}',
        b'{"$":"dict","v":[1]}',
        b'{"$":"timedelta","v":[1e12]}',
    ],
)
def test_what_nobody_wrote_is_not_read(stored: bytes) -> None:
    with pytest.raises(value.UnreadableValue, match=r"^not "):
        value.from_bytes(stored)


def test_keys_of_a_state_are_short_texts() -> None:
    for key in ("", "a", "ü😀\0", "$", "x" * 255):
        assert value.check_key(key) == key
    wrong: list[tuple[Any, str]] = [
        (1, "state: the key 1 is an int; use a str"),
        ("x" * 256, "is longer than 255 characters"),
        ("\ud800", r"state: the key '\\ud800' holds a surrogate code point"),
    ]
    for key, message in wrong:
        with pytest.raises(value.StateValueError, match=message):
            value.check_key(key)


@settings(deadline=None)
@given(values)
def test_the_stored_form_is_canonical_when_it_is_read_and_written_again(kept: Any) -> None:
    data = value.to_bytes(kept)
    assert canonical(json.loads(data)) == data
