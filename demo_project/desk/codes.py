"""The codes of airports and countries: how they come in, how they are kept."""

from typing import Annotated

from pydantic import Field

from demo_project.desk.models import Airport

MOST_LIKE = 100

Iata = Annotated[str, Field(description="IATA code of an airport, such as ZRH", pattern=r"^\s*[A-Za-z0-9]{3}\s*$")]
Country = Annotated[str, Field(description="ISO 3166 code of a country, such as CH", pattern=r"^\s*[A-Za-z]{2}\s*$")]


def kept_code(text: str) -> str:
    """Return a code as it is kept."""
    return text.strip().upper()


def iata_like(value: str, *, other: str = "") -> list[str]:
    """Return the IATA codes that begin with `value`, without the other end of a journey."""
    found = Airport.objects.filter(iata__startswith=kept_code(value)).exclude(iata=kept_code(other)).order_by("iata")
    return [code for code in found.values_list("iata", flat=True)[:MOST_LIKE] if code]


def no_airport(code: str) -> str:
    """Return the words for a code that nothing has."""
    return f"There is no airport with the IATA code {kept_code(code)!r}."
