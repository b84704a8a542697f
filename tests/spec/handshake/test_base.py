"""MCP 2025-11-25, basic: JSON-RPC messages and `_meta`."""

import asyncio
from typing import Any

import pytest
from mcp_types import JSONRPCMessage
from pydantic import BaseModel, TypeAdapter

from django_mcp import Context, Server, notify
from django_mcp.exceptions import RegistryError
from django_mcp.server.call import QUESTION_META_KEY
from django_mcp.server.compile import compiled
from tests.spec.handshake.peer import EVERYTHING, SERVER, Message, Peer, Reading, subscribed

pytestmark = pytest.mark.django_db(transaction=True)

ANY_MESSAGE: TypeAdapter[Any] = TypeAdapter(JSONRPCMessage)


class Name(BaseModel):
    name: str


@pytest.fixture
def talkative(server: Server) -> Server:
    """Serve a tool that sends whatever a call can send: progress, a log message and two questions."""

    @server.tool
    async def talk(ctx: Context) -> str:
        await ctx.aprogress(1)
        await ctx.ainfo("a log message")
        first, second = await asyncio.gather(ctx.aelicit("Who?", Name), ctx.alist_roots())
        return f"{first.action} {len(second.roots)}"

    return server


async def hear_everything(peer: Peer, *, times: int = 1) -> list[Message]:
    """Return what the server sends over calls of the talkative tool, a failure, a ping and a change of a list."""
    answers = {
        "elicitation/create": {"action": "accept", "content": {"name": "Eve"}},
        "roots/list": {"roots": [{"uri": "file:///"}]},
    }
    heard: list[Message] = []
    for _ in range(times):
        async with peer.open(peer.calling("talk", meta={"progressToken": "t"})) as response:
            reading = Reading(response)
            while "result" not in (message := (await reading.message())[1]):
                heard.append(message)
                if "id" in message:
                    reply = {"id": message["id"], "result": answers[message["method"]]}
                    assert (await peer.send(reply)).status == 202
            assert message["result"]["content"][0]["text"] == "accept 1"
            heard.append(message)
    async with peer.listen() as response:
        await subscribed(1)
        await asyncio.to_thread(notify.tools_changed, SERVER)
        heard.append((await Reading(response).message())[1])
    return [*heard, (await peer.ask("ping")).message, (await peer.ask("tools/destroy")).message]


async def test_a_session_runs_from_initialize_to_its_end(server: Server) -> None:
    server.tool(name="hello")(lambda: "hi")
    peer = await Peer().begin()
    assert (await peer.ask("ping")).result == {}
    assert [tool["name"] for tool in (await peer.ask("tools/list")).result["tools"]] == ["hello"]
    assert (await peer.call("hello")).text == "hi"
    assert (await peer.send(method="DELETE")).status == 200
    assert (await peer.ask("ping")).status == 404


async def test_every_message_of_the_server_is_json_rpc(talkative: Server) -> None:
    heard = await hear_everything(await Peer().begin(**EVERYTHING))
    assert sorted(message["method"] for message in heard if "method" in message) == [
        "elicitation/create",
        "notifications/message",
        "notifications/progress",
        "notifications/tools/list_changed",
        "roots/list",
    ]
    for message in heard:
        assert message["jsonrpc"] == "2.0"
        ANY_MESSAGE.validate_python(message)


@pytest.mark.parametrize("id_", [None, True, 1.5, 7.0, {}, [7]])
async def test_a_request_id_that_is_no_string_or_integer_is_refused(server: Server, id_: Any) -> None:
    peer = await Peer().begin()
    answer = await peer.send({"id": id_, "method": "ping"})
    assert (answer.status, answer.error["code"]) == (400, -32600)


async def test_the_servers_requests_have_a_string_as_id_and_never_the_same_twice(talkative: Server) -> None:
    heard = await hear_everything(await Peer().begin(**EVERYTHING), times=3)
    ids = [message["id"] for message in heard if "id" in message and "method" in message]
    assert len(ids) == 6
    assert all(isinstance(id_, str) for id_ in ids)
    assert len(set(ids)) == 6


@pytest.mark.parametrize("id_", [0, 7, -7, 2**53, "", "7", "ä"])
@pytest.mark.parametrize("method", ["ping", "tools/destroy"])
async def test_a_response_has_the_id_of_its_request(server: Server, method: str, id_: Any) -> None:
    peer = await Peer().begin()
    message = (await peer.send({"id": id_, "method": method})).message
    assert message["id"] == id_
    assert type(message["id"]) is type(id_)


async def test_a_success_has_a_result_and_no_error(server: Server) -> None:
    server.tool(name="hello")(lambda: "hi")
    peer = await Peer().begin()
    for answer in (await peer.ask("ping"), await peer.ask("tools/list"), await peer.call("hello")):
        assert answer.status == 200
        assert answer.message.keys() == {"jsonrpc", "id", "result"}
        assert isinstance(answer.result, dict)


