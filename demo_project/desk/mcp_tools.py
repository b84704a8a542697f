"""What the desk offers to MCP clients: tools, resources, a prompt, completions."""

import csv
import io
import json
from dataclasses import asdict, dataclass
from datetime import date
from itertools import pairwise
from typing import Annotated

from django.conf import settings
from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.db.models import Count
from pydantic import BaseModel, Field

from demo_project.desk.geo import KM_PER_NAUTICAL_MILE
from demo_project.desk.models import Airport, Booking, Itinerary, Leg
from demo_project.desk.query import QueryRefused
from demo_project.desk.query_run import run_query
from demo_project.desk.shapes import AirportFound, BookingMade, Distance, ItineraryPlanned, QueryAnswer
from django_mcp import Context, Elicit, NotFound, Resolve, ToolError, completion, prompt, resource, tool
from django_mcp.conf import mcp_settings

MOST_FOUND = 100
MOST_LEGS = 20
MOST_COMPLETIONS = 100
EXPORT_BATCH = 500

Iata = Annotated[str, Field(description="IATA code of an airport, such as ZRH", pattern=r"^\s*[A-Za-z0-9]{3}\s*$")]
Country = Annotated[str, Field(description="ISO 3166 code of a country, such as CH", pattern=r"^\s*[A-Za-z]{2}\s*$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One flight to plan."""

    origin: Iata
    destination: Iata
    departs_on: date


class Confirmation(BaseModel):
    """What the user is asked before a booking."""

    confirm: bool = Field(description="Yes, book it")


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
        airport = await Airport.objects.filter(iata=_code(code)).afirst()
        if airport is None:
            raise ToolError(_no_airport(code))
        ends.append(airport)
    km = ends[0].distance_km(ends[1])
    return Distance(
        origin=ends[0].code,
        destination=ends[1].code,
        km=round(km, 1),
        nautical_miles=round(km / KM_PER_NAUTICAL_MILE, 1),
    )


@tool(permission="desk.add_itinerary", destructive=False, open_world=False)
def plan_itinerary(
    ctx: Context,
    title: Annotated[str, Field(min_length=1, max_length=120)],
    legs: Annotated[list[Stop], Field(min_length=1, max_length=MOST_LEGS)],
) -> ItineraryPlanned:
    """Keep an itinerary for the signed-in user, its legs in the order of travel."""
    codes = {_code(code) for leg in legs for code in (leg.origin, leg.destination)}
    airports = {airport.iata: airport for airport in Airport.objects.filter(iata__in=codes)}
    for code in sorted(codes):
        if code not in airports:
            raise ToolError(_no_airport(code))
    for leg, following in pairwise(legs):
        if following.departs_on < leg.departs_on:
            raise ToolError(f"The leg of {following.departs_on} comes after the one of {leg.departs_on}.")
    for leg in legs:
        if _code(leg.origin) == _code(leg.destination):
            raise ToolError(f"A leg goes from {_code(leg.origin)} to itself.")
    itinerary = Itinerary.objects.plan(
        owner_id=ctx.user.pk,
        title=title,
        stops=[(airports[_code(leg.origin)], airports[_code(leg.destination)], leg.departs_on) for leg in legs],
    )
    return ItineraryPlanned.of(itinerary)


@tool(read_only=True, open_world=False)
def my_itineraries(ctx: Context) -> list[ItineraryPlanned]:
    """List the itineraries of the signed-in user, the newest first."""
    return [ItineraryPlanned.of(itinerary) for itinerary in Itinerary.objects.owned_by(ctx.user)[:MOST_FOUND]]


@tool(read_only=True, open_world=False, fields=("reference", "traveller", "created_at"))
def my_bookings(ctx: Context) -> list[Booking]:
    """List the bookings of the signed-in user, the newest first."""
    return list(Booking.objects.filter(owner_id=ctx.user.pk)[:MOST_FOUND])


def ask_to_book(ctx: Context, itinerary_id: int, traveller: str) -> Elicit[Confirmation]:
    """Ask the user about the very booking that would be made."""
    itinerary = _itinerary_to_book(ctx, itinerary_id)
    return Elicit(f"Book “{itinerary.title}” ({itinerary.route()}) for {traveller}?", Confirmation)


@tool(permission="desk.add_booking", destructive=False, idempotent=False, open_world=False)
def book(
    ctx: Context,
    itinerary_id: int,
    traveller: Annotated[str, Field(min_length=1, max_length=120)],
    answer: Annotated[Confirmation, Resolve(ask_to_book)],
) -> BookingMade:
    """Book an itinerary for a traveller, once the user has confirmed it."""
    itinerary = _itinerary_to_book(ctx, itinerary_id)
    if not answer.confirm:
        raise ToolError("The user did not confirm; nothing was booked.")
    booking = Booking.objects.create(
        itinerary=itinerary,
        owner_id=itinerary.owner_id,
        traveller=traveller,
        confirmed_by_id=ctx.user.pk,
    )
    return BookingMade.of(booking)


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


@tool(read_only=True, open_world=False, permission="desk.view_airport")
def database_query(ctx: Context, sql: Annotated[str, Field(description="One SELECT")]) -> QueryAnswer:
    """Run one SELECT on the desk's tables.

    Tables: desk_airport (id, iata, icao, name, city, subdivision, country, elevation_ft, latitude, longitude,
    timezone) and, for users who may see them, desk_itinerary (id, owner_id, title, created_at), desk_leg (id,
    itinerary_id, position, origin_id, destination_id, departs_on) and desk_booking (id, itinerary_id, owner_id,
    traveller, reference, confirmed_by_id, created_at). Aggregates, joins, WITH, windows and the usual functions for
    text, numbers and dates are there.
    """
    try:
        found = run_query(
            sql,
            using=settings.DESK_QUERY_DATABASE,
            tables=_tables_for(ctx.user),
            max_rows=mcp_settings.MAX_ROWS,
            seconds=settings.DESK_QUERY_SECONDS,
        )
    except QueryRefused as reason:
        raise ToolError(str(reason)) from reason
    note = f"Cut at {len(found.rows)} rows; there are more." if found.cut else ""
    return QueryAnswer(columns=found.columns, rows=found.rows, note=note)


@resource("airport://{iata}", title="An airport", mime_type="application/json")
def airport_by_code(iata: str) -> str:
    """Give an airport by its IATA code."""
    airport = Airport.objects.filter(iata=_code(iata)).first()
    if airport is None:
        raise NotFound(_no_airport(iata))
    return json.dumps(asdict(AirportFound.of(airport)))


@resource("desk://countries", title="Countries", mime_type="application/json")
def countries() -> str:
    """Give the countries, by ISO 3166 code, with how many airports each has."""
    counted = Airport.objects.order_by("country").values_list("country").annotate(airports=Count("pk"))
    return json.dumps(dict(counted))


@resource("desk://countries/{country}", title="Airports of a country", mime_type="application/json")
def airports_of_country(country: str) -> str:
    """Give the IATA codes and names of a country's airports."""
    found = Airport.objects.in_country(country).filter(iata__isnull=False).order_by("iata")
    codes = dict(found.values_list("iata", "name"))
    if not codes:
        raise NotFound(f"There are no airports in {country!r}.")
    return json.dumps(codes)


@prompt(title="Brief a traveller")
def trip_brief(origin: str, destination: str) -> str:
    """Ask for a page about a flight between two airports, given by IATA code."""
    ends: list[Airport] = []
    for code in (origin, destination):
        airport = Airport.objects.filter(iata=_code(code)).first()
        if airport is None:
            raise NotFound(_no_airport(code))
        ends.append(airport)
    start, end = ends
    return (
        f"Brief a traveller on one page for a flight from {start.name} ({start.code}, {start.city}, {start.country}) "
        f"to {end.name} ({end.code}, {end.city}, {end.country}), {start.distance_km(end):.0f} km. "
        f"Say how the local times differ ({start.timezone} and {end.timezone}), what the journey is like, and what to "
        f"know on arrival. Use the tools of the travel desk for facts about airports."
    )


@completion("iata", resource="airport://{iata}")
def complete_iata(value: str, arguments: dict[str, str]) -> list[str]:
    """Give the IATA codes that begin like this."""
    return _codes_like(value)


@completion("origin", prompt="trip_brief")
def complete_origin(value: str, arguments: dict[str, str]) -> list[str]:
    """Give the IATA codes that begin like this, but not the destination's."""
    return _codes_like(value, other=arguments.get("destination", ""))


@completion("destination", prompt="trip_brief")
def complete_destination(value: str, arguments: dict[str, str]) -> list[str]:
    """Give the IATA codes that begin like this, but not the origin's."""
    return _codes_like(value, other=arguments.get("origin", ""))


@completion("country", resource="desk://countries/{country}")
def complete_country(value: str, arguments: dict[str, str]) -> list[str]:
    """Give the countries whose code begins like this."""
    found = Airport.objects.filter(country__startswith=_code(value)).order_by("country")
    return list(found.values_list("country", flat=True).distinct()[:MOST_COMPLETIONS])


def _code(text: str) -> str:
    """Return a code as it is kept."""
    return text.strip().upper()


def _codes_like(value: str, *, other: str = "") -> list[str]:
    """Return the IATA codes that begin with `value`, without the other end of a journey."""
    found = Airport.objects.filter(iata__startswith=_code(value)).exclude(iata=_code(other)).order_by("iata")
    return [code for code in found.values_list("iata", flat=True)[:MOST_COMPLETIONS] if code]


def _no_airport(code: str) -> str:
    """Return the words for a code that nothing has."""
    return f"There is no airport with the IATA code {_code(code)!r}."


def _itinerary_to_book(ctx: Context, itinerary_id: int) -> Itinerary:
    """Return an itinerary that the user may book, or raise ToolError, alike for one that is not there."""
    itinerary = (
        Itinerary.objects.changeable_by(ctx.user)
        .filter(pk=itinerary_id)
        .prefetch_related("legs__origin", "legs__destination")
        .first()
    )
    if itinerary is None:
        raise ToolError(f"There is no itinerary {itinerary_id} of yours.")
    return itinerary


def _tables_for(user: AbstractUser | AnonymousUser) -> dict[str, set[str]]:
    """Return the tables that the user may see, each with its columns."""
    return {
        model._meta.db_table: {field.column for field in model._meta.concrete_fields if field.column}
        for model in (Airport, Itinerary, Leg, Booking)
        if user.has_perm(f"desk.view_{model._meta.model_name}")
    }
