"""A state as a document: what is written is read with equal types, and nothing else is read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_mcp.core.document import FORMAT, Origin, UnreadableDocument, read, write
from django_mcp.core.value import StateValueError, from_bytes, to_bytes
from tests.core.manifests import keys
from tests.core.values import values

ORIGIN = Origin(conversation="a" * 32, kind="conversation", server="s", tenant="", principal="user:1", generation=3)
EMPTY = "".join(write(ORIGIN, []))


@given(st.dictionaries(keys, values, max_size=5))
def test_what_is_written_is_read_byte_for_byte(state: dict[str, Any]) -> None:
    written = {key: to_bytes(value) for key, value in state.items()}
    text = "".join(write(ORIGIN, written.items()))
    assert text.isascii()
    found = read(text.encode())
    assert found.origin == ORIGIN
    assert found.values == written
    assert {key: from_bytes(data) for key, data in found.values.items()} == {
        key: from_bytes(data) for key, data in written.items()
    }


def test_a_document_is_one_line_per_key_that_people_and_tools_can_compare() -> None:
    text = "".join(write(ORIGIN, [("a", b"1"), ("b", b'{"$":"decimal","v":"1.50"}')]))
    head, *lines = text.splitlines()
    assert json.loads(f"{head}}}}}") == {
        "format": FORMAT,
        "version": 1,
        "conversation": "a" * 32,
        "kind": "conversation",
        "server": "s",
        "tenant": "",
        "principal": "user:1",
        "generation": 3,
        "state": {},
    }
    assert lines == ['"a":1,', '"b":{"$":"decimal","v":"1.50"}', "}}"]


def changed(**terms: Any) -> str:
    return json.dumps({**json.loads(EMPTY), **terms})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is not JSON (Expecting value: line 1 column 1 (char 0))"),
        (EMPTY[:-3], "it is not JSON ("),
        ('{"format": 1, "format": 2}', "it is not JSON (an object repeats a key)"),
        ("[1]", "it is not an exported conversation"),
        ('{"state": {}}', "it is not an exported conversation"),
        (changed(version=2), "its version is 2, and only 1 can be read"),
        (changed(version=None), "its version is None, and only 1 can be read"),
        (changed(server=5), "its 'server' is missing or not of its kind"),
        (changed(generation=True), "its 'generation' is missing or not of its kind"),
        (changed(state=[1]), "its 'state' is missing or not of its kind"),
        (changed(state={"a": {"$": "nothing"}}), "state['a']: not a value that this version writes: {'$': 'nothing'}"),
        (changed(state={"a": [{"$": "date", "v": "2026-02-30"}]}), "state['a']: not a value that this version writes"),
        (changed(state={"a": {"$": "dict", "v": [[1, 2]]}}), "state['a']: the key 1 is an int; use a str"),
        (changed(state={"a": {"$": "timedelta", "v": "x"}}), "state['a']: not a value that this version writes"),
        (changed(state={"k" * 256: 1}), "is longer than 255 characters"),
        (changed(state={"\ud800": 1}), "holds a surrogate code point"),
        (EMPTY.replace("\n}}", '"a":NaN}}'), "it is not JSON (NaN is not JSON)"),
        (EMPTY.replace("\n}}", f'"a":{"[" * 33}{"]" * 33}}}}}'), "state['a']: nested deeper than 32 levels"),
        (EMPTY.replace("\n}}", f'"a":{"[" * 9999}{"]" * 9999}}}}}'), "it is not JSON (nested deeper than 256 levels)"),
    ],
)
def test_what_is_damaged_or_foreign_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(UnreadableDocument) as caught:
        read(text.encode("utf-8", "surrogatepass"))
    assert message in str(caught.value)


def test_a_value_as_deep_as_a_state_allows_is_read() -> None:
    deep: Any = "x"
    for _ in range(32):
        deep = {"$": deep}
    text = "".join(write(ORIGIN, [("a", to_bytes(deep))]))
    assert from_bytes(read(text.encode()).values["a"]) == deep
    with pytest.raises(StateValueError):
        to_bytes({"$": deep})


def test_what_is_not_utf_8_is_refused() -> None:
    with pytest.raises(UnreadableDocument, match=r"^it is not JSON \(the body is not UTF-8\)$"):
        read(b"\xff")
