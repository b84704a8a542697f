"""Airports: searched, measured, exported."""

import csv
import io
from typing import Annotated

from pydantic import Field

from demo_project.desk.codes import Country, Iata, kept_code, no_airport
from demo_project.desk.geo import KM_PER_NAUTICAL_MILE
from demo_project.desk.models import Airport
from demo_project.desk.shapes import MOST_FOUND, AirportFound, Distance
from django_mcp import Context, ToolError, tool

EXPORT_BATCH = 500


@tool(read_only=True, open_world=False)
def search_airports(
    text: Annotated[str, Field(description="Words of the name, the city or the region, or a code")] = "",
    country: Annotated[str, Field(description="ISO 3166 code of a country, such as CH; all if empty")] = "",
    limit: Annotated[int, Field(ge=1, le=MOST_FOUND)] = 20,
) -> list[AirportFound]:
    """Find airports, the likeliest first."""
    found = Airport.objects.search(text)
    if country.strip():
        found = found.in_country(country)
    return [AirportFound.of(airport) for airport in found[:limit]]


@tool(read_only=True, open_world=False)
async def distance(origin: Iata, destination: Iata) -> Distance:
    """Measure the great circle between two airports."""
    ends: list[Airport] = []
    for code in (origin, destination):
        airport = await Airport.objects.filter(iata=kept_code(code)).afirst()
        if airport is None:
            raise ToolError(no_airport(code))
        ends.append(airport)
    km = ends[0].distance_km(ends[1])
    return Distance(
        origin=ends[0].code,
        destination=ends[1].code,
        km=round(km, 1),
        nautical_miles=round(km / KM_PER_NAUTICAL_MILE, 1),
    )


@tool(read_only=True, open_world=False, structured=False)
def export_airports(ctx: Context, country: Country) -> str:
    """Give all airports of a country as CSV; a large one arrives as a link to read."""
    airports = Airport.objects.in_country(country).order_by("icao")
    total = airports.count()
    if not total:
        raise ToolError(f"There are no airports in {country.strip().upper()}.")
    names = list(AirportFound.__dataclass_fields__)
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(names)
    for done, row in enumerate(airports.values_list(*names).iterator(chunk_size=EXPORT_BATCH), start=1):
        writer.writerow(row)
        if done % EXPORT_BATCH == 0 or done == total:
            ctx.progress(done, total, f"{done} of {total} airports")
    return written.getvalue()
