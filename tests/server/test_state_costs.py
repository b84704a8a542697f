"""What a stateful call costs the store: calls, blobs read, bytes written, whatever the size of the state."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from django_mcp import Server, State, ToolError
from django_mcp.sessions.stores.database import DatabaseStore
from django_mcp.sessions.stores.database_state import DatabaseStateStore
from django_mcp.sessions.stores.state import ConversationRecord, Head
from django_mcp.testing import Client

pytestmark = pytest.mark.django_db

DOCUMENT_BYTES = 5 * 1024 * 1024
MOST_WRITTEN = 64 * 1024
MAX_TOKEN_LENGTH = 300


class RecordingState(DatabaseStateStore):
    """A store that remembers what was asked of it, and how many bytes it was given."""

    asked: ClassVar[list[str]] = []
    written: ClassVar[int] = 0

    def begin(self, **kwargs: Any) -> Head:
        self.asked.append("begin")
        return super().begin(**kwargs)

    def find(self, *args: Any, **kwargs: Any) -> Head:
        self.asked.append("find")
        return super().find(*args, **kwargs)

    def find_by_handle(self, *args: Any, **kwargs: Any) -> Head:
        self.asked.append("find")
        return super().find_by_handle(*args, **kwargs)

    def find_named(self, *args: Any, **kwargs: Any) -> Head:
        self.asked.append("find")
        return super().find_named(*args, **kwargs)

    def commit(self, *args: Any, manifest: bytes, blobs: Mapping[str, bytes], **kwargs: Any) -> Head:
        self.asked.append("commit")
        type(self).written += len(manifest) + sum(map(len, blobs.values()))
        return super().commit(*args, manifest=manifest, blobs=blobs, **kwargs)

    def blob(self, conversation: ConversationRecord, digest: str) -> bytes:
        self.asked.append("blob")
        return DatabaseStateStore.blobs(self, conversation, [digest])[digest]

    def note(self, *args: Any, **kwargs: Any) -> None:
        self.asked.append("note")
        super().note(*args, **kwargs)

    def expire(self, *args: Any) -> bool:
        self.asked.append("expire")
        return super().expire(*args)


class RecordingStore(DatabaseStore):
    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self._state = RecordingState(alias, params)


@pytest.fixture
def recorded(settings: Settings) -> Iterator[type[RecordingState]]:
    settings.DJANGO_MCP = {"STORES": {"default": {"BACKEND": f"{__name__}.RecordingStore"}}}
    yield RecordingState
    RecordingState.asked.clear()
    RecordingState.written = 0


Fill = Callable[[State], None]

FILLS: dict[str, tuple[Fill, str]] = {
    "one value": (lambda state: state.update(document="d" * DOCUMENT_BYTES), "document"),
    "500 values": (
        lambda state: state.update({f"part {number}": f"{number:>5}" * 2_097 for number in range(500)}),
        "part 250",
    ),
    "20,000 keys": (
        lambda state: state.update({f"key {number}": f"{number:>5}" * 52 for number in range(20_000)}),
        "key 10000",
    ),
}


@pytest.mark.parametrize("shape", FILLS)
def test_a_large_state_costs_what_is_touched(server: Server, recorded: type[RecordingState], shape: str) -> None:
    fill, key = FILLS[shape]

    @server.tool(name="fill")
    def fill_up(state: State) -> None:
        fill(state)

    @server.tool
    def change(state: State, key: str) -> None:
        state[key] = "changed"

    @server.tool(read_only=True)
    def look(state: State, key: str) -> int:
        return len(state[key])

    client = Client(User.objects.create_user("ada"), server="tested")
    filled = client.call("fill")
    assert not filled.is_error, filled.text
    assert recorded.written > DOCUMENT_BYTES
    length = len(filled.headers["mcp-resumption-token"])
    assert length <= MAX_TOKEN_LENGTH

    recorded.asked.clear()
    assert client.call("look", {"key": key, "handle": filled.handle}).structured["result"] > 200
    assert recorded.asked == ["find", "blob"]

    for changed in (key, "a new one"):
        recorded.asked.clear()
        recorded.written = 0
        answer = client.call("change", {"key": changed, "handle": filled.handle})
        assert recorded.written < MOST_WRITTEN
        assert [call for call in recorded.asked if call != "blob"] == ["find", "commit"]
        assert len(answer.headers["mcp-resumption-token"]) == length


@pytest.mark.parametrize("mode", ["modern", "legacy"])
@pytest.mark.parametrize("tool", ["count", "acount"])
def test_a_call_is_one_store_call_to_read_and_one_to_write(
    server: Server, recorded: type[RecordingState], mode: str, tool: str
) -> None:
    @server.tool
    def count(state: State) -> int:
        return int(state.update("total", lambda total: total + 1, default=0))

    @server.tool
    async def acount(state: State) -> int:
        return int(state.update("total", lambda total: total + 1, default=0))

    @server.tool(read_only=True)
    async def look(state: State) -> int:
        return int(state["total"])

    client = Client(User.objects.create_user("ada"), server="tested", mode=mode)
    first = client.call(tool)
    assert recorded.asked == ["begin", "commit"]
    recorded.asked.clear()
    client.call(tool, {"handle": first.handle})
    assert recorded.asked == ["find", "commit"]
    recorded.asked.clear()
    client.call("look", {"handle": first.handle})
    assert recorded.asked == ["find"]


def test_a_call_that_changes_nothing_is_one_store_call_to_note(
    server: Server, recorded: type[RecordingState], settings: Settings
) -> None:
    @server.tool
    def touch(state: State, fail: bool = False) -> int:
        if fail:
            raise ToolError("no")
        return len(state)

    client = Client(User.objects.create_user("ada"), server="tested")
    handle = client.call("touch").handle
    for arguments in ({}, {"fail": True}):
        recorded.asked.clear()
        client.call("touch", {"handle": handle, **arguments})
        assert recorded.asked == ["find", "note"]
    settings.DJANGO_MCP = {**settings.DJANGO_MCP, "CALL_NOTES": 0}
    recorded.asked.clear()
    client.call("touch", {"handle": handle})
    assert recorded.asked == ["find"]


def test_a_stateless_call_asks_the_store_nothing(server: Server, recorded: type[RecordingState]) -> None:
    @server.tool
    def plain() -> int:
        return 1

    Client(User.objects.create_user("ada"), server="tested").call("plain")
    assert recorded.asked == []
