"""Rates of a tool and of a server: whose calls count together, what is refused how, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

from django_mcp import Server
from django_mcp.core.rate import Rate
from django_mcp.exceptions import RegistryError
from django_mcp.server import counter as counting
from django_mcp.server.compile import compiled
from django_mcp.testing import Client, MCPClientError
from tests import services

both_eras = pytest.mark.parametrize("mode", ["modern", "legacy"])
pytestmark = pytest.mark.django_db

NOON = 1_800_000_000.0 // 86_400 * 86_400 + 43_200


class BrokenCache(LocMemCache):
    """A cache that is down."""

    def add(self, *args: Any, **kwargs: Any) -> bool:
        raise ConnectionError("nobody there")


class PlainCache(LocMemCache):
    """A cache that counts as a backend without a counter of its own does."""

    incr = BaseCache.incr


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    caches["default"].clear()
    with override_settings(DJANGO_MCP={"ACCESS": "public"}):
        yield


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    clock = SimpleNamespace(time=lambda: NOON, monotonic=time.monotonic)
    monkeypatch.setattr(counting, "time", clock)

    def set_to(seconds: float) -> None:
        clock.time = lambda: seconds

    return set_to


@pytest.fixture
def ran(server: Server) -> list[str]:
    """Define a tool that may be called twice a minute, and one without a rate; note what ran."""
    ran: list[str] = []

    @server.tool(rate="2/minute")
    def rare() -> str:
        ran.append("rare")
        return "done"

    @server.tool
    def free() -> str:
        ran.append("free")
        return "done"

    return ran


def refusal(client: Client, tool: str = "rare") -> MCPClientError:
    with pytest.raises(MCPClientError) as caught:
        client.call(tool)
    return caught.value


@both_eras
def test_a_call_too_many_is_429_and_does_not_run(server: Server, ran: list[str], mode: str, set_clock: Any) -> None:
    set_clock(NOON + 12.5)
    client = Client(server=server.name, mode=mode)
    for _ in range(2):
        assert client.call("rare").text == "done"
    refused = refusal(client)
    assert refused.status == 429
    assert refused.message == "Too many calls; come back in 48 seconds"
    assert ran == ["rare", "rare"]
    assert client.call("free").text == "done"
    set_clock(NOON + 60)
    assert client.call("rare").text == "done"


def test_each_principal_tenant_and_server_has_a_count_of_its_own(
    server: Server, ran: list[str], set_clock: Any
) -> None:
    ada, bob = User.objects.create_user("ada"), User.objects.create_user("bob")
    for user, tenant in ((ada, ""), (ada, "north"), (bob, ""), (None, "")):
        client = Client(user, server=server.name, tenant=tenant)
        client.call("rare")
        client.call("rare")
        assert refusal(client).status == 429
    assert len(ran) == 8


def test_a_rate_of_the_server_counts_all_of_its_tools(server: Server, ran: list[str], set_clock: Any) -> None:
    client = Client(server=server.name)
    with override_settings(DJANGO_MCP={"CALL_RATE": "3/hour"}):
        client.list_tools()
        client.call("free")
        client.call("rare")
        client.call("free")
        assert refusal(client, "free").message == "Too many calls; come back in 3600 seconds"
    assert ran == ["free", "rare", "free"]


def test_what_a_caller_may_not_use_is_unknown_and_not_counted(server: Server, set_clock: Any) -> None:
    server.tool(name="guarded", rate="1/day", permission="auth.view_group")(lambda: "done")
    client = Client(server=server.name)
    for _ in range(3):
        assert refusal(client, "guarded").message == "Unknown tool: guarded"


@pytest.mark.parametrize("backend", [PlainCache, LocMemCache])
def test_a_number_lives_as_long_as_its_window(
    server: Server, ran: list[str], set_clock: Any, backend: type[LocMemCache]
) -> None:
    server.tool(name="daily", rate="2/day")(lambda: "done")
    entry = {"BACKEND": f"{backend.__module__}.{backend.__qualname__}", "LOCATION": backend.__name__, "TIMEOUT": 0}
    client = Client(server=server.name)
    with override_settings(CACHES={"default": entry}):
        client.call("daily")
        client.call("daily")
        assert refusal(client, "daily").status == 429


def test_a_cache_that_is_down_refuses_nobody_and_is_left_alone(
    server: Server, ran: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    entry = {"BACKEND": f"{BrokenCache.__module__}.{BrokenCache.__qualname__}"}
    client = Client(server=server.name)
    with override_settings(CACHES={"default": entry}):
        for _ in range(4):
            client.call("rare")
    assert ran == ["rare"] * 4
    told = [record.getMessage() for record in caplog.records if record.name == "django_mcp.limits"]
    assert told == ["The cache 'default' fails, so calls are not counted for 5 s: nobody there"]


def test_a_refused_call_leaves_its_idempotency_key_usable(server: Server, ran: list[str], set_clock: Any) -> None:
    client = Client(User.objects.create_user("ada"), server=server.name)
    client.call("rare")
    client.call("rare")
    with pytest.raises(MCPClientError):
        client.call("rare", idempotency_key="k")
    set_clock(NOON + 60)
    client.call("rare", idempotency_key="k")
    client.call("rare", idempotency_key="k")
    assert ran == ["rare"] * 3


@pytest.mark.services
@pytest.mark.parametrize("backend", ["django.core.cache.backends.redis.RedisCache", "django_redis.cache.RedisCache"])
def test_processes_that_share_a_redis_count_together(backend: str, set_clock: Any) -> None:
    with services.redis() as service:
        caches_of_redis = {"default": {"BACKEND": backend, "LOCATION": service.url}}
        with override_settings(CACHES=caches_of_redis), ThreadPoolExecutor(8) as threads:
            # Each has clients of its own, as each process would.
            counters = [counting.Counter("default"), counting.Counter("default")]
            rate = Rate.parse("25/day")
            waits = list(threads.map(lambda number: counters[number % 2].take(rate, ["a name"]), range(100)))
    assert waits.count(None) == 25
    assert set(waits) == {None, 43_200}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rate": "often"}, "has the rate 'often'; write a rate like '10/minute'"),
        ({"throttles": "x"}, "has the throttles 'x'; give a list of throttle classes"),
        ({"throttles": [str]}, "give a list of throttle classes"),
        ({"permission": 7}, "has the permission 7; give 'app.codename', a callable"),
        ({"permission": ["auth.view_group", 7]}, "give 'app.codename', a callable"),
    ],
)
def test_what_is_no_limit_is_refused_with_its_place(server: Server, options: dict[str, Any], problem: str) -> None:
    server.tool(name="wrong", **options)(lambda: "done")
    with pytest.raises(RegistryError, match=problem) as caught:
        compiled(server)
    assert caught.value.where.startswith(__file__)
