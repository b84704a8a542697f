"""MCP 2025-11-25, server/resources: URIs and binary content."""

import base64

import pytest

from django_mcp import Server
from django_mcp.exceptions import RegistryError
from django_mcp.server.compile import compiled
from tests.spec.handshake.peer import Peer

pytestmark = pytest.mark.django_db(transaction=True)

EVERY_BYTE = bytes(range(256))


@pytest.mark.parametrize(
    "uri",
    ["note://one", "a+b-c.1:x", "file:///a/b.txt", "https://example.com/?q=%20", "note://{name}", "n:{+path}/end"],
)
def test_a_uri_by_rfc_3986_is_served(server: Server, uri: str) -> None:
    variable = uri.partition("{")[2].partition("}")[0].removeprefix("+")
    function = {"name": lambda name: name, "path": lambda path: path}.get(variable, lambda: "")
    server.resource(uri, name="one")(function)
    target = compiled(server)
    assert [item.uri for item in [*target.resources.values(), *target.templates]] == [uri]


@pytest.mark.parametrize(
    "uri", ["", "note", "/note", "//note", "1note://x", "no te://x", "no_te://x", "note://a b", "note://ä", "note:\n"]
)
def test_what_is_no_uri_is_refused_at_load(server: Server, uri: str) -> None:
    server.resource(uri, name="one")(lambda: "")
    with pytest.raises(RegistryError, match=r"test_resources\.py:\d+: resource 'one' has .*, which is no URI"):
        compiled(server)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "::",
        "note",
        "//one",
        "note:",
        "note://a b",
        "note://a\nb",
        "note://a\x00b",
        "note://%zz",
        "note://..",
        "note://%2e%2e",
        "note://%00",
        "note://%2Fetc",
        "note://one/two",
        "other://one",
        "note://" + "x" * 100_000 + "\n",
    ],
)
@pytest.mark.parametrize("method", ["resources/read", "resources/subscribe"])
async def test_a_uri_that_is_malformed_or_not_served_reaches_no_handler(server: Server, method: str, uri: str) -> None:
    read: list[str] = []

    @server.resource("note://{name}")
    def note(name: str) -> str:
        read.append(name)
        return name

    answer = await (await Peer().begin()).ask(method, uri=uri)
    assert answer.status == 200
    assert answer.error["code"] == -32602
    assert read == []


@pytest.mark.parametrize("uri", [7, None, {}, ["note://one"]])
async def test_a_uri_that_is_no_text_is_refused(server: Server, uri: object) -> None:
    answer = await (await Peer().begin()).ask("resources/read", uri=uri)
    assert (answer.status, answer.error["code"]) == (200, -32602)


async def test_bytes_are_served_as_base64_and_texts_as_text(server: Server) -> None:
    server.resource("bytes://all", mime_type="application/x-all")(lambda: EVERY_BYTE)
    server.resource("bytes://none", mime_type="application/x-none")(lambda: b"")
    server.resource("text://one")(lambda: "Zürich")
    peer = await Peer().begin()
    (content,) = (await peer.ask("resources/read", uri="bytes://all")).result["contents"]
    assert content.keys() == {"uri", "mimeType", "blob"}
    assert base64.b64decode(content["blob"], validate=True) == EVERY_BYTE
    (content,) = (await peer.ask("resources/read", uri="bytes://none")).result["contents"]
    assert content == {"uri": "bytes://none", "mimeType": "application/x-none", "blob": ""}
    (content,) = (await peer.ask("resources/read", uri="text://one")).result["contents"]
    assert content == {"uri": "text://one", "mimeType": "text/plain", "text": "Zürich"}
