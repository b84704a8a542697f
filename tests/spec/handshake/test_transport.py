"""MCP 2025-11-25, basic/transports: one endpoint, its answers, its streams and its sessions."""

import asyncio
import json
from typing import Any

import pytest
from django.test import AsyncClient

from django_mcp import Context, Server, notify
from django_mcp.models import MCPSession
from django_mcp.routing import mcp_application
from django_mcp.testing.asgi import stream
from tests.spec.handshake.peer import BOUND_SECONDS, EVENTS, JSON, SERVER, VERSION, Answer, Peer, Reading, subscribed

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def go_on() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def working(server: Server, go_on: asyncio.Event) -> Server:
    """Serve a tool that reports its progress, waits, and is done."""

    @server.tool
    async def work(ctx: Context, name: str = "done") -> str:
        await ctx.aprogress(1)
        await go_on.wait()
        await ctx.aprogress(2)
        return name

    return server


async def test_messages_are_utf_8_in_both_directions(server: Server) -> None:
    server.tool(name="echo")(_echo)
    peer = await Peer().begin()
    text = "Zürich 東京 🛫"
    message = {"jsonrpc": "2.0", **peer.calling("echo", text=text)}
    raw = json.dumps(message, ensure_ascii=False).encode("utf-8")
    answer = await peer.send(raw)
    assert answer.text == text
    answer.body.decode("utf-8")
    for encoding in ("utf-16", "utf-32", "latin-1"):
        refused = await peer.send('{"jsonrpc": "2.0", "id": 1, "method": "ü"}'.encode(encoding))
        assert (refused.status, refused.error["code"]) == (400, -32700)


def _echo(text: str) -> str:
    return text


@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
async def test_one_path_serves_post_and_get_and_delete(path: str) -> None:
    async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError(f"{scope['path']} is not the endpoint")

    application = mcp_application(elsewhere)
    params = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "peer", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).encode()
    headers = {"accept": f"{JSON}, {EVENTS}", "content-type": JSON}
    async with stream(application, "POST", path, headers=headers, body=body) as response:
        assert await response.started() == 200
        session = {**headers, "mcp-session-id": response.headers["mcp-session-id"]}
    async with stream(application, "GET", path, headers=session) as response:
        assert await response.started() == 200
        assert response.headers["content-type"].startswith(EVENTS)
    async with stream(application, "DELETE", path, headers=session) as response:
        assert await response.started() == 200


FOREIGN = ["https://evil.example", "http://testserver:8001", "http://testserver.evil.example", "null", ""]


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_foreign_origin_gets_403_on_every_method(server: Server, method: str, origin: str) -> None:
    peer = await Peer().begin()
    message = {"id": 1, "method": "ping"} if method == "POST" else None
    answer = await peer.send(message, method=method, origin=origin)
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers
    assert answer.error == {"code": -32600, "message": "Origin not allowed"}
    assert answer.message["id"] is None
    assert (await peer.ask("ping")).result == {}


@pytest.mark.parametrize("origin", [None, "http://testserver"])
async def test_no_origin_and_the_own_origin_are_let_in(server: Server, origin: str | None) -> None:
    assert (await (await Peer().begin()).send({"id": 1, "method": "ping"}, origin=origin)).result == {}


@pytest.mark.parametrize(
    "message",
    [
        {"method": "notifications/initialized"},
        {"method": "notifications/nothing"},
        {"method": "notifications/cancelled", "params": {"requestId": "nothing"}},
        {"id": "nobody-asked", "result": {}},
        {"id": 7, "error": {"code": 1, "message": "no"}},
    ],
)
async def test_what_needs_no_answer_gets_202_and_no_body(server: Server, message: dict[str, Any]) -> None:
    answer = await (await Peer().begin()).send(message)
    assert (answer.status, answer.body, answer.headers["content-length"]) == (202, b"", "0")
    assert "content-type" not in answer.headers


