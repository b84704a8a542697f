"""What is told about the cache that calls are counted in."""

from typing import Any

import pytest
from pytest_django import Settings

from django_mcp.limit_checks import check_cache, check_counting
from tests.servers import alone, defined

LOCAL = "django.core.cache.backends.locmem.LocMemCache"
DUMMY = "django.core.cache.backends.dummy.DummyCache"
REDIS = "django.core.cache.backends.redis.RedisCache"


def told(settings: Settings, backend: str, **given: Any) -> list[str]:
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "redis://127.0.0.1:1"}}
    settings.DJANGO_MCP = given
    with alone():
        return [message.msg for message in [*check_cache(None), *check_counting(None)]]


@pytest.mark.parametrize(
    ("backend", "words"), [(LOCAL, "each process counts calls for itself"), (DUMMY, "no call is counted")]
)
def test_a_cache_that_others_do_not_see_is_named(settings: Settings, backend: str, words: str) -> None:
    (message,) = told(settings, backend, CALL_RATE="10/minute")
    assert words in message


def test_the_rate_of_a_tool_is_enough(settings: Settings) -> None:
    settings.DJANGO_MCP = {}
    with alone(), defined("rated") as server:
        assert check_counting(None) == []
        server.tool(name="rare", rate="1/day")(lambda: "done")
        (message,) = check_counting(None)
    assert message.id == "django_mcp.W020"
    assert message.hint


def test_a_cache_that_is_not_there_is_an_error(settings: Settings) -> None:
    (message,) = told(settings, REDIS, CALL_RATE="10/minute", LIMITS_CACHE="nowhere")
    assert message.startswith("Calls are counted in the cache 'nowhere', which cannot be made: ")


def test_a_shared_cache_or_no_rate_at_all_is_fine(settings: Settings) -> None:
    assert told(settings, REDIS, CALL_RATE="10/minute") == []
    assert told(settings, LOCAL) == []
