"""The desk's models find, plan, and refuse what makes no sense."""

from datetime import date

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, transaction

from demo_project.desk.models import Airport, Booking, Itinerary, Leg
from demo_project.desk.models.booking import REFERENCE_LENGTH, REFERENCE_LETTERS

pytestmark = pytest.mark.usefixtures("airports")


def airport(iata: str) -> Airport:
    return Airport.objects.get(iata=iata)


def new_airport(**changes: object) -> Airport:
    fields = {"icao": "TEST", "name": "Test", "country": "CH", "elevation_ft": 0, "latitude": 0.0, "longitude": 0.0}
    return Airport.objects.create(**{**fields, "timezone": "Europe/Zurich", **changes})


def plan(owner: User, title: str = "There and back") -> Itinerary:
    zurich, new_york = airport("ZRH"), airport("JFK")
    return Itinerary.objects.plan(
        owner_id=owner.pk,
        title=title,
        stops=[(zurich, new_york, date(2027, 3, 1)), (new_york, zurich, date(2027, 3, 9))],
    )


@pytest.mark.parametrize(
    ("text", "first"),
    [("Zurich", "ZRH"), ("zrh", "ZRH"), ("LSZH", "ZRH"), ("new york kennedy", "JFK"), ("  heathrow ", "LHR")],
)
def test_search_puts_the_likeliest_first(text: str, first: str) -> None:
    found = Airport.objects.search(text).first()

    assert found is not None
    assert found.code == first


def test_search_needs_every_word() -> None:
    assert not Airport.objects.search("Zurich Heathrow").exists()


def test_search_for_nothing_gives_all() -> None:
    assert Airport.objects.search("").count() == Airport.objects.count() == 14


def test_wildcards_in_a_search_are_letters() -> None:
    assert not Airport.objects.search("%").exists()
    assert not Airport.objects.search("_").exists()


def test_country_is_found_whatever_its_letters() -> None:
    assert {found.code for found in Airport.objects.in_country(" ch ")} == {"ZRH", "GVA", "BRN"}


def test_code_is_the_icao_code_where_there_is_no_other() -> None:
    assert Airport.objects.get(icao="00AA").code == "00AA"


def test_airports_without_an_iata_code_are_many_and_those_with_one_unique() -> None:
    new_airport(icao="TST1", iata=None)
    new_airport(icao="TST2", iata=None)

    with pytest.raises(IntegrityError), transaction.atomic():
        new_airport(icao="TST3", iata="ZRH")


def test_airport_lies_on_the_globe() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        new_airport(latitude=91.0)


def test_plan_keeps_the_legs_in_order(people: dict[str, User]) -> None:
    itinerary = plan(people["agent"])

    assert itinerary.route() == "ZRH, JFK, ZRH"
    assert [leg.position for leg in itinerary.legs.all()] == [1, 2]
    assert str(itinerary.legs.all()[0]) == "ZRH to JFK on 2027-03-01"


def test_plan_that_fails_leaves_nothing(people: dict[str, User]) -> None:
    zurich = airport("ZRH")

    with pytest.raises(IntegrityError), transaction.atomic():
        Itinerary.objects.plan(
            owner_id=people["agent"].pk, title="Nowhere", stops=[(zurich, zurich, date(2027, 3, 1))]
        )

    assert not Itinerary.objects.exists()
    assert not Leg.objects.exists()


def test_itineraries_belong_to_their_owner(people: dict[str, User]) -> None:
    itinerary = plan(people["agent"])

    assert list(Itinerary.objects.owned_by(people["agent"])) == [itinerary]
    assert list(Itinerary.objects.changeable_by(people["agent"])) == [itinerary]
    assert list(Itinerary.objects.changeable_by(people["admin"])) == [itinerary]
    assert not Itinerary.objects.owned_by(people["admin"]).exists()
    assert not Itinerary.objects.changeable_by(people["viewer"]).exists()
    assert not Itinerary.objects.changeable_by(AnonymousUser()).exists()


def test_booking_has_a_reference_of_its_own(people: dict[str, User]) -> None:
    agent = people["agent"]
    itinerary = plan(agent)
    bookings = [
        Booking.objects.create(itinerary=itinerary, owner=agent, traveller="Ada", confirmed_by=agent) for _ in "ab"
    ]

    references = {booking.reference for booking in bookings}
    assert len(references) == 2
    assert all(len(one) == REFERENCE_LENGTH and set(one) <= set(REFERENCE_LETTERS) for one in references)
    with pytest.raises(IntegrityError), transaction.atomic():
        Booking.objects.create(
            itinerary=itinerary, owner=agent, traveller="Ada", confirmed_by=agent, reference=references.pop()
        )
