"""What a deployment is told about the Redis of a store."""

from typing import Any

import pytest
from django.core.cache import caches
from django.core.checks import CheckMessage
from django.test import override_settings

from django_mcp.sessions.stores.cache import CacheStore
from tests import services
from tests.services.redis_server import connect

pytestmark = pytest.mark.services

JSON = {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"}


def told(location: str, **options: Any) -> list[CheckMessage]:
    cache = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": location,
        "OPTIONS": {**JSON, "SOCKET_CONNECT_TIMEOUT": 3, **options},
    }
    with override_settings(CACHES={"default": cache}):
        try:
            messages = list(CacheStore("default", {}).check_deployment())
        finally:
            caches.close_all()
    assert all(message.hint for message in messages)
    return messages


def ids(messages: list[CheckMessage]) -> list[str]:
    return [str(message.id).removeprefix("django_mcp.") for message in messages]


def test_a_durable_redis_of_its_own_has_nothing_to_report() -> None:
    with services.PrivateRedis(durable=True) as server:
        assert told(server.service.url) == []


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"SERIALIZER": "django_redis.serializers.pickle.PickleSerializer"}, "unpickles what it reads"),
        ({"IGNORE_EXCEPTIONS": True}, "ignores exceptions"),
    ],
)
def test_what_makes_the_alias_unsafe_for_others_is_named(options: dict[str, Any], part: str) -> None:
    with services.PrivateRedis(durable=True) as server:
        (message,) = told(server.service.url, **options)
    assert ids([message]) == ["W012"]
    assert part in message.msg


def test_replicas_are_named() -> None:
    with services.PrivateRedis(durable=True) as server:
        url = server.service.url
        assert ids(told(f"{url},{url}")) == ["W013"]


def test_a_redis_that_drops_keys_is_named() -> None:
    with services.PrivateRedis(durable=True) as server:
        with connect(server.service) as client:
            client.config_set("maxmemory", "100mb")
            assert told(server.service.url) == []
            client.config_set("maxmemory-policy", "allkeys-lru")
        (message,) = told(server.service.url)
    assert ids([message]) == ["W014"]
    assert "maxmemory-policy allkeys-lru" in message.msg


@pytest.mark.parametrize(
    ("options", "part"),
    [({}, "loses what it has not saved"), ({"appendonly": "yes", "appendfsync": "everysec"}, "last second or two")],
)
def test_a_redis_that_forgets_is_named(options: dict[str, Any], part: str) -> None:
    with services.PrivateRedis(**options) as server:
        (message,) = told(server.service.url)
    assert ids([message]) == ["W015"]
    assert part in message.msg


def test_a_redis_that_is_away_is_no_matter_of_configuration() -> None:
    assert told(f"redis://127.0.0.1:{services.free_port()}/0") == []
