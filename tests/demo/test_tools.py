"""The desk's tools, called as a client calls them."""

import csv
import io
import json
from datetime import date
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from demo_project.desk.models import Booking, Itinerary
from django_mcp.testing import Client

pytestmark = pytest.mark.usefixtures("airports")

LEGS = [
    {"origin": "zrh", "destination": "JFK", "departs_on": "2027-03-01"},
    {"origin": "JFK", "destination": "ZRH", "departs_on": "2027-03-09"},
]


@pytest.fixture
def agent(people: dict[str, User]) -> Client:
    """Connect as the user who may book."""
    return Client(user=people["agent"])


@pytest.fixture
def viewer(people: dict[str, User]) -> Client:
    """Connect as the user who may look at airports."""
    return Client(user=people["viewer"])


def plan(client: Client, **changes: Any) -> Any:
    return client.call("plan_itinerary", {"title": "There and back", "legs": LEGS, **changes})


def test_search_finds_the_likeliest_first(agent: Client) -> None:
    found = agent.call("search_airports", {"text": "Zurich"}).structured["result"]

    assert [airport["iata"] for airport in found] == ["ZRH"]
    assert found[0] == {
        "iata": "ZRH",
        "icao": "LSZH",
        "name": "Zurich Airport",
        "city": "Zurich",
        "subdivision": "Zurich",
        "country": "CH",
        "elevation_ft": 1416,
        "latitude": 47.4647,
        "longitude": 8.54917,
        "timezone": "Europe/Zurich",
    }


def test_search_filters_by_country_and_number(agent: Client) -> None:
    swiss = agent.call("search_airports", {"country": "ch"}).structured["result"]

    assert {airport["country"] for airport in swiss} == {"CH"}
    assert len(swiss) == 3
    assert len(agent.call("search_airports", {"country": "CH", "limit": 1}).structured["result"]) == 1
    assert agent.call("search_airports", {"limit": 0}).is_error


def test_distance_is_measured(agent: Client) -> None:
    found = agent.call("distance", {"origin": "lhr", "destination": "JFK"})

    assert found.structured["origin"] == "LHR"
    assert found.structured["km"] == pytest.approx(5540, rel=0.005)
    assert found.structured["nautical_miles"] == pytest.approx(2991, rel=0.005)


def test_unknown_airport_is_named(agent: Client) -> None:
    answer = agent.call("distance", {"origin": "LHR", "destination": "QQQ"})

    assert answer.is_error
    assert answer.text == "There is no airport with the IATA code 'QQQ'."


def test_itinerary_belongs_to_who_planned_it(agent: Client, people: dict[str, User]) -> None:
    planned = plan(agent).structured

    itinerary = Itinerary.objects.get()
    assert (planned["id"], itinerary.owner) == (itinerary.pk, people["agent"])
    assert [(leg["origin"], leg["destination"], leg["departs_on"]) for leg in planned["legs"]] == [
        ("ZRH", "JFK", "2027-03-01"),
        ("JFK", "ZRH", "2027-03-09"),
    ]
    assert agent.call("my_itineraries", {}).structured["result"] == [planned]
    assert Client(user=people["admin"]).call("my_itineraries", {}).structured["result"] == []


@pytest.mark.parametrize(
    ("legs", "reason"),
    [
        ([{**LEGS[0], "origin": "QQQ"}], "There is no airport with the IATA code 'QQQ'."),
        ([{**LEGS[0], "destination": "ZRH"}], "A leg goes from ZRH to itself."),
        (LEGS[::-1], "The leg of 2027-03-01 comes after the one of 2027-03-09."),
    ],
)
def test_plan_that_makes_no_sense_is_refused(agent: Client, legs: list[dict[str, str]], reason: str) -> None:
    answer = plan(agent, legs=legs)

    assert answer.is_error
    assert answer.text == reason
    assert not Itinerary.objects.exists()


def test_viewer_sees_no_tools_that_write(agent: Client, viewer: Client) -> None:
    writing = {"plan_itinerary", "book", "draft_leg", "drop_leg", "keep_draft", "set_preferences"}

    assert writing <= {tool.name for tool in agent.list_tools()}
    assert not writing & {tool.name for tool in viewer.list_tools()}