@pytest.mark.parametrize(
    "message", [{"method": "notifications/initialized"}, {"id": "x", "result": {}}], ids=["notification", "response"]
)
async def test_a_notification_or_response_that_is_not_taken_gets_an_error_status(
    server: Server, message: dict[str, Any]
) -> None:
    peer = await Peer().begin()
    refused = {
        "no session": (400, await Peer().send(message)),
        "an unknown session": (404, await Peer(session_id="x" * 43).send(message)),
        "an unknown version": (400, await peer.send(message, mcp_protocol_version="2099-01-01")),
        "a wrong shape": (400, await peer.send({**message, "params": []})),
        "a foreign origin": (403, await peer.send(message, origin="https://evil.example")),
    }
    for why, (status, answer) in refused.items():
        assert answer.status == status, why
        assert answer.message.keys() == {"jsonrpc", "id", "error"}, why


async def test_a_request_is_answered_with_json_or_a_stream(working: Server, go_on: asyncio.Event) -> None:
    go_on.set()
    peer = await Peer().begin()
    plain = await peer.call("work")
    assert plain.headers["content-type"] == "application/json"
    assert plain.text == "done"
    assert len(plain.messages) == 1
    streamed = await peer.call("work", meta={"progressToken": "t"})
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert [message.get("method") for message in streamed.messages] == [*["notifications/progress"] * 2, None]
    assert streamed.text == "done"


async def test_a_get_is_answered_with_a_stream_at_the_consumer_and_with_405_at_the_view(server: Server) -> None:
    peer = await Peer().begin()
    async with peer.listen() as response:
        assert await response.started() == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (await Reading(response).event()).event_id
    headers = {"accept": EVENTS, "mcp-session-id": peer.session_id}
    answer = await AsyncClient().get("/mcp", headers=headers)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")


# Streams


async def test_a_get_stream_carries_no_response_except_of_the_request_it_resumes(
    working: Server, go_on: asyncio.Event
) -> None:
    peer = await Peer().begin()
    async with peer.listen() as listening:
        heard = Reading(listening)
        await subscribed(1)
        async with peer.open(peer.calling("work", meta={"progressToken": "t"})) as response:
            place, first = await Reading(response).message()
            assert first["params"]["progress"] == 1
        go_on.set()
        async with peer.listen(last_event_id=place) as resumed:
            messages = await Reading(resumed).rest()
        assert [message.get("method") for message in messages] == ["notifications/progress", None]
        assert messages[-1]["result"]["content"][0]["text"] == "done"
        assert (await peer.call("work")).text == "done"
        await asyncio.to_thread(notify.prompts_changed, SERVER)
        assert (await heard.message())[1]["method"] == "notifications/prompts/list_changed"


async def test_a_message_goes_to_the_newest_of_several_open_streams_and_to_no_other(
    working: Server, go_on: asyncio.Event
) -> None:
    peer = await Peer().begin()
    async with peer.open(peer.calling("work", meta={"progressToken": "t"})) as calling:
        assert await calling.started() == 200
        async with peer.listen() as older:
            assert await older.started() == 200
            await subscribed(1)
            async with peer.listen() as newer:
                assert await Reading(older).rest() == []
                await subscribed(1)
                await asyncio.to_thread(notify.tools_changed, SERVER)
                assert (await Reading(newer).message())[1] == {
                    "jsonrpc": "2.0",
                    "method": "notifications/tools/list_changed",
                }
        go_on.set()
        messages = await Reading(calling).rest()
    assert [message.get("method") for message in messages] == [*["notifications/progress"] * 2, None]


