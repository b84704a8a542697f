"""Capabilities and lists: declared when served, shown to whom they concern, the same on every connection (server)."""

from typing import Any

import pytest
from django.http import HttpRequest
from django.utils.translation import gettext_lazy
from pytest_django import Settings

from django_mcp import Server
from django_mcp.conf import mcp_settings
from django_mcp.exceptions import ConfigurationError
from django_mcp.testing import Client
from tests.spec.modern.wire import REQUESTS, SERVER, Answer, call, post, request

ADMIN = {"x-role": "admin"}
LISTS = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}
CACHEABLE = {"server/discover", *LISTS, "resources/read"}
each_list = pytest.mark.parametrize("method", LISTS)


def is_admin(http_request: HttpRequest) -> bool:
    return http_request.headers.get("x-role") == "admin"


@pytest.fixture
def guarded(full: Server) -> Server:
    """Define one more of each kind, for administrators."""

    @full.tool(permission=is_admin)
    async def erase() -> str:
        return "erased"

    @full.prompt(permission=is_admin)
    async def scold(name: str) -> str:
        return name

    @full.resource("vault:key", permission=is_admin)
    async def key() -> str:
        return "secret"

    @full.resource("vault:{box}", permission=is_admin)
    async def box_of(box: str) -> str:
        return "secret"

    @full.completion("name", prompt="scold")
    async def names(value: str) -> list[str]:
        return ["a secret name"]

    @full.completion("box", resource="vault:{box}")
    async def boxes(value: str) -> list[str]:
        return ["a secret box"]

    return full


#: What administrators alone may do, and what everybody else is told: the same as of what is not there.
GUARDED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("tools/call", {"name": "erase", "arguments": {}}, {"name": "nothing", "arguments": {}}),
    ("prompts/get", {"name": "scold", "arguments": {"name": "x"}}, {"name": "nothing", "arguments": {"name": "x"}}),
    ("resources/read", {"uri": "vault:key"}, {"uri": "nothing:key"}),
    ("resources/read", {"uri": "vault:7"}, {"uri": "nothing:7"}),
    (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "scold"}, "argument": {"name": "name", "value": ""}},
        {"ref": {"type": "ref/prompt", "name": "nothing"}, "argument": {"name": "name", "value": ""}},
    ),
    (
        "completion/complete",
        {"ref": {"type": "ref/resource", "uri": "vault:{box}"}, "argument": {"name": "box", "value": ""}},
        {"ref": {"type": "ref/resource", "uri": "nothing:{box}"}, "argument": {"name": "box", "value": ""}},
    ),
]
each_guarded = pytest.mark.parametrize(("method", "params", "unknown"), GUARDED)


def names_in(answer: Answer, method: str) -> list[str]:
    plural, key = LISTS[method]
    return [entry[key] for entry in answer.result[plural]]


async def pages(method: str, headers: dict[str, str] | None = None) -> list[Answer]:
    """Return all pages of a list."""
    found = [await post(request(method), headers)]
    while (cursor := found[-1].result.get("nextCursor")) is not None:
        found.append(await post(request(method, {"cursor": cursor}), headers))
    return found


async def test_what_is_served_is_declared(full: Server) -> None:
    declared = (await post(request("server/discover"))).result["capabilities"]
    assert declared == {
        "tools": {"listChanged": True},
        "prompts": {"listChanged": True},
        "resources": {"listChanged": True, "subscribe": True},
        "completions": {},
        "logging": {},
    }
    for method, params in REQUESTS.items():
        assert (await post(request(method, params))).status == 200


@each_list
async def test_a_list_shows_what_this_caller_may_use(guarded: Server, settings: Settings, method: str) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public", "PAGE_SIZE": 1}
    everybody = [name for page in await pages(method) for name in names_in(page, method)]
    admin = [name for page in await pages(method, ADMIN) for name in names_in(page, method)]
    assert everybody == [name for name in admin if name not in {"erase", "scold", "vault:key", "vault:{box}"}]
    assert len(everybody) == len(admin) - 1


