"""A booking of an itinerary for a traveller."""

import secrets

from django.conf import settings
from django.db import models

from demo_project.desk.models.itinerary import Itinerary

REFERENCE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
REFERENCE_LENGTH = 8


def new_reference() -> str:
    """Return a random reference, without letters that look like digits."""
    return "".join(secrets.choice(REFERENCE_LETTERS) for _ in range(REFERENCE_LENGTH))


class Booking(models.Model):
    """A booking; one itinerary can be booked for several travellers, and for one traveller twice."""

    itinerary = models.ForeignKey(Itinerary, models.CASCADE, related_name="bookings")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="bookings")
    traveller = models.CharField(max_length=120)
    reference = models.CharField(max_length=REFERENCE_LENGTH, default=new_reference, editable=False)
    confirmed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [models.UniqueConstraint(fields=["reference"], name="desk_booking_reference_unique")]

    def __str__(self) -> str:
        return self.reference