async def test_event_ids_are_unique_over_all_streams_of_a_session(working: Server, go_on: asyncio.Event) -> None:
    go_on.set()
    peer = await Peer().begin()
    ids: list[str] = []
    for _ in range(3):
        async with peer.open(peer.calling("work", meta={"progressToken": "t"})) as response:
            reading = Reading(response)
            ids += [str((await reading.event()).event_id) for _ in range(4)]
        async with peer.listen() as response:
            reading = Reading(response)
            ids.append(str((await reading.event()).event_id))
            await subscribed(1)
            await asyncio.to_thread(notify.tools_changed, SERVER)
            ids.append((await reading.message())[0])
        await subscribed(0)
    assert len(ids) == 18
    assert len(set(ids)) == 18


async def test_replay_gives_the_messages_of_that_stream_after_that_event_only(
    working: Server, go_on: asyncio.Event
) -> None:
    peer = await Peer().begin()
    places = {}
    for name in ("one", "two"):
        async with peer.open(peer.calling("work", meta={"progressToken": name}, name=name)) as response:
            places[name] = (await Reading(response).message())[0]
    go_on.set()
    for name, place in places.items():
        async with peer.listen(last_event_id=place) as response:
            progress, final = await Reading(response).rest()
        assert progress["params"] == {"progressToken": name, "progress": 2}
        assert final["result"]["content"][0]["text"] == name


async def test_a_stream_that_is_resumed_while_the_old_connection_lingers_stays_the_sessions_stream(
    server: Server,
) -> None:
    @server.tool
    async def tell(ctx: Context) -> str:
        await ctx.sdk.session.send_tool_list_changed()
        return "told"

    peer = await Peer().begin()
    async with peer.listen() as older:
        reading = Reading(older)
        place = str((await reading.event()).event_id)
        await subscribed(1)
        async with peer.listen(last_event_id=place) as newer:
            heard = Reading(newer)
            assert await reading.rest() == []
            await subscribed(1)
            assert (await peer.call("tell")).text == "told"
            assert (await heard.message())[1]["method"] == "notifications/tools/list_changed"


# Sessions


async def test_a_session_id_is_visible_ascii(server: Server) -> None:
    ids = [(await Peer().begin()).session_id for _ in range(20)]
    assert all(0x21 <= ord(character) <= 0x7E for id_ in ids for character in id_)
    assert len(set(ids)) == 20
    assert min(map(len, ids)) >= 43


@pytest.mark.parametrize("end", ["terminate", "revoke", "expire", "delete"])
async def test_an_ended_session_gets_404_on_every_method(server: Server, end: str) -> None:
    peer = await Peer().begin()
    if end == "delete":
        assert (await peer.send(method="DELETE")).status == 200
    else:
        session = await MCPSession.objects.aget()
        await asyncio.to_thread(getattr(session, end))
    answers: list[Answer] = [
        await peer.send({"id": 1, "method": "ping"}),
        await peer.send({"method": "notifications/initialized"}),
        await peer.send({"id": 1, "result": {}}),
        await peer.send(method="GET"),
        await peer.send(method="DELETE"),
    ]
    assert [answer.status for answer in answers] == [404] * 5
    assert all(answer.error == {"code": -32600, "message": "Session not found"} for answer in answers)


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("version", ["2099-01-01", "1.0", "", "latest", "2025-11-25, 2025-06-18"])
async def test_a_version_header_that_names_no_version_gets_400(server: Server, method: str, version: str) -> None:
    peer = await Peer().begin()
    message = {"id": 7, "method": "ping"} if method == "POST" else None
    answer = await asyncio.wait_for(peer.send(message, method=method, mcp_protocol_version=version), BOUND_SECONDS)
    assert (answer.status, answer.error) == (400, {"code": -32600, "message": "Unsupported protocol version"})
    assert (await peer.ask("ping")).result == {}


@pytest.mark.parametrize("version", [None, "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_no_version_header_and_that_of_another_version_with_sessions_are_let_in(
    server: Server, version: str | None
) -> None:
    peer = await Peer().begin()
    assert (await peer.send({"id": 7, "method": "ping"}, mcp_protocol_version=version)).result == {}
