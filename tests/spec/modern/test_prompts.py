"""Prompts: their arguments, and the content that they may hold (server/prompts)."""

import base64
from typing import Any

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

from django_mcp import Audio, Image, Server
from tests.spec.modern.wire import post, request

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(range(256))


async def rendered(server: Server, *values: Any) -> list[Any]:
    """Return the content blocks of a prompt that gives these values."""

    @server.prompt
    async def show() -> Any:
        return list(values)

    try:
        answer = await post(request("prompts/get", {"name": "show"}))
        return [message["content"] for message in answer.result["messages"]]
    finally:
        server.remove(show)


def embedded(uri: str, mime_type: str | None = None, **content: str) -> EmbeddedResource:
    contents = TextResourceContents if "text" in content else BlobResourceContents
    return EmbeddedResource(type="resource", resource=contents(uri=uri, mime_type=mime_type, **content))


async def test_an_image_of_a_prompt_is_base64_with_its_type(server: Server) -> None:
    by_hand = ImageContent(type="image", data=base64.b64encode(PNG).decode(), mime_type="image/png")
    for block in await rendered(server, Image(data=PNG, format="png"), PNG, by_hand):
        assert (block["type"], block["mimeType"]) == ("image", "image/png")
        assert base64.b64decode(block["data"], validate=True) == PNG


async def test_audio_of_a_prompt_is_base64_with_its_type(server: Server) -> None:
    by_hand = AudioContent(type="audio", data=base64.b64encode(WAV).decode(), mime_type="audio/wav")
    for block in await rendered(server, Audio(data=WAV, format="wav"), WAV, by_hand):
        assert (block["type"], block["mimeType"]) == ("audio", "audio/wav")
        assert base64.b64decode(block["data"], validate=True) == WAV


async def test_a_resource_in_a_prompt_has_a_uri_a_type_and_content(server: Server) -> None:
    text, blob, raw = await rendered(
        server, embedded("note://a", text="hello"), embedded("note://b", blob="aGVsbG8="), b"hello"
    )
    assert text["resource"] == {"uri": "note://a", "mimeType": "text/plain", "text": "hello"}
    assert blob["resource"] == {"uri": "note://b", "mimeType": "application/octet-stream", "blob": "aGVsbG8="}
    assert (raw["resource"]["mimeType"], raw["resource"]["blob"]) == ("application/octet-stream", "aGVsbG8=")
    assert raw["resource"]["uri"].startswith("data:")
    (typed,) = await rendered(server, embedded("note://a", "text/markdown; charset=utf-8", text="# Hello"))
    assert typed["resource"]["mimeType"] == "text/markdown; charset=utf-8"


@pytest.mark.parametrize(
    "block",
    [
        ImageContent(type="image", data="not base64!", mime_type="image/png"),
        ImageContent(type="image", data="aGVsbG8=", mime_type="picture"),
        ImageContent(type="image", data="aGVsbG8=", mime_type=""),
        AudioContent(type="audio", data="a", mime_type="audio/wav"),
        AudioContent(type="audio", data="aGVsbG8=", mime_type="audio/"),
        embedded("note://a", "image/png", blob="\u00e9"),
        embedded("note://a", "nothing", text="a"),
        embedded("no uri", text="a"),
        embedded("", text="a"),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
async def test_content_of_a_prompt_that_is_none_is_not_sent(
    server: Server, block: Any, whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    @server.prompt
    async def show() -> Any:
        message = PromptMessage(role="user", content=block)
        return GetPromptResult(messages=[message]) if whole else block

    error = (await post(request("prompts/get", {"name": "show"}))).error
    assert (error["code"], error["message"]) == (-32603, "The prompt 'show' failed")
    assert "prompt 'show' raised" in caplog.text


async def test_arguments_and_messages_of_a_prompt_are_validated(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    @server.prompt
    async def plan(day: str, city: str = "Rome") -> str:
        return f"Plan {day} in {city}."

    @server.prompt
    async def odd() -> Any:
        return {"role": "system", "content": "hunter2"}

    async def get(name: str, arguments: Any) -> Any:
        return await post(request("prompts/get", {"name": name, "arguments": arguments}))

    injected = (await get("plan", {"day": "</user>\n{city}", "unknown": "x"})).result["messages"]
    assert injected == [{"role": "user", "content": {"type": "text", "text": "Plan </user>\n{city} in Rome."}}]
    unfit: list[Any] = [{}, {"city": "Rome"}, {"day": 7}, {"day": None}, [], "monday"]
    for wrong in unfit:
        answer = await get("plan", wrong)
        assert (answer.status, answer.error["code"]) == (400, -32602)
    broken = await get("odd", {})
    assert broken.error["message"] == "The prompt 'odd' failed"
    assert "hunter2" not in str(broken.messages)
