"""What the desk keeps."""

from demo_project.desk.models.airport import Airport, AirportQuerySet
from demo_project.desk.models.booking import Booking
from demo_project.desk.models.itinerary import Itinerary, ItineraryQuerySet, Leg

__all__ = ["Airport", "AirportQuerySet", "Booking", "Itinerary", "ItineraryQuerySet", "Leg"]
