"""What a journey is made of, and what makes sense as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from demo_project.desk.codes import Iata, kept_code, no_airport
from demo_project.desk.models import Airport
from django_mcp import ToolError

MOST_LEGS = 20

Title = Annotated[str, Field(min_length=1, max_length=120)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One flight to plan."""

    origin: Iata
    destination: Iata
    departs_on: date


def find_stops(legs: Sequence[Stop]) -> list[tuple[Airport, Airport, date]]:
    """Return the legs with their airports.

    Raises:
        ToolError: an airport is not there, a leg leads nowhere, or one departs before the leg that it follows.
    """
    codes = {kept_code(code) for leg in legs for code in (leg.origin, leg.destination)}
    airports = {airport.iata: airport for airport in Airport.objects.filter(iata__in=codes)}
    for code in sorted(codes):
        if code not in airports:
            raise ToolError(no_airport(code))
    for leg, following in pairwise(legs):
        if following.departs_on < leg.departs_on:
            raise ToolError(f"The leg of {following.departs_on} comes after the one of {leg.departs_on}.")
    for leg in legs:
        if kept_code(leg.origin) == kept_code(leg.destination):
            raise ToolError(f"A leg goes from {kept_code(leg.origin)} to itself.")
    return [(airports[kept_code(leg.origin)], airports[kept_code(leg.destination)], leg.departs_on) for leg in legs]
