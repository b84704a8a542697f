"""An airport, as the PyPI package `airportsdata` lists it."""

from typing import Self

from django.db import models
from django.db.models import Case, F, Q, Value, When

from demo_project.desk.geo import great_circle_km


class AirportQuerySet(models.QuerySet["Airport"]):
    """Find airports."""

    def search(self, text: str) -> Self:
        """Keep those that every word of `text` fits (name, city, subdivision or code), the likeliest first."""
        found = self
        for word in text.split():
            found = found.filter(
                Q(name__icontains=word)
                | Q(city__icontains=word)
                | Q(subdivision__icontains=word)
                | Q(iata__iexact=word)
                | Q(icao__iexact=word)
            )
        code = text.strip().upper()
        return found.annotate(
            likeliness=Case(
                When(Q(iata=code) | Q(icao=code), then=Value(0)),
                When(iata__isnull=False, city__iexact=text.strip(), then=Value(1)),
                When(iata__isnull=False, then=Value(2)),
                default=Value(3),
            )
        ).order_by("likeliness", "name", "pk")

    def in_country(self, country: str) -> Self:
        """Keep those of a country, given by its ISO 3166 code of two letters."""
        return self.filter(country=country.strip().upper())


class Airport(models.Model):
    """A place to fly from or to; `iata` is null for the many small ones without such a code."""

    iata = models.CharField("IATA code", max_length=3, null=True, blank=True)  # noqa: DJ001 - null is not unique
    icao = models.CharField("ICAO code", max_length=4)
    name = models.CharField(max_length=100)
    city = models.CharField(max_length=80, blank=True)
    subdivision = models.CharField(max_length=80, blank=True)
    country = models.CharField(max_length=2)
    elevation_ft = models.IntegerField()
    latitude = models.FloatField()
    longitude = models.FloatField()
    timezone = models.CharField(max_length=50)

    objects = AirportQuerySet.as_manager()

    class Meta:
        ordering = [F("iata").asc(nulls_last=True), "icao"]
        constraints = [
            models.UniqueConstraint(fields=["iata"], name="desk_airport_iata_unique"),
            models.UniqueConstraint(fields=["icao"], name="desk_airport_icao_unique"),
            models.CheckConstraint(
                condition=Q(latitude__range=(-90, 90), longitude__range=(-180, 180)),
                name="desk_airport_on_the_globe",
            ),
        ]
        indexes = [models.Index(fields=["country", "name"], name="desk_airport_country_name")]

    def __str__(self) -> str:
        return f"{self.code} {self.name}"

    @property
    def code(self) -> str:
        """Return the IATA code, or the ICAO code where there is none."""
        return self.iata or self.icao

    def distance_km(self, other: "Airport") -> float:
        """Return the length of the great circle to another airport, in kilometres."""
        return great_circle_km(self.latitude, self.longitude, other.latitude, other.longitude)
