"""Bookings, which are made once the user has confirmed them."""

from typing import Annotated

from pydantic import BaseModel, Field

from demo_project.desk.models import Booking, Itinerary
from demo_project.desk.shapes import MOST_FOUND, BookingMade
from django_mcp import Context, Elicit, Resolve, ToolError, tool


class Confirmation(BaseModel):
    """What the user is asked before a booking."""

    confirm: bool = Field(description="Yes, book it")


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
