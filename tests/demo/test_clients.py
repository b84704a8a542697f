"""The clients in the field use the demo over HTTP, each with an access token."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.demo.served import Served
from tests.live.node_client import inspect, typescript_call
from tests.live.official import Person, connect
from tests.live.wire import Caller
from tests.test_readme import snippets

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

ZRH_JFK = {"origin": "ZRH", "destination": "JFK"}
LEG = {**ZRH_JFK, "departs_on": "2027-03-01"}
REPLAYS = 64


def caller(served: Served, name: str) -> Caller:
    return Caller(port=served.port, headers=[("Authorization", f"Bearer {served.token(name)}")])


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_python_client_plans_and_books(served: Served, mode: str) -> None:
    person = Person(confirm=True)
    async with connect(f"{served.address}/mcp", mode, token=served.token("agent"), person=person) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert {"search_airports", "distance", "plan_itinerary", "book", "database_query"} <= tools
        distance = await client.call_tool("distance", ZRH_JFK)
        assert distance.structured_content is not None
        assert distance.structured_content["km"] == pytest.approx(6_310, rel=0.01)
        planned = await client.call_tool("plan_itinerary", {"title": f"There, {mode}", "legs": [LEG]})
        assert planned.structured_content is not None
        booking = {"itinerary_id": planned.structured_content["id"], "traveller": "Ada Lovelace"}
        booked = await client.call_tool("book", booking)
        assert not booked.is_error, booked.content
        (question,) = person.asked
        assert question.startswith(f"Book “There, {mode}”")
        airport = await client.read_resource("airport://ZRH")
        assert "Zurich" in str(airport.contents)


@pytest.mark.parametrize("snippet", range(3))
async def test_a_configuration_of_the_readme_connects_the_official_client(served: Served, snippet: int) -> None:
    config = json.loads(snippets("json")[snippet].text)
    entry = next(iter(config.values()))["travel-desk"]
    url = entry["url"].replace("http://127.0.0.1:8000", served.address)
    assert list(entry["headers"]) == ["Authorization"]
    token = entry["headers"]["Authorization"].replace("mcp_your_token", served.token("agent"))
    async with connect(url, "auto", token=token.removeprefix("Bearer ")) as client:
        assert "distance" in {tool.name for tool in (await client.list_tools()).tools}


def test_the_official_typescript_client_lists_and_calls(served: Served, tmp_path: Path) -> None:
    report = typescript_call(tmp_path, f"{served.address}/mcp", served.token("agent"), "distance", ZRH_JFK)
    assert "plan_itinerary" in report["tools"]
    assert report["result"]["structuredContent"]["origin"] == "ZRH"


def test_the_inspector_lists_and_calls(served: Served, tmp_path: Path) -> None:
    url, token = f"{served.address}/mcp", served.token("agent")
    listed = inspect(tmp_path, url, token, "--method", "tools/list")
    assert "distance" in {tool["name"] for tool in listed["tools"]}
    arguments = ("--tool-arg", "origin=ZRH", "--tool-arg", "destination=JFK")
    called = inspect(tmp_path, url, token, "--method", "tools/call", "--tool-name", "distance", *arguments)
    assert called["structuredContent"]["destination"] == "JFK"


def test_who_may_not_book_sees_no_booking(served: Served) -> None:
    viewer = caller(served, "viewer")
    listed = viewer.modern("tools/list", {})
    assert "book" not in {tool["name"] for tool in listed.result["tools"]}
    refused = viewer.modern("tools/call", {"name": "book", "arguments": {}})
    assert (refused.status, refused.error["code"]) == (400, -32602)


def test_many_replays_of_one_confirmation_at_two_processes_make_one_booking(served: Served, second: Served) -> None:
    agents = [caller(served, "agent"), caller(served, "agent").at(second.port)]

    def call(name: str, arguments: dict[str, Any], *, at: int = 0, **more: Any) -> dict[str, Any]:
        answer = agents[at].modern("tools/call", {"name": name, "arguments": arguments, **more})
        return dict(answer.result)

    planned = call("plan_itinerary", {"title": "Replayed", "legs": [LEG]})["structuredContent"]
    booking = {"itinerary_id": planned["id"], "traveller": "Ada Lovelace"}
    asked = call("book", booking)
    (question,) = asked["inputRequests"]
    last = {
        "inputResponses": {question: {"action": "accept", "content": {"confirm": True}}},
        "requestState": asked["requestState"],
    }
    with ThreadPoolExecutor(max_workers=REPLAYS) as pool:
        made = list(pool.map(lambda number: call("book", booking, at=number % 2, **last), range(REPLAYS)))

    assert len({json.dumps(one, sort_keys=True) for one in made}) == 1
    listed = call("my_bookings", {})["structuredContent"]["result"]
    assert [one["reference"] for one in listed].count(made[0]["structuredContent"]["reference"]) == 1


def test_legs_that_are_drafted_at_once_at_two_processes_are_all_there(served: Served, second: Served) -> None:
    agents = [caller(served, "agent"), caller(served, "agent").at(second.port)]

    def call(name: str, *, at: int = 0, **arguments: Any) -> dict[str, Any]:
        answer = agents[at].modern("tools/call", {"name": name, "arguments": arguments})
        return dict(answer.result["structuredContent"])

    days = [f"2027-03-{day:02}" for day in range(1, 17)]
    handle = call("show_draft")["handle"]
    with ThreadPoolExecutor(max_workers=len(days)) as pool:
        drafted = [
            pool.submit(call, "draft_leg", at=number % 2, **ZRH_JFK, departs_on=day, handle=handle)
            for number, day in enumerate(days)
        ]
    assert [one.result()["handle"] for one in drafted] == [handle] * len(days)
    assert [leg["departs_on"] for leg in call("show_draft", handle=handle)["legs"]] == days


def test_a_draft_that_is_kept_at_once_at_two_processes_is_one_itinerary(served: Served, second: Served) -> None:
    agents = [caller(served, "agent"), caller(served, "agent").at(second.port)]

    def call(name: str, arguments: dict[str, Any], *, at: int = 0) -> dict[str, Any]:
        return dict(agents[at].modern("tools/call", {"name": name, "arguments": arguments}).result)

    handle = call("draft_leg", LEG)["structuredContent"]["handle"]
    keeping = {"title": "Kept once", "handle": handle}
    with ThreadPoolExecutor(max_workers=8) as pool:
        kept = list(pool.map(lambda number: call("keep_draft", keeping, at=number % 2), range(8)))

    refusals = {one["content"][0]["text"] for one in kept if one["isError"]}
    assert refusals <= {"The draft is empty.", "Nothing was changed: another call changed 'legs' meanwhile."}
    assert [one["isError"] for one in kept].count(False) == 1
    listed = call("my_itineraries", {})["structuredContent"]["result"]
    assert [one["title"] for one in listed].count("Kept once") == 1
