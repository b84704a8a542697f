"""Prompts: listed with their arguments, rendered into messages."""

from typing import Annotated, Any

import pytest
from django.utils.translation import gettext_lazy as _
from mcp_types import EmbeddedResource, ImageContent, PromptMessage, TextContent, TextResourceContents
from pydantic import Field

from django_mcp import Context, Image, Server, ToolError
from django_mcp.exceptions import RegistryError
from django_mcp.server.compile import compiled
from django_mcp.testing import Client, MCPClientError

both_eras = pytest.mark.parametrize("mode", ["modern", "legacy"])
pytestmark = pytest.mark.django_db


def render(name: str, arguments: dict[str, str] | None = None, **options: Any) -> Any:
    return Client(server="tested", **options).prompt(name, arguments)


@both_eras
def test_a_prompt_is_listed_with_its_arguments(server: Server, mode: str) -> None:
    @server.prompt(title="Brief", icons=[{"src": "https://example.com/i.png"}], meta={"example.com/a": 1})
    def brief(origin: Annotated[str, Field(description="From where")], via: str = "", *, ctx: Context) -> str:
        """Brief a traveller."""
        return f"From {origin} via {via or 'nowhere'} in {ctx.protocol_version}"

    client = Client(server="tested", mode=mode)
    (prompt,) = client.list_prompts()
    assert (prompt.name, prompt.title, prompt.description) == ("brief", "Brief", "Brief a traveller.")
    assert [(one.name, one.description, one.required) for one in prompt.arguments or []] == [
        ("origin", "From where", True),
        ("via", None, False),
    ]
    assert prompt.icons is not None
    assert prompt.meta == {"example.com/a": 1}
    result = client.prompt("brief", {"origin": "ZRH"})
    assert result.text == f"From ZRH via nowhere in {client.protocol_version}"
    assert result.description == "Brief a traveller."
    assert result.messages[0].role == "user"


async def test_an_async_prompt(server: Server) -> None:
    @server.prompt
    async def greet(name: str) -> str:
        return f"Greet {name}"

    assert (await Client(server="tested").aprompt("greet", {"name": "Eve"})).text == "Greet Eve"
    assert await greet("Adam") == "Greet Adam"


def test_messages_of_every_kind(server: Server) -> None:
    resource = EmbeddedResource(type="resource", resource=TextResourceContents(uri="note://1", text="note"))

    @server.prompt
    def mixed() -> list[Any]:
        return [
            "plain",
            {"role": "assistant", "content": "said"},
            {"role": "assistant", "content": {"type": "text", "text": "block"}},
            PromptMessage(role="assistant", content=TextContent(type="text", text="message")),
            Image(data=b"\x89PNG", format="png"),
            resource,
            {"a": 1},
        ]

    messages = render("mixed").messages
    assert [message.role for message in messages] == ["user", *["assistant"] * 3, *["user"] * 3]
    texts = [message.content.text for message in messages if isinstance(message.content, TextContent)]
    assert texts == ["plain", "said", "block", "message", '{"a": 1}']
    assert isinstance(messages[4].content, ImageContent)
    assert messages[5].content == resource


def test_lazy_texts_are_in_the_language_of_the_request(server: Server) -> None:
    server.prompt(name="ask", title=_("Yes"), description=_("No"))(lambda: str(_("Yes")))
    client = Client(server="tested", headers={"Accept-Language": "de"})
    assert (client.list_prompts()[0].title, client.list_prompts()[0].description) == ("Ja", "Nein")
    result = client.prompt("ask")
    assert (result.text, result.description) == ("Ja", "Nein")
    assert Client(server="tested").list_prompts()[0].title == "Yes"


@both_eras
def test_errors_of_a_prompt(server: Server, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    errors: dict[str, Exception] = {"busy": ToolError("Come back later"), "crash": LookupError("secret")}

    @server.prompt
    def fail(which: str, number: int = 1) -> str:
        raise errors[which]

    def failure(name: str, arguments: dict[str, str]) -> tuple[int, str]:
        with pytest.raises(MCPClientError) as caught:
            render(name, arguments, mode=mode)
        return caught.value.code, caught.value.message

    assert failure("unknown", {}) == (-32602, "Unknown prompt: unknown")
    assert failure("fail", {}) == (-32602, "Missing or invalid arguments: which")
    assert failure("fail", {"number": "many"}) == (-32602, "Missing or invalid arguments: number, which")
    assert failure("fail", {"which": "busy"}) == (-32603, "Come back later")
    assert failure("fail", {"which": "crash"}) == (-32603, "The prompt 'fail' failed")
    assert "secret" in caplog.text


def test_two_prompts_of_one_name_are_an_error(server: Server) -> None:
    first = server.prompt(name="same")(lambda: "")
    server.prompt(name="same")(lambda: "")
    with pytest.raises(RegistryError) as caught:
        compiled(server)
    assert f"takes 'same', which {first.where} has already" in str(caught.value)
