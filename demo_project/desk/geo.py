"""Distances on the globe, in plain numbers; knows no models."""

from math import asin, cos, radians, sin, sqrt

EARTH_RADIUS_KM = 6371.0088
KM_PER_NAUTICAL_MILE = 1.852


def great_circle_km(latitude_a: float, longitude_a: float, latitude_b: float, longitude_b: float) -> float:
    """Return the length of the great circle between two points given in degrees, in kilometres (haversine)."""
    phi_a, phi_b = radians(latitude_a), radians(latitude_b)
    half_phi = (phi_b - phi_a) / 2
    half_lambda = radians(longitude_b - longitude_a) / 2
    chord = sin(half_phi) ** 2 + cos(phi_a) * cos(phi_b) * sin(half_lambda) ** 2
    # Rounding can lift the chord of two opposite points above one.
    return 2 * EARTH_RADIUS_KM * asin(sqrt(min(1.0, chord)))
