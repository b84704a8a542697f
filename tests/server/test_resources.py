"""Resources and templates: listed, matched, read."""

import datetime
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.utils.translation import gettext_lazy as _
from mcp_types import BlobResourceContents, TextResourceContents
from pydantic import BaseModel

from django_mcp import Audio, Context, Image, NotFound, Server, ToolError
from django_mcp.exceptions import RegistryError
from django_mcp.server.compile import compiled
from django_mcp.testing import Client, MCPClientError

both_eras = pytest.mark.parametrize("mode", ["modern", "legacy"])
pytestmark = pytest.mark.django_db


class GroupShape(BaseModel):
    name: str


def read(uri: str, **options: Any) -> Any:
    return Client(server="tested", **options).read(uri)


def test_static_resources_and_templates_are_listed_apart(server: Server) -> None:
    @server.resource(
        "note://one",
        name="first",
        title="The first",
        mime_type="text/markdown",
        icons=[{"src": "https://example.com/i.png"}],
        annotations={"audience": ["user"], "priority": 0.5},
        meta={"example.com/a": 1},
    )
    def one() -> str:
        """The first note."""
        return "# One"

    @server.resource("note://{name}", description="Any note.")
    def note(name: str) -> str:
        return name

    client = Client(server="tested")
    (resource,) = client.list_resources()
    assert (resource.uri, resource.name, resource.title) == ("note://one", "first", "The first")
    assert (resource.description, resource.mime_type) == ("The first note.", "text/markdown")
    assert resource.annotations is not None
    assert (resource.annotations.audience, resource.annotations.priority) == (["user"], 0.5)
    assert resource.icons is not None
    assert resource.meta == {"example.com/a": 1}
    (template,) = client.list_templates()
    assert (template.uri_template, template.name, template.description) == ("note://{name}", "note", "Any note.")


@both_eras
def test_a_static_resource_is_read_before_a_template_that_matches(server: Server, mode: str) -> None:
    server.resource("note://{name}")(lambda name: f"template {name}")
    server.resource("note://one", mime_type="text/markdown")(lambda: "static")
    result = read("note://one", mode=mode)
    assert (result.text, result.mime_type) == ("static", "text/markdown")
    assert read("note://two", mode=mode).text == "template two"
    assert read("note://two", mode=mode).contents[0].uri == "note://two"


@both_eras
def test_lazy_texts_are_in_the_language_of_the_request(server: Server, mode: str) -> None:
    server.resource("note://one", title=_("Yes"))(lambda: str(_("No")))
    server.resource("note://{name}", description=_("Yes"))(lambda name: str(_("No")))
    client = Client(server="tested", mode=mode, headers={"Accept-Language": "de"})
    assert client.list_resources()[0].title == "Ja"
    assert client.list_templates()[0].description == "Ja"
    assert client.read("note://one").text == "Nein"


def test_variables_are_converted_as_the_function_wants_them(server: Server) -> None:
    @server.resource("day://{year}/{when}")
    async def day(year: int, when: datetime.date) -> str:
        return f"{year + 1} {when:%j}"

    assert read("day://2026/2026-02-01").text == "2027 032"
    for uri in ("day://soon/2026-02-01", "day://2026/never"):
        with pytest.raises(MCPClientError, match="Resource not found") as caught:
            read(uri)
        assert (caught.value.code, caught.value.data, caught.value.status) == (-32602, {"uri": uri}, 400)


def test_templates_of_rfc_6570(server: Server) -> None:
    @server.resource("file:///{+path}")
    def file(path: str) -> str:
        return path

    @server.resource("search://all{?text,limit}")
    def search(text: str, limit: int = 10) -> str:
        return f"{text} {limit}"

    assert read("file:///a/b.txt").text == "a/b.txt"
    assert read("search://all?text=sand&limit=3").text == "sand 3"
    assert read("search://all?text=sand").text == "sand 10"


@pytest.mark.parametrize(
    "path", ["../secret", "a/../../secret", "..%2Fsecret", "%2e%2e/secret", "/etc/passwd", "%2Fetc%2Fpasswd", "a%00b"]
)
def test_a_path_that_climbs_out_is_not_there(server: Server, path: str) -> None:
    asked: list[str] = []

    @server.resource("file:///{+path}")
    def file(path: str) -> str:
        asked.append(path)
        return path

    with pytest.raises(MCPClientError, match="Resource not found"):
        read(f"file:///{path}")
    assert asked == []


def test_a_segment_does_not_span_slashes(server: Server) -> None:
    server.resource("note://{name}")(lambda name: name)
    with pytest.raises(MCPClientError, match="Resource not found"):
        read("note://a/b")


