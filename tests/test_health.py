"""The probes: what they say, whom they ask, and what they keep."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections
from django.test import AsyncClient, Client, override_settings
from django.urls import include, path

from django_mcp import health
from django_mcp.exceptions import StoreUnavailable
from django_mcp.health import store_checks
from django_mcp.server.drain import Drain
from django_mcp.sessions.stores.database import DatabaseStore

BOUND_SECONDS = 10

urlpatterns = [path("", include("django_mcp.health_urls"))]

DATABASE = "django_mcp.sessions.stores.database.DatabaseStore"
LOGIN = "django.contrib.auth.middleware.LoginRequiredMiddleware"

go_on = threading.Event()
asked_from: list[threading.Thread] = []


class DownStore(DatabaseStore):
    def peek(self, *words: Any, **terms: Any) -> Any:
        raise StoreUnavailable("the password is wrong")


class HangingStore(DatabaseStore):
    def peek(self, *words: Any, **terms: Any) -> Any:
        asked_from.append(threading.current_thread())
        go_on.wait(BOUND_SECONDS)
        return super().peek(*words, **terms)


class SeenStore(DatabaseStore):
    def peek(self, *words: Any, **terms: Any) -> Any:
        asked_from.append(threading.current_thread())
        found = super().peek(*words, **terms)
        assert connections[self.write_alias].connection is not None
        return found


def stores(**backends: str) -> Any:
    return override_settings(
        DJANGO_MCP={"STORES": {alias: {"BACKEND": backend} for alias, backend in backends.items()}}
    )


@pytest.fixture(autouse=True)
def site() -> Iterator[None]:
    store_checks.cache_clear()
    go_on.clear()
    asked_from.clear()
    with override_settings(ROOT_URLCONF=__name__):
        yield
    go_on.set()
    store_checks.cache_clear()


@pytest.fixture
def drain(monkeypatch: pytest.MonkeyPatch) -> Drain:
    drain = Drain()
    monkeypatch.setattr(health, "process_drain", lambda: drain)
    return drain


def test_a_process_that_serves_says_so_without_a_database() -> None:
    response = Client().get("/healthz")  # Without its mark a test is refused the database.
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("probe", ["/healthz", "/readyz"])
def test_a_probe_is_open_to_all_and_takes_get_and_head_alone(probe: str) -> None:
    with override_settings(MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", *AUTHENTICATED]):
        client = Client()
        assert client.get(probe).status_code == 200
        head = client.head(probe)
        assert (head.status_code, head.content) == (200, b"")
        refused = client.post(probe)
    assert refused.status_code == 405
    assert refused.headers["Allow"] == "GET, HEAD"


AUTHENTICATED = ["django.contrib.auth.middleware.AuthenticationMiddleware", LOGIN]


@pytest.mark.django_db(transaction=True)
async def test_a_process_whose_stores_answer_is_ready_and_keeps_no_connection() -> None:
    with stores(default=f"{__name__}.SeenStore", other=DATABASE):
        response = await AsyncClient().get("/readyz")
    assert response.status_code == 200, response.content
    assert response.json() == {"status": "ok"}
    assert response.headers["Cache-Control"] == "no-store"
    (thread,) = asked_from
    assert thread is not threading.current_thread()
    assert await asyncio.to_thread(thread.is_alive)


@pytest.mark.django_db(transaction=True)
def test_a_store_that_is_down_is_named_and_nothing_else_is_told() -> None:
    with stores(default=DATABASE, other=f"{__name__}.DownStore"):
        response = Client().get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "unavailable", "failing": ["store:other"]}
    assert response.headers["Retry-After"] == "5"
    assert response.headers["Cache-Control"] == "no-store"
    assert b"password" not in response.content


@pytest.mark.django_db(transaction=True)
async def test_a_store_that_hangs_holds_one_thread_and_no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(health, "FRESH_SECONDS", 0.0)
    with stores(default=f"{__name__}.HangingStore"):
        for _ in range(3):
            response = await AsyncClient().get("/readyz")
            assert response.json() == {"status": "unavailable", "failing": ["store:default"]}
        assert len(asked_from) == 1
        go_on.set()
        monkeypatch.setattr(health, "ANSWER_SECONDS", BOUND_SECONDS)
        assert (await AsyncClient().get("/readyz")).status_code == 200


@pytest.mark.django_db(transaction=True)
async def test_many_probes_ask_a_store_once() -> None:
    with stores(default=f"{__name__}.SeenStore"):
        answers = await asyncio.gather(*(AsyncClient().get("/readyz") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(asked_from) == 1


async def test_a_process_that_drains_is_not_ready_and_asks_nobody(drain: Drain) -> None:
    await drain.run(lambda: None)
    with stores(default=f"{__name__}.SeenStore"):
        response = await AsyncClient().get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "unavailable", "failing": ["draining"]}
    assert (await AsyncClient().get("/healthz")).status_code == 200
    assert asked_from == []