@each_list
async def test_a_list_depends_neither_on_the_connection_nor_on_earlier_requests(guarded: Server, method: str) -> None:
    before = (await post(request(method))).result
    assert names_in(await post(request(method), ADMIN), method) != names_in(await post(request(method)), method)
    for used, params in REQUESTS.items():
        await post(request(used, params), ADMIN)
    await post(call("ask"))
    await post(request("tools/list"), {"mcp-session-id": "x" * 43, "cookie": "sessionid=" + "x" * 32})
    assert (await post(request(method))).result == before


@each_guarded
async def test_what_is_not_shown_cannot_be_used_and_is_not_there(
    guarded: Server, method: str, params: dict[str, Any], unknown: dict[str, Any]
) -> None:
    refused = await post(request(method, params))
    missing = await post(request(method, unknown))
    assert refused.status == missing.status == 400
    told = str(refused.error).replace("erase", "nothing").replace("scold", "nothing").replace("vault", "nothing")
    assert told == str(missing.error)
    assert "secret" not in str(refused.messages)
    assert (await post(request(method, params), ADMIN)).result["resultType"] == "complete"


# Caching.


async def test_the_six_cacheable_results_carry_hints_and_no_other_does(full: Server) -> None:
    answers = {method: (await post(request(method, params))).result for method, params in REQUESTS.items()}
    hinted = {method for method, result in answers.items() if "ttlMs" in result or "cacheScope" in result}
    assert hinted == CACHEABLE
    for method in CACHEABLE:
        assert type(answers[method]["ttlMs"]) is int
        assert answers[method]["ttlMs"] >= 0
        assert answers[method]["cacheScope"] in {"public", "private"}
    asked = (await post(call("ask"))).result
    assert not {"ttlMs", "cacheScope"} & asked.keys()


@pytest.mark.parametrize("seconds", [0, 1, 3600])
async def test_the_time_to_live_is_that_of_the_settings(full: Server, settings: Settings, seconds: int) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public", "LIST_TTL_SECONDS": seconds}
    assert (await post(request("tools/list"))).result["ttlMs"] == seconds * 1000


@pytest.mark.parametrize("seconds", [-1, 0.5, True, "60"])
async def test_a_time_to_live_that_is_no_whole_number_is_a_mistake(settings: Settings, seconds: Any) -> None:
    settings.DJANGO_MCP = {"LIST_TTL_SECONDS": seconds}
    with pytest.raises(ConfigurationError, match="LIST_TTL_SECONDS"):
        assert mcp_settings.LIST_TTL_SECONDS


@each_list
@pytest.mark.parametrize("headers", [{}, ADMIN], ids=["everybody", "admin"])
async def test_all_pages_of_a_list_share_one_scope(
    guarded: Server, settings: Settings, headers: dict[str, str], method: str
) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public", "PAGE_SIZE": 1}
    found = [page.result["cacheScope"] for page in await pages(method, ADMIN)]
    assert len(found) > 1
    assert set(found) == {"private"}


async def test_what_depends_on_the_caller_is_private(full: Server, settings: Settings) -> None:
    async def scopes() -> set[str]:
        return {(await post(request(method))).result["cacheScope"] for method in (*LISTS, "server/discover")}

    assert await scopes() == {"public"}
    assert (await post(request("resources/read", {"uri": "note://today"}))).result["cacheScope"] == "private"

    @full.tool(permission=is_admin)
    async def erase() -> str:
        return ""

    assert await scopes() == {"private"}
    full.remove(erase)
    assert await scopes() == {"public"}
    title = gettext_lazy("Translated for each caller")
    full.tool(name="titled", title=title)(lambda: "")
    assert await scopes() == {"private"}


async def test_where_callers_authenticate_everything_is_private(full: Server, settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS": "required"}
    for method in (*LISTS, "server/discover"):
        reply = await Client(server=SERVER).arequest(method)
        assert reply.raw["cacheScope"] == "private"


@each_guarded
async def test_a_cached_list_opens_nothing(
    guarded: Server, method: str, params: dict[str, Any], unknown: dict[str, Any]
) -> None:
    shown = [await post(request(name), ADMIN) for name in LISTS]
    assert {"erase", "scold", "vault:key", "vault:{box}"} <= {
        name for answer, listed in zip(shown, LISTS, strict=True) for name in names_in(answer, listed)
    }
    assert (await post(request(method, params))).error["code"] == -32602