@pytest.mark.parametrize("mode", ["modern", "legacy"])
def test_booking_asks_and_is_made_once(people: dict[str, User], mode: str) -> None:
    client = Client(user=people["agent"], mode=mode)
    itinerary = plan(client).structured["id"]

    made = client.call(
        "book", {"itinerary_id": itinerary, "traveller": "Ada Lovelace"}, answers={"ask_to_book": {"confirm": True}}
    ).structured

    booking = Booking.objects.get()
    assert made["reference"] == booking.reference
    assert (booking.owner, booking.confirmed_by) == (people["agent"], people["agent"])
    assert booking.created_at.date() >= date(2026, 1, 1)
    listed = client.call("my_bookings", {}).structured["result"]
    assert [(one["reference"], one["traveller"], len(one)) for one in listed] == [
        (booking.reference, "Ada Lovelace", 3)
    ]


def test_booking_that_is_not_confirmed_is_not_made(agent: Client) -> None:
    itinerary = plan(agent).structured["id"]

    answer = agent.call(
        "book", {"itinerary_id": itinerary, "traveller": "Ada"}, answers={"ask_to_book": {"confirm": False}}
    )

    assert answer.is_error
    assert answer.text == "The user did not confirm; nothing was booked."
    assert not Booking.objects.exists()


def test_itinerary_of_another_is_as_good_as_none(agent: Client, people: dict[str, User]) -> None:
    other = Itinerary.objects.create(owner=people["viewer"], title="Secret")

    taken = agent.call("book", {"itinerary_id": other.pk, "traveller": "Ada"})
    missing = agent.call("book", {"itinerary_id": other.pk + 1, "traveller": "Ada"})

    assert taken.is_error
    assert taken.text == f"There is no itinerary {other.pk} of yours."
    assert missing.text == f"There is no itinerary {other.pk + 1} of yours."


def test_export_is_csv_with_progress(agent: Client) -> None:
    answer = agent.call("export_airports", {"country": "ch"})

    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["iata"] for row in rows] == ["GVA", "BRN", "ZRH"]
    assert answer.progress[-1].progress == answer.progress[-1].total == 3
    assert agent.call("export_airports", {"country": "XX"}).text == "There are no airports in XX."


def test_query_sees_what_the_user_may(agent: Client, viewer: Client) -> None:
    sql = "SELECT country, COUNT(*) AS n FROM desk_airport GROUP BY country ORDER BY n DESC, country LIMIT 2"

    assert viewer.call("database_query", {"sql": sql}).structured == {
        "columns": ["country", "n"],
        "rows": [["US", 4], ["CH", 3]],
        "note": "",
    }
    bookings = "SELECT COUNT(*) FROM desk_booking"
    assert agent.call("database_query", {"sql": bookings}).structured["rows"] == [[0]]
    refused = viewer.call("database_query", {"sql": bookings})
    assert refused.is_error
    assert refused.text == "There is no table 'desk_booking'; there are desk_airport."


def test_query_is_cut_and_says_so(agent: Client, settings: Settings) -> None:
    settings.DJANGO_MCP = {**settings.DJANGO_MCP, "MAX_ROWS": 5}

    answer = agent.call("database_query", {"sql": "SELECT iata FROM desk_airport"}).structured

    assert len(answer["rows"]) == 5
    assert answer["note"] == "Cut at 5 rows; there are more."


@pytest.mark.parametrize("sql", ["DELETE FROM desk_airport", "SELECT * FROM auth_user", "SELECT load_extension('x')"])
def test_query_that_is_none_is_refused(agent: Client, sql: str) -> None:
    assert agent.call("database_query", {"sql": sql}).is_error


def test_resources_give_airports_and_countries(agent: Client) -> None:
    assert json.loads(agent.read("airport://ZRH").text)["name"] == "Zurich Airport"
    assert json.loads(agent.read("desk://countries").text)["CH"] == 3
    assert json.loads(agent.read("desk://countries/FR").text)["CDG"].startswith("Charles de Gaulle")


def test_prompt_names_both_airports(agent: Client) -> None:
    text = agent.prompt("trip_brief", {"origin": "ZRH", "destination": "jfk"}).text

    assert "Zurich Airport (ZRH, Zurich, CH)" in text
    assert "John F Kennedy International Airport (JFK, New York, US)" in text
