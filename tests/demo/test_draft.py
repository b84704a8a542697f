"""The draft that a conversation keeps, and the preferences that a user keeps, in both eras."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from demo_project.desk.models import Airport, Itinerary
from django_mcp.exceptions import REFUSED_HANDLE
from django_mcp.testing import Client, MCPClientError

pytestmark = pytest.mark.usefixtures("airports")

OUT = {"origin": "zrh", "destination": "JFK", "departs_on": "2027-03-01"}
BACK = {"origin": "JFK", "destination": "ZRH", "departs_on": "2027-03-09"}
MODES = pytest.mark.parametrize("mode", ["modern", "legacy"])

Connect = Callable[..., Client]


@pytest.fixture
def connect(people: dict[str, User]) -> Connect:
    """Connect as the user who may plan, or as another."""

    def as_user(name: str = "agent", **options: Any) -> Client:
        return Client(user=people[name], **options)

    return as_user


def route(answer: Any) -> list[tuple[str, str, str]]:
    assert not answer.is_error, answer.text
    return [(leg["origin"], leg["destination"], leg["departs_on"]) for leg in answer.structured["legs"]]


@MODES
def test_a_draft_goes_on_by_its_handle(connect: Connect, mode: str) -> None:
    first = connect(mode=mode).call("draft_leg", BACK)
    assert first.structured["handle"] == first.handle
    second = connect(mode=mode).call("draft_leg", {**OUT, "handle": first.handle})

    assert route(second) == [("ZRH", "JFK", "2027-03-01"), ("JFK", "ZRH", "2027-03-09")]
    assert second.structured["km"] == pytest.approx(2 * 6_310, rel=0.01)
    assert route(connect(mode=mode).call("show_draft", {"handle": first.handle})) == route(second)
    assert route(connect(mode=mode).call("show_draft")) == []


@MODES
def test_a_draft_goes_on_by_its_token(connect: Connect, mode: str) -> None:
    first = connect(mode=mode).call("draft_leg", OUT)
    carrying = connect(mode=mode, headers={"Mcp-Resumption-Token": first.headers["mcp-resumption-token"]})

    assert len(route(carrying.call("draft_leg", BACK))) == 2
    shown = carrying.call("show_draft")
    assert (len(route(shown)), shown.handle) == (2, None)
    assert shown.token is not None


@MODES
def test_a_draft_becomes_an_itinerary_and_is_empty_then(connect: Connect, people: dict[str, User], mode: str) -> None:
    client = connect(mode=mode)
    handle = client.call("draft_leg", OUT).handle
    kept = client.call("keep_draft", {"handle": handle, "title": "There"})

    itinerary = Itinerary.objects.get()
    assert (itinerary.owner, itinerary.title, itinerary.route()) == (people["agent"], "There", "ZRH, JFK")
    assert (kept.structured["id"], route(kept)) == (itinerary.pk, [("ZRH", "JFK", "2027-03-01")])
    assert route(client.call("show_draft", {"handle": handle})) == []
    again = client.call("keep_draft", {"handle": handle, "title": "There"})
    assert (again.is_error, again.text) == (True, "The draft is empty.")
    assert Itinerary.objects.count() == 1


def test_a_draft_that_cannot_be_kept_stays(connect: Connect) -> None:
    client = connect()
    handle = client.call("draft_leg", OUT).handle
    Airport.objects.filter(iata="JFK").delete()
    kept = client.call("keep_draft", {"handle": handle, "title": "There"})

    assert (kept.is_error, kept.text) == (True, "There is no airport with the IATA code 'JFK'.")
    assert len(route(client.call("show_draft", {"handle": handle}))) == 1
    assert not Itinerary.objects.exists()


def test_a_leg_is_dropped(connect: Connect) -> None:
    client = connect()
    handle = client.call("draft_leg", OUT).handle
    client.call("draft_leg", {**BACK, "handle": handle})

    assert route(client.call("drop_leg", {"handle": handle, "number": 1})) == [("JFK", "ZRH", "2027-03-09")]
    missing = client.call("drop_leg", {"handle": handle, "number": 2})
    assert (missing.is_error, missing.text) == (True, "The draft has no leg 2; it has 1.")


def test_a_leg_that_is_drafted_twice_is_there_once(connect: Connect) -> None:
    client = connect()
    handle = client.call("draft_leg", OUT).handle

    assert len(route(client.call("draft_leg", {**OUT, "handle": handle}))) == 1


def test_a_draft_has_as_many_legs_as_an_itinerary(connect: Connect) -> None:
    client = connect()
    handle = client.call("draft_leg", OUT).handle
    for day in range(2, 21):
        client.call("draft_leg", {**OUT, "departs_on": f"2027-03-{day:02}", "handle": handle})

    over = client.call("draft_leg", {**BACK, "handle": handle})
    assert (over.is_error, over.text) == (True, "A draft has at most 20 legs.")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"origin": "QQQ"}, "There is no airport with the IATA code 'QQQ'."),
        ({"destination": "ZRH"}, "A leg goes from ZRH to itself."),
        ({"origin": None}, "Name the origin, or a home airport with set_preferences."),
    ],
)
def test_a_leg_that_makes_no_sense_is_refused(connect: Connect, changes: dict[str, Any], reason: str) -> None:
    answer = connect().call("draft_leg", {**OUT, **changes})

    assert (answer.is_error, answer.text, answer.token) == (True, reason, None)


@MODES
def test_a_draft_begins_at_the_home_airport(connect: Connect, mode: str) -> None:
    told = connect(mode=mode).call("set_preferences", {"home_airport": "gva", "seat": "window"})
    assert (told.structured, told.handle) == ({"home_airport": "GVA", "seat": "window", "cabin": None}, None)
    connect(mode=mode).call("set_preferences", {"cabin": "economy"})

    away = {"destination": "JFK", "departs_on": "2027-03-01"}
    assert route(connect(mode=mode).call("draft_leg", away)) == [("GVA", "JFK", "2027-03-01")]
    assert connect(mode=mode).call("my_preferences").structured == {
        "home_airport": "GVA",
        "seat": "window",
        "cabin": "economy",
    }
    assert connect("admin", mode=mode).call("my_preferences").structured["home_airport"] is None


def test_a_home_airport_that_is_none_is_refused(connect: Connect) -> None:
    answer = connect().call("set_preferences", {"home_airport": "QQQ"})

    assert (answer.is_error, answer.text) == (True, "There is no airport with the IATA code 'QQQ'.")


def test_nobody_goes_on_with_the_draft_of_another(connect: Connect) -> None:
    first = connect().call("draft_leg", OUT)

    refused = connect("admin").call("show_draft", {"handle": first.handle})
    assert (refused.is_error, refused.text) == (True, REFUSED_HANDLE)
    with pytest.raises(MCPClientError, match="The resumption token is not valid"):
        connect("admin", headers={"Mcp-Resumption-Token": first.token}).call("show_draft")


@MODES
def test_a_draft_goes_back_and_branches_off(connect: Connect, mode: str) -> None:
    client = connect(mode=mode)
    handle = client.call("draft_leg", OUT).handle
    client.call("draft_leg", {**BACK, "handle": handle})

    history = client.request("org.django-mcp/resumption/history", {"handle": handle}).raw
    assert [past["call"] for past in history["generations"]] == ["draft_leg", "draft_leg"]
    forked = client.request("org.django-mcp/resumption/fork", {"handle": handle, "generation": 1}).raw["handle"]
    assert len(route(client.call("show_draft", {"handle": forked}))) == 1
    assert len(route(client.call("show_draft", {"handle": handle}))) == 2
    client.request("org.django-mcp/resumption/rewind", {"handle": handle, "generation": 1})
    assert len(route(client.call("show_draft", {"handle": handle}))) == 1
