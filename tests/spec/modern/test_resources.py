"""Resources: their URIs, what is not there, bytes, and paths (server/resources)."""

import base64
from pathlib import Path
from typing import Any

import pytest

from django_mcp import NotFound, Server
from django_mcp.exceptions import RegistryError
from django_mcp.server.compile import compiled
from tests.servers import defined
from tests.spec.modern.wire import post, request

IMAGE = b"\x89PNG\r\n\x1a\n"
UNSERVED = ["", "nothing", "://x", "1a://x", "x_y://z", "a b:c", "note://a b", "note://a\n", "note://é"]
UNSERVED_TEMPLATES = ["note://a%zz", "{scheme}://x", "note://{a}/b c", "note://a|b"]
UNREADABLE = ["", "note", "::", "://a", "note://a b", "note://a\n", "note://\x00", "note://<a>", "note://a%2"]
UNREADABLE_TOO = ["note://{a}", "note://" + "a" * 70_000 + "\\", " note://a", 'note://"']
CLIMBING = ["..", "../secret", "a/../../secret", "%2e%2e/secret", "%2E%2E%2Fsecret", "a/%2e%2e/%2e%2e/secret"]
ESCAPING = ["..%2fsecret", "/etc/passwd", "%2fetc%2fpasswd", "a%00b", "..%5csecret", "C:%5csecret"]


@pytest.mark.parametrize("uri", [*UNSERVED, *UNSERVED_TEMPLATES])
def test_a_uri_that_is_none_is_refused_where_it_is_written(uri: str) -> None:
    with defined("wrong") as wrong:

        @wrong.resource(uri)
        async def read(a: str = "", scheme: str = "") -> str:
            return ""

        with pytest.raises(RegistryError, match=r"which is no URI; begin with a scheme") as caught:
            compiled(wrong)
        assert caught.value.where.startswith(__file__)


@pytest.mark.parametrize(
    "uri", ["note:a", "x-my.scheme+1://a/b?c=d#e", "file:///a%20b", "note://{a}/x{?b}", "note://[::1]/", "a:{+path}"]
)
def test_a_uri_of_any_scheme_is_served(uri: str) -> None:
    with defined("right") as right:

        @right.resource(uri)
        async def read(a: str = "", b: str = "", path: str = "") -> str:
            return ""

        assert [*compiled(right).resources, *(one.uri for one in compiled(right).templates)] == [uri]


async def test_a_resource_that_is_not_there_is_an_error_and_never_empty(server: Server) -> None:
    @server.resource("note://{number}")
    async def note(number: int) -> str:
        raise NotFound

    for uri in ("other:a", "note://7", "note://seven", "note:///"):
        answer = await post(request("resources/read", {"uri": uri}))
        assert (answer.status, answer.error["code"]) == (400, -32602)
        assert answer.error["data"] == {"uri": uri}


@pytest.mark.parametrize("uri", [*UNREADABLE, *UNREADABLE_TOO])
async def test_a_uri_that_is_none_reaches_no_handler(server: Server, uri: str) -> None:
    read: list[str] = []

    @server.resource("note://{+name}")
    async def note(name: str) -> str:
        read.append(name)
        return name

    answer = await post(request("resources/read", {"uri": uri}))
    assert (answer.status, answer.error["code"]) == (400, -32602)
    assert read == []


async def test_bytes_are_served_as_a_base64_blob_and_text_as_text(server: Server) -> None:
    data = bytes(range(256))

    @server.resource("note://bytes")
    async def as_bytes() -> bytes:
        return data

    @server.resource("note://typed", mime_type="image/png")
    async def as_image() -> bytes:
        return IMAGE

    @server.resource("note://text")
    async def as_text() -> str:
        return "Zo\u00eb \U0001f40d"

    contents = {
        uri: (await post(request("resources/read", {"uri": uri}))).result["contents"]
        for uri in ("note://bytes", "note://typed", "note://text")
    }
    (blob,), (image,), (text,) = contents.values()
    assert base64.b64decode(blob["blob"], validate=True) == data
    assert (base64.b64decode(image["blob"], validate=True), image["mimeType"]) == (IMAGE, "image/png")
    assert text["text"] == "Zo\u00eb \U0001f40d"
    assert [{"text", "blob"} & entry.keys() for entry in (blob, image, text)] == [{"blob"}, {"blob"}, {"text"}]


@pytest.mark.parametrize("path", [*CLIMBING, *ESCAPING])
@pytest.mark.parametrize("template", ["file:///{+path}", "file:///files/{path}"])
async def test_a_file_path_cannot_climb_out(server: Server, tmp_path: Path, template: str, path: str) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "inside").write_text("inside")
    (tmp_path / "secret").write_text("secret")
    opened: list[str] = []

    @server.resource(template)
    async def read(path: str) -> str:
        opened.append(path)
        return (folder / path).read_text()

    async def get(path: str) -> Any:
        return await post(request("resources/read", {"uri": template.partition("{")[0] + path}))

    assert (await get("inside")).result["contents"][0]["text"] == "inside"
    answer = await get(path)
    assert (answer.status, answer.error["code"]) == (400, -32602)
    assert opened == ["inside"]
