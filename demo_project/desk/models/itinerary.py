"""An itinerary and its legs."""

from collections.abc import Sequence
from datetime import date
from typing import Self

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin
from django.db import models, transaction
from django.db.models import F, Q

from demo_project.desk.models.airport import Airport


class ItineraryQuerySet(models.QuerySet["Itinerary"]):
    """Find and make itineraries."""

    def owned_by(self, user: AbstractBaseUser | AnonymousUser) -> Self:
        """Keep those of one user; nobody's for an anonymous one."""
        return self.filter(owner_id=user.pk) if user.is_authenticated else self.none()

    def changeable_by(self, user: AbstractBaseUser | AnonymousUser) -> Self:
        """Keep the user's own, or all for one who may change any itinerary."""
        if isinstance(user, PermissionsMixin) and user.has_perm("desk.change_itinerary"):
            return self.all()
        return self.owned_by(user)

    def plan(self, *, owner_id: int, title: str, stops: Sequence[tuple[Airport, Airport, date]]) -> "Itinerary":
        """Make an itinerary and its legs, given as (origin, destination, day), or nothing."""
        with transaction.atomic(using=self.db):
            itinerary = self.create(owner_id=owner_id, title=title)
            Leg.objects.using(self.db).bulk_create(
                Leg(itinerary=itinerary, position=position, origin=origin, destination=destination, departs_on=day)
                for position, (origin, destination, day) in enumerate(stops, start=1)
            )
        return itinerary


class Itinerary(models.Model):
    """A journey that a user plans."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="itineraries")
    title = models.CharField(max_length=120)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ItineraryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "itineraries"
        ordering = ["-created_at", "-pk"]
        indexes = [models.Index(fields=["owner", "-created_at"], name="desk_itinerary_of_owner")]

    def __str__(self) -> str:
        return self.title

    def route(self) -> str:
        """Return the codes on the way, such as "ZRH, JFK, SFO"."""
        codes: list[str] = []
        for leg in self.legs.all():
            if not codes or codes[-1] != leg.origin.code:
                codes.append(leg.origin.code)
            codes.append(leg.destination.code)
        return ", ".join(codes)


class Leg(models.Model):
    """One flight of an itinerary."""

    itinerary = models.ForeignKey(Itinerary, models.CASCADE, related_name="legs")
    position = models.PositiveSmallIntegerField()
    origin = models.ForeignKey(Airport, models.PROTECT, related_name="+")
    destination = models.ForeignKey(Airport, models.PROTECT, related_name="+")
    departs_on = models.DateField()

    class Meta:
        ordering = ["itinerary", "position"]
        constraints = [
            models.UniqueConstraint(fields=["itinerary", "position"], name="desk_leg_position_unique"),
            models.CheckConstraint(condition=~Q(origin=F("destination")), name="desk_leg_goes_somewhere"),
        ]

    def __str__(self) -> str:
        return f"{self.origin.code} to {self.destination.code} on {self.departs_on:%Y-%m-%d}"
