"""`manage.py load_airports`: bring the table of airports to what the installed `airportsdata` lists."""

from collections.abc import Iterator
from typing import Any, TypedDict

import airportsdata
from django.core.management.base import BaseCommand
from django.db import transaction
from tqdm import tqdm

from demo_project.desk.models import Airport

BATCH = 1000


class Fields(TypedDict):
    """The fields of an airport that the list gives, beside its ICAO code."""

    iata: str | None
    name: str
    city: str
    subdivision: str
    country: str
    elevation_ft: int
    latitude: float
    longitude: float
    timezone: str


def listed() -> Iterator[tuple[str, Fields]]:
    """Give every airport of the package as its ICAO code and its fields."""
    for icao, row in airportsdata.load("ICAO").items():
        yield (
            icao,
            Fields(
                iata=row["iata"] or None,
                name=row["name"],
                city=row["city"],
                subdivision=row["subd"],
                country=row["country"],
                elevation_ft=round(row["elevation"]),
                latitude=row["lat"],
                longitude=row["lon"],
                timezone=row["tz"],
            ),
        )


class Command(BaseCommand):
    """Load the airports; a second run changes only what differs. Airports that left the list stay."""

    help = "Load the airports of the airportsdata package."

    def handle(self, *args: Any, **options: Any) -> None:
        """Write new and changed rows in one transaction and say how many there were."""
        names = list(Fields.__annotations__)
        # An outsider sees the old list or the new one.
        with transaction.atomic():
            known = {airport.icao: airport for airport in Airport.objects.order_by()}
            new: list[Airport] = []
            changed: list[Airport] = []
            for icao, fields in listed():
                airport = known.get(icao)
                if airport is None:
                    new.append(Airport(icao=icao, **fields))
                elif any(getattr(airport, name) != value for name, value in fields.items()):
                    for name, value in fields.items():
                        setattr(airport, name, value)
                    changed.append(airport)
            with tqdm(
                total=len(new) + len(changed),
                desc="Airports",
                unit="row",
                # Quiet where nobody watches.
                disable=None if options["verbosity"] else True,
            ) as bar:
                for batch in _batches(changed):
                    # Codes move between airports; none may be taken while they do.
                    Airport.objects.filter(pk__in=[airport.pk for airport in batch]).update(iata=None)
                for batch in _batches(changed):
                    Airport.objects.bulk_update(batch, names)
                    bar.update(len(batch))
                for batch in _batches(new):
                    Airport.objects.bulk_create(batch)
                    bar.update(len(batch))
        if options["verbosity"]:
            self.stdout.write(f"Airports: {len(new)} new, {len(changed)} changed, {Airport.objects.count()} in all.")


def _batches(airports: list[Airport]) -> Iterator[list[Airport]]:
    """Give the airports a batch at a time."""
    for start in range(0, len(airports), BATCH):
        yield airports[start : start + BATCH]
