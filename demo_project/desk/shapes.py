"""What leaves the desk's tools: plain shapes, so that no field goes out unlisted.

They have no slots, which the schema generation of the SDK takes for the defaults of the fields.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from demo_project.desk.models import Airport, Booking, Itinerary, Leg
from demo_project.desk.query_run import Cell

MOST_FOUND = 100

Cabin = Literal["economy", "premium", "business", "first"]
Seat = Literal["window", "middle", "aisle"]


@dataclass(frozen=True, kw_only=True)
class AirportFound:
    """An airport; places in degrees, height in feet."""

    iata: str | None
    icao: str
    name: str
    city: str
    subdivision: str
    country: str
    elevation_ft: int
    latitude: float
    longitude: float
    timezone: str

    @classmethod
    def of(cls, airport: Airport) -> "AirportFound":
        """Return the shape of an airport."""
        return cls(
            iata=airport.iata,
            icao=airport.icao,
            name=airport.name,
            city=airport.city,
            subdivision=airport.subdivision,
            country=airport.country,
            elevation_ft=airport.elevation_ft,
            latitude=airport.latitude,
            longitude=airport.longitude,
            timezone=airport.timezone,
        )


@dataclass(frozen=True, kw_only=True)
class Distance:
    """A great-circle distance."""

    origin: str
    destination: str
    km: float
    nautical_miles: float


@dataclass(frozen=True, kw_only=True)
class LegPlanned:
    """A flight of an itinerary, by the codes of its airports."""

    origin: str
    destination: str
    departs_on: date
    km: float

    @classmethod
    def of(cls, leg: Leg) -> "LegPlanned":
        """Return the shape of a leg."""
        return cls(
            origin=leg.origin.code,
            destination=leg.destination.code,
            departs_on=leg.departs_on,
            km=round(leg.origin.distance_km(leg.destination), 1),
        )


@dataclass(frozen=True, kw_only=True)
class ItineraryPlanned:
    """An itinerary with its legs."""

    id: int
    title: str
    created_at: datetime
    legs: list[LegPlanned]
    km: float

    @classmethod
    def of(cls, itinerary: Itinerary) -> "ItineraryPlanned":
        """Return the shape of an itinerary."""
        legs = [LegPlanned.of(leg) for leg in itinerary.legs.select_related("origin", "destination")]
        return cls(
            id=itinerary.pk,
            title=itinerary.title,
            created_at=itinerary.created_at,
            legs=legs,
            km=round(sum(leg.km for leg in legs), 1),
        )


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Legs that no itinerary has yet, in the order of travel."""

    legs: list[LegPlanned]
    km: float

    @classmethod
    def of(cls, legs: Iterable[Mapping[str, Any]]) -> "Draft":
        """Return the shape of the legs that a conversation keeps."""
        drafted = [LegPlanned(**leg) for leg in legs]
        return cls(legs=drafted, km=round(sum(leg.km for leg in drafted), 1))


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """What a user prefers; nothing where nothing was said."""

    home_airport: str | None
    seat: Seat | None
    cabin: Cabin | None

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "Preferences":
        """Return the shape of what a user keeps."""
        return cls(**{name: kept.get(name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True)
class BookingMade:
    """A booking that was confirmed."""

    reference: str
    itinerary_id: int
    traveller: str
    created_at: datetime

    @classmethod
    def of(cls, booking: Booking) -> "BookingMade":
        """Return the shape of a booking."""
        return cls(
            reference=booking.reference,
            itinerary_id=booking.itinerary_id,
            traveller=booking.traveller,
            created_at=booking.created_at,
        )


@dataclass(frozen=True, kw_only=True)
class QueryAnswer:
    """What a query gave: rows in the order of the columns, and a note where there were more."""

    columns: list[str]
    rows: list[list[Cell]]
    note: str