REFUSED: dict[str, dict[str, Any]] = {
    "unknown method": {"method": "tools/destroy"},
    "unknown tool": {"method": "tools/call", "params": {"name": "nothing"}},
    "params of a wrong shape": {"method": "tools/call", "params": {"name": 7}},
    "unknown resource": {"method": "resources/read", "params": {"uri": "note://nothing"}},
    "unknown prompt": {"method": "prompts/get", "params": {"name": "nothing"}},
    "bad cursor": {"method": "tools/list", "params": {"cursor": "bogus"}},
    "initialize without params": {"method": "initialize"},
    "a resource that fails": {"method": "resources/read", "params": {"uri": "note://failing"}},
}


@pytest.mark.parametrize("message", REFUSED.values(), ids=REFUSED)
async def test_an_error_has_the_id_of_its_request_a_whole_number_and_a_message(
    server: Server, message: Message
) -> None:
    @server.resource("note://failing")
    def failing() -> str:
        raise RuntimeError("inside")

    peer = await Peer().begin()
    answer = await peer.send({"id": "the id", **message})
    assert answer.message.keys() == {"jsonrpc", "id", "error"}
    assert answer.message["id"] == "the id"
    assert type(answer.error["code"]) is int
    assert answer.error["code"] in {-32601, -32602, -32603}
    assert isinstance(answer.error["message"], str)
    assert answer.error["message"]


async def test_an_error_of_a_session_that_is_not_there_has_the_id_of_its_request(server: Server) -> None:
    for peer, status in ((Peer(session_id="x" * 43), 404), (Peer(), 400)):
        answer = await peer.send({"id": "the id", "method": "ping"})
        assert (answer.status, answer.message["id"], answer.error["code"]) == (status, "the id", -32600)


@pytest.mark.parametrize("body", [b'{"jsonrpc": "2.0", "id": 7', b"7", b'{"id": {}, "method": "ping"}'])
async def test_an_error_has_a_null_id_where_none_could_be_read(server: Server, body: bytes) -> None:
    peer = await Peer().begin()
    answer = await peer.send(body)
    assert (answer.status, answer.message["id"]) == (400, None)


@pytest.mark.parametrize(
    "message",
    [
        {"method": "notifications/initialized"},
        {"method": "notifications/nothing"},
        {"method": "notifications/cancelled", "params": {"requestId": {}}},
        {"method": "notifications/cancelled"},
        {"method": "notifications/roots/list_changed", "params": {"_meta": 7}},
        {"method": "tools/call", "params": {"name": "hello"}},
    ],
)
async def test_a_notification_is_never_answered(server: Server, message: Message) -> None:
    runs: list[str] = []
    server.tool(name="hello")(lambda: runs.append("hello"))
    peer = await Peer().begin()
    answer = await peer.send(message)
    assert (answer.status, answer.body) == (202, b"")
    assert runs == []


async def test_the_servers_notifications_have_no_id(talkative: Server) -> None:
    heard = await hear_everything(await Peer().begin(**EVERYTHING))
    notifications = [message for message in heard if message.get("method", "").startswith("notifications/")]
    assert len(notifications) == 3
    assert all(message.keys() <= {"jsonrpc", "method", "params"} for message in notifications)


# _meta


@pytest.mark.parametrize("value", [None, 7, "x", [], {"a": 1}])
async def test_nothing_is_read_into_reserved_keys_of_meta(server: Server, value: Any) -> None:
    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.ainfo("working")
        return "done"

    peer = await Peer().begin()
    names = ("logLevel", "clientInfo", "clientCapabilities", "related-task", "nothing-known")
    reserved = {f"io.modelcontextprotocol/{name}": value for name in names}
    answer = await peer.call("work", meta={**reserved, "dev.mcp/x": value, "mcp.example/x": value})
    assert [message.get("method") for message in answer.messages] == ["notifications/message", None]
    assert answer.text == "done"


@pytest.mark.parametrize(
    "key", ["org.django-mcp/question", "a/b", "example.com/x_y-z.1", "com.example/", "plain", "x9", QUESTION_META_KEY]
)
async def test_a_key_of_meta_that_follows_the_rules_is_served(server: Server, key: str) -> None:
    server.tool(name="hello", meta={key: 1})(lambda: "hi")
    peer = await Peer().begin()
    assert (await peer.ask("tools/list")).result["tools"][0]["_meta"] == {key: 1}


@pytest.mark.parametrize(
    "key",
    [
        "1com.example/x",
        "-a.example/x",
        "com.example-/x",
        "com..example/x",
        "com.exa_mple/x",
        "/x",
        "com.example/x/y",
        "com.example/-x",
        "com.example/x-",
        "_x",
        "x.",
        "a b",
        "ä",
    ],
)
def test_a_key_of_meta_that_breaks_the_rules_is_refused_at_load(server: Server, key: str) -> None:
    server.tool(name="hello", meta={key: 1})(lambda: "hi")
    with pytest.raises(RegistryError, match=r"test_base\.py:\d+: tool 'hello' has the key"):
        compiled(server)
