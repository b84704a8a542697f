"""Airports and countries as resources."""

import json
from dataclasses import asdict

from django.db.models import Count

from demo_project.desk.codes import MOST_LIKE, iata_like, kept_code, no_airport
from demo_project.desk.models import Airport
from demo_project.desk.shapes import AirportFound
from django_mcp import NotFound, completion, resource


@resource("airport://{iata}", title="An airport", mime_type="application/json")
def airport_by_code(iata: str) -> str:
    """Give an airport by its IATA code."""
    airport = Airport.objects.filter(iata=kept_code(iata)).first()
    if airport is None:
        raise NotFound(no_airport(iata))
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


@completion("iata", resource="airport://{iata}")
def complete_iata(value: str, arguments: dict[str, str]) -> list[str]:
    """Give the IATA codes that begin like this."""
    return iata_like(value)


@completion("country", resource="desk://countries/{country}")
def complete_country(value: str, arguments: dict[str, str]) -> list[str]:
    """Give the countries whose code begins like this."""
    found = Airport.objects.filter(country__startswith=kept_code(value)).order_by("country")
    return list(found.values_list("country", flat=True).distinct()[:MOST_LIKE])
