"""What the signed-in user prefers, in every conversation."""

from demo_project.desk.codes import Iata, kept_code, no_airport
from demo_project.desk.models import Airport
from demo_project.desk.shapes import Cabin, Preferences, Seat
from django_mcp import ToolError, UserState, tool

HOME_AIRPORT = "home_airport"


@tool(permission="desk.add_itinerary", destructive=False, idempotent=True, open_world=False)
def set_preferences(
    user: UserState, home_airport: Iata | None = None, seat: Seat | None = None, cabin: Cabin | None = None
) -> Preferences:
    """Remember what the signed-in user prefers; what is left out stays as it is."""
    if home_airport is not None:
        if not Airport.objects.filter(iata=kept_code(home_airport)).exists():
            raise ToolError(no_airport(home_airport))
        user[HOME_AIRPORT] = kept_code(home_airport)
    if seat is not None:
        user["seat"] = seat
    if cabin is not None:
        user["cabin"] = cabin
    return Preferences.of(user)


@tool(read_only=True, open_world=False)
def my_preferences(user: UserState) -> Preferences:
    """Tell what the signed-in user prefers."""
    return Preferences.of(user)
