"""The desk's REST API and the tools that its viewsets are, asked by three users who may do different things."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client as HTTPClient
from pytest_django import Settings

from demo_project.desk.models import Itinerary
from django_mcp.models import MCPAccessToken
from django_mcp.testing import Client

pytestmark = pytest.mark.usefixtures("airports")

LEG = {"origin": "ZRH", "destination": "JFK", "departs_on": "2027-03-01"}
WHO = ("admin", "agent", "viewer")
REFUSED = "You do not have permission to perform this action."


class Both:
    """One user, by REST and by tools, who should not see a difference."""

    def __init__(self, user: User) -> None:
        secret = MCPAccessToken.objects.issue(user, "test")[1]
        headers = {"authorization": f"Bearer {secret}", "host": "testserver"}
        self.http = HTTPClient(headers=headers)
        self.mcp = Client(user, headers={"host": "testserver"})

    @property
    def tools(self) -> set[str]:
        return {tool.name for tool in self.mcp.list_tools()}

    def rest(self, method: str, path: str, data: Any = None) -> tuple[int, Any]:
        body: dict[str, Any] = {} if data is None else {"data": json.dumps(data), "content_type": "application/json"}
        answer = self.http.generic(method, f"/api/{path}", **body)
        return answer.status_code, answer.json() if answer.content else None

    def tool(self, name: str, **arguments: Any) -> Any:
        came = self.mcp.call(name, arguments)
        return came.text if came.is_error else came.structured


@pytest.fixture
def both(people: dict[str, User], settings: Settings) -> dict[str, Both]:
    settings.ROOT_URLCONF = "demo_project.urls"
    for name in WHO:
        Itinerary.objects.create(owner=people[name], title=f"{name}'s own")
    return {name: Both(people[name]) for name in WHO}


@pytest.mark.parametrize("name", WHO)
def test_everybody_sees_airports_alike_by_either_way(both: dict[str, Both], name: str) -> None:
    one = both[name]
    assert one.rest("GET", "airports/?search=Zurich") == (200, one.tool("airport_list", search="Zurich"))
    assert one.tool("airport_list", search="Zurich")["results"][0]["iata"] == "ZRH"
    assert one.rest("GET", "airports/ZRH/") == (200, one.tool("airport_retrieve", iata="ZRH"))
    assert one.rest("GET", "airports/XXX/")[1]["detail"] == one.tool("airport_retrieve", iata="XXX")


@pytest.mark.parametrize(
    ("name", "titles"), [("admin", {"admin's own", "agent's own", "viewer's own"}), ("agent", {"agent's own"})]
)
def test_itineraries_are_ones_own_but_for_who_may_change_any(
    both: dict[str, Both], name: str, titles: set[str]
) -> None:
    status, listed = both[name].rest("GET", "itineraries/")
    assert status == 200
    assert {one["title"] for one in listed["results"]} == titles
    assert both[name].tool("itinerary_list") == listed


def test_who_may_only_look_at_airports_is_refused_the_rest(both: dict[str, Both]) -> None:
    viewer = both["viewer"]
    assert viewer.rest("GET", "itineraries/") == (403, {"detail": REFUSED})
    assert viewer.tool("itinerary_list") == REFUSED
    assert viewer.tool("itinerary_create", title="No", legs=[LEG]) == REFUSED
    assert viewer.tools & {"airport_list", "airport_retrieve", "itinerary_list", "itinerary_create"} == {
        "airport_list",
        "airport_retrieve",
    }


def test_tools_are_listed_to_who_may_call_them(both: dict[str, Both]) -> None:
    own = {"itinerary_list", "itinerary_retrieve", "itinerary_create"}
    assert own <= both["agent"].tools
    assert not {"itinerary_partial_update", "itinerary_destroy"} & both["agent"].tools
    assert own | {"itinerary_partial_update", "itinerary_destroy"} <= both["admin"].tools


def test_what_one_way_makes_the_other_shows(both: dict[str, Both]) -> None:
    agent = both["agent"]
    status, made = agent.rest("POST", "itineraries/", {"title": "By REST", "legs": [LEG]})
    assert (status, made["owner"]) == (201, "agent")
    assert agent.tool("itinerary_retrieve", pk=made["id"]) == made
    called = agent.tool("itinerary_create", title="By a tool", legs=[LEG])
    assert agent.rest("GET", f"itineraries/{called['id']}/") == (200, called)
    assert called["legs"] == [LEG]


@pytest.mark.parametrize(
    "data",
    [
        {"title": "", "legs": []},
        {"title": "To itself", "legs": [{**LEG, "destination": "ZRH"}]},
        {"title": "Nowhere", "legs": [{**LEG, "destination": "XXX"}, {"origin": "ZRH"}]},
        {"legs": "none"},
    ],
    ids=str,
)
def test_what_is_wrong_is_told_alike(both: dict[str, Both], data: dict[str, Any]) -> None:
    status, told = both["agent"].rest("POST", "itineraries/", data)
    assert status == 400
    assert json.loads(both["agent"].tool("itinerary_create", **data)) == told
    assert not Itinerary.objects.filter(legs__isnull=False).exists()


def test_only_who_may_change_any_itinerary_renames_and_deletes(both: dict[str, Both]) -> None:
    pk = Itinerary.objects.get(title="agent's own").pk
    assert both["agent"].tool("itinerary_partial_update", pk=pk, title="Mine") == REFUSED
    assert both["agent"].rest("DELETE", f"itineraries/{pk}/") == (403, {"detail": REFUSED})
    assert both["admin"].tool("itinerary_partial_update", pk=pk, title="Renamed")["title"] == "Renamed"
    assert both["admin"].rest("GET", f"itineraries/{pk}/")[1]["title"] == "Renamed"
    both["admin"].tool("itinerary_destroy", pk=pk)
    assert not Itinerary.objects.filter(pk=pk).exists()


def test_without_a_token_there_is_nothing(both: dict[str, Both]) -> None:
    assert HTTPClient().get("/api/airports/").status_code == 401
