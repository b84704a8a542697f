"""A draft of an itinerary, which the conversation keeps until it is good.

Legs are changed by `state.update`, so that a model that drafts several at once loses none of them.
"""

from dataclasses import asdict
from datetime import date
from typing import Annotated, Any

from pydantic import Field

from demo_project.desk.codes import Iata
from demo_project.desk.journey import MOST_LEGS, Stop, Title, find_stops
from demo_project.desk.mcp_tools.preferences import HOME_AIRPORT
from demo_project.desk.models import Itinerary, Leg
from demo_project.desk.shapes import Draft, ItineraryPlanned, LegPlanned
from django_mcp import Context, State, ToolError, UserState, tool

LEGS = "legs"

KeptLeg = dict[str, Any]


@tool(permission="desk.add_itinerary", destructive=False, idempotent=True, open_world=False)
def draft_leg(
    state: State,
    user: UserState,
    destination: Iata,
    departs_on: date,
    origin: Annotated[Iata | None, Field(description="The home airport of the preferences by default")] = None,
) -> Draft:
    """Add a flight to the draft of this conversation, by the day it departs; one that is there is not added again."""
    start = origin or user.get(HOME_AIRPORT)
    if start is None:
        raise ToolError("Name the origin, or a home airport with set_preferences.")
    (stop,) = find_stops([Stop(origin=start, destination=destination, departs_on=departs_on)])
    drafted = asdict(LegPlanned.of(Leg(origin=stop[0], destination=stop[1], departs_on=stop[2])))
    return Draft.of(state.update(LEGS, lambda legs: _with(legs, drafted), default=[]))


@tool(read_only=True, open_world=False)
def show_draft(state: State) -> Draft:
    """Show the draft of this conversation."""
    return Draft.of(state.get(LEGS, []))


@tool(permission="desk.add_itinerary", destructive=False, open_world=False)
def drop_leg(
    state: State, number: Annotated[int, Field(ge=1, le=MOST_LEGS, description="Its place in the draft")]
) -> Draft:
    """Take a flight out of the draft of this conversation."""
    legs = state.get(LEGS, [])
    if number > len(legs):
        raise ToolError(f"The draft has no leg {number}; it has {len(legs)}.")
    dropped = legs[number - 1]
    return Draft.of(state.update(LEGS, lambda legs: [leg for leg in legs if leg != dropped], default=[]))


@tool(permission="desk.add_itinerary", destructive=False, atomic=True, open_world=False)
def keep_draft(ctx: Context, state: State, title: Title) -> ItineraryPlanned:
    """Make the draft of this conversation an itinerary of the signed-in user; the draft is empty then."""
    legs = Draft.of(state.pop(LEGS, [])).legs
    if not legs:
        raise ToolError("The draft is empty.")
    stops = find_stops(
        [Stop(origin=leg.origin, destination=leg.destination, departs_on=leg.departs_on) for leg in legs]
    )
    return ItineraryPlanned.of(Itinerary.objects.plan(owner_id=ctx.user.pk, title=title, stops=stops))


def _with(legs: list[KeptLeg], drafted: KeptLeg) -> list[KeptLeg]:
    """Return the legs of a draft with one more, in the order of travel."""
    if drafted in legs:
        return legs
    if len(legs) == MOST_LEGS:
        raise ToolError(f"A draft has at most {MOST_LEGS} legs.")
    return sorted([*legs, drafted], key=lambda leg: leg["departs_on"])
