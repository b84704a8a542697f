"""A response is strict JSON, whatever a handler returned."""

from __future__ import annotations

import json
from typing import Any

import pytest

from django_mcp.core import strict_json
from django_mcp.server.wire import encode_result


@pytest.mark.parametrize(
    "value",
    ["é\u2028🙂", "NaN", {"Infinity": [-0.0, 1e300, 10**30, None, True]}, "\ud800"],
    ids=["unicode", "a word that no number is", "numbers", "lone surrogate"],
)
def test_what_is_sent_reads_back_as_it_was(value: Any) -> None:
    sent = encode_result("7", {"value": value})

    assert json.loads(sent) == {"jsonrpc": "2.0", "id": "7", "result": {"value": value}}
    assert strict_json.decode(sent) == json.loads(sent)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_has_not_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_result(1, {"value": [number]})
