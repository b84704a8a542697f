"""Results are what the SDK makes of the same values."""

import dataclasses
import typing
from datetime import date
from typing import Any

import pytest
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata, func_metadata
from mcp_types import CallToolResult, InputRequiredResult, TextContent
from pydantic import BaseModel, Field, ValidationError

from django_mcp.server.conversion import Conversion


class Airport(BaseModel):
    code: str = Field(alias="iataCode")
    opened: date | None = None


class Hub(Airport):
    airline: str


class Place(typing.TypedDict):
    name: str


@dataclasses.dataclass
class Distance:
    km: float


def returning(annotation: Any) -> FuncMetadata:
    def handler() -> Any: ...

    handler.__annotations__["return"] = annotation
    return func_metadata(handler)


GIVEN = CallToolResult(content=[TextContent(type="text", text="as it is")], structured_content={"result": 7})
FAILED = CallToolResult(content=[TextContent(type="text", text="no")], is_error=True)
QUESTION = InputRequiredResult(input_requests={}, request_state="later")


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (Airport, Airport(iataCode="ZRH", opened=date(1948, 6, 14))),
        (Airport, Hub(iataCode="ZRH", airline="LX")),
        (Airport, {"iataCode": "ZRH"}),
        (Airport, {"code": "ZRH"}),
        (int, 42),
        (int, "42"),
        (int, GIVEN),
        (int, FAILED),
        (int, QUESTION),
        (list[int], [1, 2, 3]),
        (dict[str, int], {"ZRH": 1}),
        (Place, {"name": "Kloten"}),
        (Distance, Distance(km=1.5)),
        (int | None, None),
        (Any, {"any": ["thing"]}),
        (Any, GIVEN),
    ],
)
def test_a_value_becomes_the_result_that_the_sdk_makes_of_it(declared: Any, value: Any) -> None:
    metadata = returning(declared)
    expected, found = metadata.convert_result(value), Conversion(metadata).convert(value)
    assert found.model_dump(mode="json") == expected.model_dump(mode="json")
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (Airport, {"code": 5}),
        (Airport, 5),
        (int, "many"),
        (int, CallToolResult(content=[], structured_content={"result": "many"})),
    ],
)
def test_a_value_that_was_not_declared_is_refused_as_by_the_sdk(declared: Any, value: Any) -> None:
    metadata = returning(declared)
    with pytest.raises(ValidationError) as expected:
        metadata.convert_result(value)
    with pytest.raises(ValidationError) as found:
        Conversion(metadata).convert(value)
    assert found.value.errors(include_url=False) == expected.value.errors(include_url=False)
