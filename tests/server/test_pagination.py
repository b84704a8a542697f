"""Lists come in pages, and a cursor names the next."""

from typing import Any

import pytest
from pytest_django import Settings

from django_mcp import Server
from django_mcp.testing import Client, MCPClientError

pytestmark = pytest.mark.django_db
LISTS = [
    ("tools/list", "tools", "name"),
    ("prompts/list", "prompts", "name"),
    ("resources/list", "resources", "uri"),
    ("resources/templates/list", "resourceTemplates", "uriTemplate"),
]


@pytest.fixture(autouse=True)
def pages(settings: Settings) -> None:
    settings.DJANGO_MCP = {"PAGE_SIZE": 2}


def define(server: Server, count: int) -> None:
    for number in range(count):
        server.tool(name=f"{number}")(lambda: "")
        server.prompt(name=f"{number}")(lambda: "")
        server.resource(f"a://{number}")(lambda: "")
        server.resource(f"a://{{name}}/{number}")(lambda name: "")


def walk(client: Client, method: str, key: str, field: str) -> list[list[str]]:
    pages, cursor = [], None
    while True:
        reply = client.request(method, {"cursor": cursor} if cursor else {})
        pages.append([entry[field] for entry in reply.raw[key]])
        cursor = reply.raw.get("nextCursor")
        if cursor is None:
            return pages


@pytest.mark.parametrize("mode", ["modern", "legacy"])
@pytest.mark.parametrize(("method", "key", "field"), LISTS)
@pytest.mark.parametrize(("count", "sizes"), [(0, [0]), (1, [1]), (2, [2]), (3, [2, 1]), (5, [2, 2, 1])])
def test_every_entry_is_on_one_page(
    server: Server, mode: str, method: str, key: str, field: str, count: int, sizes: list[int]
) -> None:
    define(server, count)
    pages = walk(Client(server="tested", mode=mode), method, key, field)
    assert [len(page) for page in pages] == sizes
    assert len({entry for page in pages for entry in page}) == count


def test_the_client_reads_all_pages(server: Server) -> None:
    define(server, 5)
    client = Client(server="tested")
    assert [tool.name for tool in client.list_tools()] == [*"01234"]
    assert len(client.list_prompts()) == len(client.list_resources()) == len(client.list_templates()) == 5


@pytest.mark.parametrize("cursor", ["nonsense", "", "bm90aGluZw==", "ä", "x" * 10_000])
@pytest.mark.parametrize(("method", "key", "field"), LISTS)
def test_a_cursor_that_was_never_given_is_refused(
    server: Server, method: str, key: str, field: str, cursor: str
) -> None:
    define(server, 5)
    with pytest.raises(MCPClientError, match="Invalid cursor") as caught:
        Client(server="tested").request(method, {"cursor": cursor})
    assert (caught.value.code, caught.value.status) == (-32602, 400)


def test_a_list_that_grows_meanwhile_repeats_and_skips_nothing(server: Server) -> None:
    define(server, 3)
    client = Client(server="tested")
    first = client.request("tools/list")
    server.tool(name="new")(lambda: "")
    second = client.request("tools/list", {"cursor": first.raw["nextCursor"]})
    assert [tool["name"] for tool in second.raw["tools"]] == ["2", "new"]


def test_pages_are_of_what_the_caller_sees(server: Server) -> None:
    def nobody(request: Any) -> bool:
        return False

    for number in range(6):
        server.tool(name=f"{number}", permission=nobody if number % 2 else None)(lambda: "")
    assert walk(Client(server="tested"), "tools/list", "tools", "name") == [["0", "2"], ["4"]]
