"""Itineraries of the signed-in user."""

from typing import Annotated

from pydantic import Field

from demo_project.desk.journey import MOST_LEGS, Stop, Title, find_stops
from demo_project.desk.models import Itinerary
from demo_project.desk.shapes import MOST_FOUND, ItineraryPlanned
from django_mcp import Context, tool


@tool(permission="desk.add_itinerary", destructive=False, open_world=False)
def plan_itinerary(
    ctx: Context,
    title: Title,
    legs: Annotated[list[Stop], Field(min_length=1, max_length=MOST_LEGS)],
) -> ItineraryPlanned:
    """Keep an itinerary for the signed-in user, its legs in the order of travel."""
    itinerary = Itinerary.objects.plan(owner_id=ctx.user.pk, title=title, stops=find_stops(legs))
    return ItineraryPlanned.of(itinerary)


@tool(read_only=True, open_world=False)
def my_itineraries(ctx: Context) -> list[ItineraryPlanned]:
    """List the itineraries of the signed-in user, the newest first."""
    return [ItineraryPlanned.of(itinerary) for itinerary in Itinerary.objects.owned_by(ctx.user)[:MOST_FOUND]]
