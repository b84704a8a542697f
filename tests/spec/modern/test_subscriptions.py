"""`subscriptions/listen`: what is sent, in which order, and how it ends (basic/patterns/subscriptions)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction
from pytest_django import Settings

from django_mcp import Server, notify
from django_mcp.registry.server import DEFAULT, servers
from django_mcp.server import changes
from django_mcp.server.compile import compiled
from django_mcp.sessions.stores import store
from tests.spec.modern.wire import SERVER, SUBSCRIPTION, Opened, opened, request

pytestmark = pytest.mark.django_db(transaction=True)

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
LISTS: dict[str, Callable[[str], None]] = {
    "tools": notify.tools_changed,
    "prompts": notify.prompts_changed,
    "resources": notify.resources_changed,
}
URI = "note://today"


@pytest.fixture(autouse=True)
def quick(settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public", "POLL_SECONDS": 0.05}


@asynccontextmanager
async def listening(request_id: Any = "sub", **wanted: Any) -> AsyncIterator[Opened]:
    """Open a subscription and read its acknowledgement."""
    message = request("subscriptions/listen", {"notifications": wanted}, id=request_id)
    async with opened(message) as answer:
        first = await answer.next()
        assert (first["method"], first["params"]["_meta"]) == (ACKNOWLEDGED, {SUBSCRIPTION: request_id})
        yield answer


@sync_to_async
def publish_everything(last: str) -> None:
    """Publish one change of each kind, that of the list `last` at the end."""
    notify.resource_updated("note://other", SERVER)
    notify.resource_updated(URI, SERVER)
    for name in sorted(LISTS, key=lambda name: name == last):
        LISTS[name](SERVER)


@sync_to_async
def publish_at_once(*uris: str) -> None:
    """Publish changes that every reader sees together."""
    with transaction.atomic():
        for uri in uris:
            store(DEFAULT).publish_change(compiled(servers[SERVER]).key, "resource", uri)


@pytest.mark.parametrize("kind", LISTS)
async def test_only_the_list_that_was_asked_for_is_told(full: Server, kind: str) -> None:
    others = {f"{name}ListChanged": False for name in LISTS if name != kind}
    async with listening(**others, **{f"{kind}ListChanged": True}) as answer:
        for _ in range(2):
            await publish_everything(last=kind)
            assert (await answer.next())["method"] == f"notifications/{kind}/list_changed"


async def test_only_the_resources_that_were_asked_for_are_told(full: Server) -> None:
    async with listening(resourceSubscriptions=[URI]) as answer:
        for _ in range(2):
            await publish_everything(last="tools")
            message = await answer.next()
            assert (message["method"], message["params"]["uri"]) == ("notifications/resources/updated", URI)


async def test_the_acknowledgement_says_what_is_delivered(full: Server) -> None:
    wanted = {"toolsListChanged": True, "promptsListChanged": False, "resourceSubscriptions": [URI, URI]}
    async with opened(request("subscriptions/listen", {"notifications": wanted})) as answer:
        params = (await answer.next())["params"]
        assert params["notifications"] == {"toolsListChanged": True, "resourceSubscriptions": [URI]}


async def test_the_acknowledgement_comes_first_even_when_changes_are_published_meanwhile(full: Server) -> None:
    async with listening("first", toolsListChanged=True) as first:
        for number in range(10):
            publishing = asyncio.create_task(sync_to_async(notify.tools_changed)(SERVER))
            # What opens a subscription asserts that nothing comes before its acknowledgement.
            async with listening(number, toolsListChanged=True) as answer:
                await publishing
                await sync_to_async(notify.tools_changed)(SERVER)
                assert (await answer.next())["method"] == "notifications/tools/list_changed"
            assert (await first.next())["method"] == "notifications/tools/list_changed"


@pytest.mark.parametrize("request_id", [7, "7"])
async def test_every_message_carries_the_id_of_its_subscription(full: Server, request_id: Any) -> None:
    async with listening(request_id, toolsListChanged=True, resourceSubscriptions=[URI]) as answer:
        await publish_everything(last="tools")
        for _ in range(2):
            message = await answer.next()
            assert "id" not in message
            assert message["params"]["_meta"] == {SUBSCRIPTION: request_id}
            assert type(message["params"]["_meta"][SUBSCRIPTION]) is type(request_id)


async def test_subscriptions_at_once_are_told_each_of_its_own(full: Server) -> None:
    async with listening("a", toolsListChanged=True) as one, listening("b", promptsListChanged=True) as other:
        await publish_everything(last="tools")
        first, second = await one.next(), await other.next()
    assert (first["method"], first["params"]["_meta"][SUBSCRIPTION]) == ("notifications/tools/list_changed", "a")
    assert (second["method"], second["params"]["_meta"][SUBSCRIPTION]) == ("notifications/prompts/list_changed", "b")


async def test_a_subscription_that_the_server_ends_is_cancelled_by_its_id_and_answered(
    full: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_BACKLOG", 1)
    async with listening("mine", resourceSubscriptions=["note://never"]) as answer:
        await publish_at_once("note://one", "note://another")
        cancelled = await answer.next()
        result = await answer.next()
        assert await answer.rest() == []
        await answer.response.over()
    assert cancelled["method"] == "notifications/cancelled"
    assert cancelled["params"]["requestId"] == "mine"
    assert cancelled["params"]["_meta"] == {SUBSCRIPTION: "mine"}
    assert "id" not in cancelled
    assert result["id"] == "mine"
    assert result["result"]["resultType"] == "complete"
    assert result["result"]["_meta"][SUBSCRIPTION] == "mine"


async def test_a_subscription_that_the_client_ends_is_not_cancelled(full: Server) -> None:
    async with listening(toolsListChanged=True) as answer:
        await publish_everything(last="tools")
        assert (await answer.next())["method"] == "notifications/tools/list_changed"
        answer.response.disconnect()
        await answer.response.over()
        assert await answer.rest() == []
