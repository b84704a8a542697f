"""The prompt about a flight between two airports."""

from demo_project.desk.codes import iata_like, kept_code, no_airport
from demo_project.desk.models import Airport
from django_mcp import NotFound, completion, prompt


@prompt(title="Brief a traveller")
def trip_brief(origin: str, destination: str) -> str:
    """Ask for a page about a flight between two airports, given by IATA code."""
    ends: list[Airport] = []
    for code in (origin, destination):
        airport = Airport.objects.filter(iata=kept_code(code)).first()
        if airport is None:
            raise NotFound(no_airport(code))
        ends.append(airport)
    start, end = ends
    return (
        f"Brief a traveller on one page for a flight from {start.name} ({start.code}, {start.city}, {start.country}) "
        f"to {end.name} ({end.code}, {end.city}, {end.country}), {start.distance_km(end):.0f} km. "
        f"Say how the local times differ ({start.timezone} and {end.timezone}), what the journey is like, and what to "
        f"know on arrival. Use the tools of the travel desk for facts about airports."
    )


@completion("origin", prompt="trip_brief")
def complete_origin(value: str, arguments: dict[str, str]) -> list[str]:
    """Give the IATA codes that begin like this, but not the destination's."""
    return iata_like(value, other=arguments.get("destination", ""))


@completion("destination", prompt="trip_brief")
def complete_destination(value: str, arguments: dict[str, str]) -> list[str]:
    """Give the IATA codes that begin like this, but not the origin's."""
    return iata_like(value, other=arguments.get("origin", ""))
