"""Distances agree with known ones."""

import pytest

from demo_project.desk.geo import EARTH_RADIUS_KM, KM_PER_NAUTICAL_MILE, great_circle_km
from demo_project.desk.models import Airport


@pytest.mark.parametrize(
    ("origin", "destination", "km"),
    [
        ("LHR", "JFK", 5540),
        ("SIN", "SYD", 6300),
        ("ZRH", "GVA", 231),
        ("ZRH", "SFO", 9379),
        ("SFO", "LAX", 544),
        ("LHR", "AKL", 18350),
    ],
)
@pytest.mark.usefixtures("airports")
def test_distance_between_airports_is_the_published_one(origin: str, destination: str, km: int) -> None:
    start, end = Airport.objects.get(iata=origin), Airport.objects.get(iata=destination)

    assert start.distance_km(end) == pytest.approx(km, rel=0.005)
    assert end.distance_km(start) == pytest.approx(start.distance_km(end), abs=1e-9)


def test_quarter_of_the_equator_and_its_half() -> None:
    quarter = great_circle_km(0, 0, 0, 90)

    assert quarter == pytest.approx(EARTH_RADIUS_KM * 3.141592653589793 / 2)
    assert great_circle_km(0, 0, 0, 180) == pytest.approx(2 * quarter)
    assert great_circle_km(0, 0, 90, 0) == pytest.approx(quarter)


def test_minute_of_latitude_is_about_a_nautical_mile() -> None:
    assert great_circle_km(47, 8, 47 + 1 / 60, 8) == pytest.approx(KM_PER_NAUTICAL_MILE, rel=0.002)


def test_same_and_opposite_points_are_no_error() -> None:
    assert great_circle_km(47.5, 8.5, 47.5, 8.5) == 0
    assert great_circle_km(33.3, 44.4, -33.3, -135.6) == pytest.approx(EARTH_RADIUS_KM * 3.141592653589793)
