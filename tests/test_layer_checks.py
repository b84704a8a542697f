"""What a deployment is told about its channel layer."""

from typing import Any

import pytest
from django.core.checks import CheckMessage
from pytest_django import Settings

from django_mcp.layer_checks import check_layer

REDIS = "channels_redis.core.RedisChannelLayer"
URL = "redis://127.0.0.1:6379/0"


def told(settings: Settings, layers: dict[str, Any]) -> list[CheckMessage]:
    settings.CHANNEL_LAYERS = layers
    return check_layer(None)


@pytest.mark.parametrize(
    ("hosts", "seconds"),
    [
        ([URL], 5),
        ([{"address": URL}], 5),
        ([("127.0.0.1", 6379)], 5),
        ([{"address": URL, "socket_timeout": 2}], 2),
        ([f"{URL}?socket_timeout=3"], 3),
        ([{"address": URL, "socket_timeout": 15}], None),
        ([{"address": URL, "socket_timeout": None}], None),
        ([f"{URL}?socket_timeout=15"], None),
    ],
)
def test_a_client_that_gives_up_while_the_layer_waits_is_named(
    settings: Settings, hosts: list[Any], seconds: int | None
) -> None:
    messages = told(settings, {"default": {"BACKEND": REDIS, "CONFIG": {"hosts": hosts}}})
    assert [message.id for message in messages] == ([] if seconds is None else ["django_mcp.W011"])
    for message in messages:
        assert f"gives up after {seconds}:" in message.msg
        assert message.hint
        assert "'socket_timeout' of 15" in message.hint


def test_a_layer_in_memory_is_named(settings: Settings) -> None:
    (message,) = told(settings, {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}})
    assert message.id == "django_mcp.W010"
    assert "within POLL_SECONDS" in message.msg


def test_a_layer_that_cannot_be_made_is_named(settings: Settings) -> None:
    (message,) = told(settings, {"default": {"BACKEND": "no.such.Layer"}})
    assert message.id == "django_mcp.W010"
    assert "cannot be made" in message.msg


def test_without_a_layer_there_is_nothing_to_say(settings: Settings) -> None:
    assert told(settings, {}) == []
