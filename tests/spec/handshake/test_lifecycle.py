"""MCP 2025-11-25, basic/lifecycle and the declaration of capabilities by each feature's page."""

from collections.abc import Callable
from typing import Any

import pytest
from mcp_types import ListRootsRequest, ListRootsResult, SamplingMessage, TextContent, Tool
from pydantic import BaseModel

from django_mcp import Context, Sample, Server
from django_mcp.core import sse
from django_mcp.models import MCPSession
from tests.spec.handshake.peer import Peer, Reading

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("method", ["ping", "tools/list", "tools/call", "notifications/initialized"])
async def test_nothing_is_served_before_initialize(server: Server, method: str) -> None:
    message: dict[str, Any] = {"method": method, "params": {"name": "hello"}}
    if not method.startswith("notifications/"):
        message["id"] = 1
    answer = await Peer().send(message)
    assert (answer.status, answer.error) == (400, {"code": -32600, "message": "Missing session id"})
    assert await MCPSession.objects.acount() == 0


async def test_initialize_answers_with_capabilities_and_identity(server: Server) -> None:
    server.version, server.title, server.instructions = "1.2", "Tested", "Call what you like"
    result = (await Peer().initialize("2025-11-25")).result
    assert result["protocolVersion"] == "2025-11-25"
    assert result["serverInfo"] == {"name": "tested", "version": "1.2", "title": "Tested"}
    assert result["instructions"] == "Call what you like"
    assert result["capabilities"] == {
        "completions": {},
        "logging": {},
        "prompts": {"listChanged": True},
        "resources": {"listChanged": True, "subscribe": True},
        "tools": {"listChanged": True},
    }


async def test_what_is_declared_is_served(server: Server) -> None:
    server.prompt(name="greet")(lambda name: f"Greet {name}")
    peer = Peer()
    answer = await peer.initialize("2025-11-25")
    peer.session_id = answer.headers["mcp-session-id"]
    served = {
        "completions": ("completion/complete", _completion("greet")),
        "logging": ("logging/setLevel", {"level": "info"}),
        "prompts": ("prompts/list", {}),
        "resources": ("resources/list", {}),
        "tools": ("tools/list", {}),
    }
    assert answer.result["capabilities"].keys() == served.keys()
    for method, params in served.values():
        assert (await peer.ask(method, **params)).result is not None


def _completion(prompt: str) -> dict[str, Any]:
    return {"ref": {"type": "ref/prompt", "name": prompt}, "argument": {"name": "name", "value": ""}}


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18", "2025-11-25"])
async def test_a_version_that_is_served_is_confirmed(server: Server, version: str) -> None:
    answer = await Peer().initialize(version)
    assert answer.result["protocolVersion"] == version
    assert (await MCPSession.objects.aget()).protocol_version == version


@pytest.mark.parametrize("version", ["2026-07-28", "2099-01-01", "2025-11-2", "1.0", "", "latest"])
async def test_any_other_version_is_answered_with_the_newest_that_has_sessions(server: Server, version: str) -> None:
    answer = await Peer().initialize(version)
    assert (answer.status, answer.result["protocolVersion"]) == (200, "2025-11-25")
    assert (await MCPSession.objects.aget()).protocol_version == "2025-11-25"


class Name(BaseModel):
    name: str


SAY = [SamplingMessage(role="user", content=TextContent(type="text", text="Say something"))]
TOOLS = [Tool(name="t", input_schema={"type": "object"})]
ASKING: dict[str, Callable[[Context], Any]] = {
    "a form": lambda ctx: ctx.aelicit("Who?", Name),
    "the model": lambda ctx: ctx.asample(Sample(SAY, max_tokens=1)),
    "the model with tools": lambda ctx: ctx.asample(Sample(SAY, max_tokens=1, tools=TOOLS)),
    "roots": lambda ctx: ctx.alist_roots(),
    "roots on the session's stream": lambda ctx: ctx.sdk.session.send_request(ListRootsRequest(), ListRootsResult),
}


@pytest.mark.parametrize(
    ("question", "capabilities", "missing"),
    [
        ("a form", {}, {"elicitation": {"form": {}}}),
        ("a form", {"elicitation": {"url": {}}}, {"elicitation": {"form": {}}}),
        ("the model", {"elicitation": {}, "roots": {}}, {"sampling": {}}),
        ("the model with tools", {"sampling": {}}, {"sampling": {"tools": {}}}),
        ("roots", {"elicitation": {}, "sampling": {}}, {"roots": {}}),
        ("roots on the session's stream", {}, {"roots": {}}),
    ],
)
async def test_nothing_is_asked_that_the_client_cannot_answer(
    server: Server, question: str, capabilities: dict[str, Any], missing: dict[str, Any]
) -> None:
    @server.tool
    async def ask(ctx: Context) -> str:
        await ASKING[question](ctx)
        return "asked"

    peer = await Peer().begin(**capabilities)
    async with peer.listen() as listening:
        assert await listening.started() == 200
        answer = await peer.call("ask")
    assert [message.get("method") for message in answer.messages] == [None]
    assert answer.error["code"] == -32021
    assert answer.error["data"] == {"requiredCapabilities": missing}


@pytest.mark.parametrize(
    ("question", "capabilities"),
    [
        ("a form", {"elicitation": {}}),
        ("a form", {"elicitation": {"form": {}, "url": {}}}),
        ("the model", {"sampling": {}}),
        ("the model with tools", {"sampling": {"tools": {}}}),
        ("roots", {"roots": {}}),
    ],
)
async def test_what_the_client_declared_is_asked(server: Server, question: str, capabilities: dict[str, Any]) -> None:
    @server.tool
    async def ask(ctx: Context) -> str:
        await ASKING[question](ctx)
        return "asked"

    peer = await Peer().begin(**capabilities)
    async with peer.open(peer.calling("ask")) as response:
        reading = Reading(response)
        asked = (await reading.message())[1]
        assert "id" in asked
        assert (await peer.send({"id": asked["id"], "error": {"code": -1, "message": "no"}})).status == 202
        assert (await reading.rest())[-1]["error"] == {"code": -1, "message": "no"}


async def test_a_session_keeps_to_what_its_version_has(server: Server) -> None:
    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.ainfo("working")
        return "done"

    array = [{"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", "id": 2, "method": "ping"}]
    for version, batches, primes in (
        ("2025-03-26", True, False),
        ("2025-06-18", False, False),
        ("2025-11-25", False, True),
    ):
        peer = await Peer(version).begin()
        assert (await peer.send(array)).status == (200 if batches else 400)
        events = [event for event in sse.Decoder().feed((await peer.call("work")).body) if not event.data]
        assert len(events) == (1 if primes else 0)
