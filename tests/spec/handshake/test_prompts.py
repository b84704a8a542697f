"""MCP 2025-11-25, server/prompts: content, arguments and results."""

import base64
from typing import Annotated, Any

import pytest
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    EmbeddedResource,
    GetPromptResult,
    ImageContent,
    PromptMessage,
    TextResourceContents,
)
from pydantic import Field

from django_mcp import Audio, Image, Server
from tests.spec.handshake.peer import Peer

pytestmark = pytest.mark.django_db(transaction=True)

DATA = bytes(range(256))
GOOD = base64.b64encode(DATA).decode()


async def content_of(server: Server, value: Any) -> dict[str, Any]:
    """Return the content of the only message of a prompt that returns `value`."""
    server.prompt(name="show")(lambda: value)
    (message,) = (await (await Peer().begin()).ask("prompts/get", name="show")).result["messages"]
    assert message["role"] == "user"
    return dict(message["content"])


async def check_refused(server: Server, value: Any, caplog: pytest.LogCaptureFixture) -> None:
    server.prompt(name="show")(lambda: value)
    answer = await (await Peer().begin()).ask("prompts/get", name="show")
    assert answer.error == {"code": -32603, "message": "The prompt 'show' failed"}
    assert "prompt 'show' raised" in caplog.text


async def test_an_image_is_base64_with_its_type(server: Server) -> None:
    content = await content_of(server, Image(data=DATA, format="png"))
    assert content == {"type": "image", "data": GOOD, "mimeType": "image/png"}


async def test_audio_is_base64_with_its_type(server: Server) -> None:
    content = await content_of(server, Audio(data=DATA, format="wav"))
    assert content == {"type": "audio", "data": GOOD, "mimeType": "audio/wav"}


@pytest.mark.parametrize("kind", [ImageContent, AudioContent])
@pytest.mark.parametrize(
    ("data", "mime_type"), [("not base64", "image/png"), (GOOD, ""), (GOOD, "png"), (GOOD, "image/"), (GOOD, "a b/c")]
)
async def test_an_image_or_sound_by_hand_that_is_none_is_not_sent(
    server: Server, kind: Any, data: str, mime_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    block = kind(type="image" if kind is ImageContent else "audio", data=data, mime_type=mime_type)
    await check_refused(server, block, caplog)


def embedded(resource: TextResourceContents | BlobResourceContents) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=resource)


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (
            TextResourceContents(uri="note://one", mime_type="text/markdown", text="# One"),
            {"uri": "note://one", "mimeType": "text/markdown", "text": "# One"},
        ),
        (TextResourceContents(uri="note://one", text=""), {"uri": "note://one", "mimeType": "text/plain", "text": ""}),
        (
            BlobResourceContents(uri="note://one", blob=GOOD),
            {"uri": "note://one", "mimeType": "application/octet-stream", "blob": GOOD},
        ),
    ],
)
async def test_an_embedded_resource_has_a_uri_a_type_and_text_or_base64(
    server: Server, resource: Any, expected: dict[str, Any]
) -> None:
    assert await content_of(server, embedded(resource)) == {"type": "resource", "resource": expected}


@pytest.mark.parametrize(
    "resource",
    [
        TextResourceContents(uri="no uri", text="x"),
        TextResourceContents(uri="note://one", mime_type="text", text="x"),
        BlobResourceContents(uri="note://one", blob="not base64"),
    ],
)
async def test_an_embedded_resource_that_lacks_one_of_these_is_not_sent(
    server: Server, resource: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await check_refused(server, embedded(resource), caplog)


async def test_arguments_and_results_of_a_prompt_are_validated(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    rendered: list[str] = []

    @server.prompt
    def greet(name: Annotated[str, Field(min_length=2)], tone: str = "warm") -> str:
        rendered.append(name)
        return f"Greet {name}"

    @server.prompt(permission=lambda request: False)
    def hidden() -> str:
        return "secret"

    @server.prompt
    def misfit() -> Any:
        return {"role": "system", "content": "x"}

    @server.prompt
    def by_hand() -> GetPromptResult:
        block = ImageContent(type="image", data="hunter2!", mime_type="image/png")
        return GetPromptResult(messages=[PromptMessage(role="user", content=block)])

    peer = await Peer().begin()

    async def get(prompt: str, /, **arguments: Any) -> Any:
        answer = await peer.ask("prompts/get", name=prompt, arguments=arguments)
        return answer.message.get("error") or answer.result["messages"][0]["content"]["text"]

    missing = {"code": -32602, "message": "Missing or invalid arguments: name"}
    assert await get("greet") == missing
    assert await get("greet", name="E") == missing
    assert (await get("greet", name=7))["code"] == -32602
    assert (await get("greet", name=None))["code"] == -32602
    assert rendered == []
    assert await get("greet", name="Eve") == "Greet Eve"
    assert await get("hidden") == {"code": -32602, "message": "Unknown prompt: hidden"}
    assert await get("nothing") == {"code": -32602, "message": "Unknown prompt: nothing"}
    assert await get("misfit") == {"code": -32603, "message": "The prompt 'misfit' failed"}
    assert await get("by_hand") == {"code": -32603, "message": "The prompt 'by_hand' failed"}
    assert "prompt 'misfit' raised" in caplog.text