def test_values_of_every_kind(server: Server) -> None:
    Group.objects.create(name="staff")

    @server.resource("a://rows")
    def rows() -> list[GroupShape]:
        return Group.objects.all()  # type: ignore[return-value]

    @server.resource("a://model")
    def model() -> GroupShape:
        return GroupShape(name="é")

    @server.resource("a://several")
    def several() -> Any:
        return [
            TextResourceContents(uri="a://1", text="one"),
            BlobResourceContents(uri="a://2", blob="AQI=", mime_type="application/x"),
        ]

    server.resource("a://bytes", mime_type="application/zip")(lambda: b"\x01\x02")
    server.resource("a://image")(lambda: Image(data=b"\x89PNG", format="png"))
    server.resource("a://sound")(lambda: Audio(data=b"12", format="wav"))
    server.resource("a://number")(lambda: 3)
    assert (read("a://rows").text, read("a://rows").mime_type) == ('[{"name": "staff"}]', "application/json")
    assert read("a://model").text == '{"name": "é"}'
    assert [str(contents.uri) for contents in read("a://several").contents] == ["a://1", "a://2"]
    assert (read("a://several").text, read("a://several").blob) == ("one", b"\x01\x02")
    assert (read("a://bytes").blob, read("a://bytes").mime_type) == (b"\x01\x02", "application/zip")
    assert (read("a://image").blob, read("a://image").mime_type) == (b"\x89PNG", "image/png")
    assert (read("a://sound").blob, read("a://sound").mime_type) == (b"12", "audio/wav")
    assert (read("a://number").text, read("a://number").mime_type) == ("3", "application/json")


@both_eras
def test_errors_of_a_resource(server: Server, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    errors: dict[str, Exception] = {
        "gone": NotFound("secret"),
        "busy": ToolError("Come back later"),
        "crash": LookupError("secret"),
    }

    @server.resource("note://{name}")
    def note(name: str) -> str:
        raise errors[name]

    def failure(name: str) -> tuple[int, str, Any]:
        with pytest.raises(MCPClientError) as caught:
            read(f"note://{name}", mode=mode)
        return caught.value.code, caught.value.message, caught.value.data

    assert failure("gone") == (-32602, "Resource not found", {"uri": "note://gone"})
    assert failure("busy") == (-32603, "Come back later", {"uri": "note://busy"})
    assert failure("crash") == (-32603, "The resource could not be read", {"uri": "note://crash"})
    assert "secret" in caplog.text


def test_a_resource_has_a_context_that_is_no_variable(server: Server) -> None:
    @server.resource("note://{name}")
    def note(name: str, ctx: Context) -> str:
        return f"{name} {ctx.request.headers['x-a']}"

    @server.resource("note://me")
    def me(ctx: Context) -> str:
        return str(ctx.user)

    assert read("note://one", headers={"X-A": "b"}).text == "one b"
    assert read("note://me").text == "AnonymousUser"
    assert len(Client(server="tested").list_templates()) == 1


@pytest.mark.parametrize(
    ("uri", "function", "problem"),
    [
        ("note://{name}", lambda: "", "has the variables ['name'] in its URI and the parameters []"),
        ("note://{name}", lambda name, other: "", "and the parameters ['name', 'other']"),
        ("note://one", lambda name: "", "has the variables [] in its URI and the parameters ['name']"),
        ("note://{name", lambda name: "", "has an unusable URI template"),
    ],
)
def test_a_uri_that_does_not_fit_its_function_does_not_load(
    server: Server, uri: str, function: Any, problem: str
) -> None:
    server.resource(uri, name="note")(function)
    with pytest.raises(RegistryError) as caught:
        compiled(server)
    assert problem in str(caught.value)
    assert "test_resources.py:" in caught.value.where


@pytest.mark.parametrize("uri", ["note://one", "note://{name}"])
def test_two_resources_of_one_uri_are_an_error_that_names_both_places(server: Server, uri: str) -> None:
    function = (lambda name: "") if "{" in uri else (lambda: "")
    first = server.resource(uri)(function)
    server.resource(uri)(function)
    with pytest.raises(RegistryError) as caught:
        compiled(server)
    assert f"takes {uri!r}, which {first.where} has already" in str(caught.value)


def test_subscriptions_are_for_what_can_be_read(server: Server) -> None:
    server.resource("note://{name}")(lambda name: name)
    client = Client(server="tested", mode="legacy")
    assert client.request("resources/subscribe", {"uri": "note://one"}).raw == {}
    assert client.request("resources/unsubscribe", {"uri": "note://one"}).raw == {}
    with pytest.raises(MCPClientError, match="Resource not found"):
        client.request("resources/subscribe", {"uri": "other://one"})
