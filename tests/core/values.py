"""Values of every kept type for property tests, and equality that asks for the type as well."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

_EVERY_CHARACTER = st.characters(codec=None, exclude_categories=())

texts = st.text(_EVERY_CHARACTER, max_size=12) | st.sampled_from(
    [
        "",
        "$",
        "\0",
        "\ud800",
        "\udc00",
        "\ud83d\ude00",
        "a\ud800\udc00\ud800\udc00\udc00",
        "😀",
        "x" * 5_000,
        '"\\\n\t',
    ]
)

_offsets = st.timedeltas(min_value=timedelta(microseconds=1) - timedelta(days=1), max_value=timedelta(hours=23))
_fixed = st.builds(timezone, _offsets) | st.builds(timezone, _offsets, texts)
_zones = st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Asia/Kathmandu"]).map(ZoneInfo)
_timezones = st.none() | st.just(UTC) | _fixed | _zones
_folds = st.sampled_from([0, 1])

moments = st.builds(
    lambda value, zone, fold: value.replace(tzinfo=zone, fold=fold),
    st.datetimes() | st.sampled_from([datetime.min, datetime.max, datetime(2024, 10, 27, 2, 30)]),  # noqa: DTZ901, DTZ001
    _timezones,
    _folds,
)
times = st.builds(lambda value, zone, fold: value.replace(tzinfo=zone, fold=fold), st.times(), _timezones, _folds)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(1 << 5_000), max_value=1 << 5_000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | moments
    | st.dates()
    | times
    | st.timedeltas()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.uuids()
    | st.binary(max_size=40)
)

values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5), max_leaves=20
)


def same(left: Any, right: Any) -> bool:
    """Say whether two values are equal, and of one type, through and through."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, datetime | time):
        bare = left.replace(tzinfo=None) == right.replace(tzinfo=None)
        return bool(bare and left.fold == right.fold) and _same_zone(left.tzinfo, right.tzinfo)
    if isinstance(left, float):
        return bool(left.hex() == right.hex())
    return bool(left == right) and (isinstance(left, date | timedelta) or str(left) == str(right))


def _same_zone(left: tzinfo | None, right: tzinfo | None) -> bool:
    if isinstance(left, timezone):
        return (
            isinstance(right, timezone) and left.utcoffset(None) == right.utcoffset(None) and str(left) == str(right)
        )
    return left is right
