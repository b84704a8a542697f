"""The official Python client gets everything there is, in both eras, from both ASGI servers."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

from tests.live.official import Person, connect, text_of
from tests.live.server import CONSUMERS, Served
from tests.live.wire import HANDSHAKE, MODERN

pytestmark = pytest.mark.live

WAIT_SECONDS = 20.0
MODES = ("legacy", MODERN, "auto")


@pytest.fixture(scope="module", params=CONSUMERS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(request.param, tmp_path_factory.mktemp("official")) as running:
        yield running
        assert "Traceback" not in running.log


@pytest.mark.parametrize("mode", MODES)
async def test_the_version_is_agreed_on(served: Served, mode: str) -> None:
    async with connect(served.url, mode) as client:
        assert client.protocol_version == (HANDSHAKE if mode == "legacy" else MODERN)
        if mode != MODERN:
            assert client.server_info is not None
            assert client.server_info.name == "everything"
            assert client.server_capabilities.tools is not None


@pytest.mark.parametrize("mode", MODES)
async def test_tools_are_listed_and_called(served: Served, mode: str) -> None:
    async with connect(served.url, mode) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names[0] == "test_simple_text"
        assert "write_entry" in names
        result = await client.call_tool("test_simple_text", {})
        assert text_of(result) == "This is a simple text response for testing."
        assert result.structured_content == {"result": "This is a simple text response for testing."}
        failed = await client.call_tool("test_error_handling", {})
        assert failed.is_error
        assert text_of(failed) == "This tool intentionally returns an error for testing"
        kinds = [block.type for block in (await client.call_tool("test_multiple_content_types", {})).content]
        assert kinds == ["text", "image", "resource"]
        with pytest.raises(MCPError, match="Unknown tool: nothing"):
            await client.call_tool("nothing", {})


@pytest.mark.parametrize("mode", MODES)
async def test_a_parameter_that_a_proxy_routes_by_is_mirrored(served: Served, mode: str) -> None:
    async with connect(served.url, mode) as client:
        assert text_of(await client.call_tool("test_x_mcp_header", {"region": "zürich"})) == "region: zürich"


@pytest.mark.parametrize("mode", MODES)
async def test_progress_and_log_messages_arrive_while_a_call_runs(served: Served, mode: str) -> None:
    person = Person()
    seen: list[tuple[float, float | None]] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total))

    async with connect(served.url, mode, person=person) as client:
        result = await client.call_tool("test_tool_with_progress", {}, progress_callback=progressed)
        assert text_of(result) == "done"
        assert seen == [(0, 100), (50, 100), (100, 100)]
        await client.call_tool("test_tool_with_logging", {})
        await until(lambda: len(person.logged) == 3)
        assert person.logged == ["Tool execution started", "Tool processing data", "Tool execution completed"]


@pytest.mark.parametrize("mode", MODES)
async def test_questions_of_parameters_are_answered_in_both_eras(served: Served, mode: str) -> None:
    person = Person(name="Ada", color="green", ok=True)
    async with connect(served.url, mode, person=person) as client:
        rounds = await client.call_tool("test_input_required_result_multi_round", {})
        assert text_of(rounds) == "Ada likes green."
        assert person.asked == ["Step 1: What is your name?", "Step 2: What is your favorite color?"]
        assert text_of(await client.call_tool("test_input_required_result_sampling", {})) == "The model says: Paris"
        assert text_of(await client.call_tool("test_input_required_result_list_roots", {})) == "1 roots"
        three = await client.call_tool("test_input_required_result_multiple_inputs", {})
        assert text_of(three) == "Paris Ada, 1 roots"


async def test_questions_in_a_body_are_answered_in_the_handshake_era(served: Served) -> None:
    person = Person(username="ada", email="ada@example.org")
    async with connect(served.url, "legacy", person=person) as client:
        elicited = text_of(await client.call_tool("test_elicitation", {"message": "Who are you?"}))
        assert elicited == f"User response: action=accept, content={json.dumps(person.content)}"
        assert person.asked == ["Who are you?"]
        assert text_of(await client.call_tool("test_sampling", {"prompt": "Capital?"})) == "LLM response: Paris"


@pytest.mark.parametrize("mode", MODES)
async def test_resources_are_listed_and_read(served: Served, mode: str) -> None:
    async with connect(served.url, mode) as client:
        uris = {str(resource.uri) for resource in (await client.list_resources()).resources}
        assert {"test://static-text", "test://static-binary"} <= uris
        templates = (await client.list_resource_templates()).resource_templates
        assert "test://template/{id}/data" in {template.uri_template for template in templates}
        text = (await client.read_resource("test://static-text")).contents[0]
        assert isinstance(text, types.TextResourceContents)
        assert text.text == "This is the content of the static text resource."
        binary = (await client.read_resource("test://static-binary")).contents[0]
        assert isinstance(binary, types.BlobResourceContents)
        assert base64.b64decode(binary.blob).startswith(b"\x89PNG")
        made = (await client.read_resource("test://template/7/data")).contents[0]
        assert isinstance(made, types.TextResourceContents)
        assert json.loads(made.text)["id"] == "7"
        with pytest.raises(MCPError, match="Resource not found"):
            await client.read_resource("test://nothing")


@pytest.mark.parametrize("mode", MODES)
async def test_prompts_are_listed_and_filled_and_their_arguments_completed(served: Served, mode: str) -> None:
    person = Person(context="at work")
    async with connect(served.url, mode, person=person) as client:
        assert "test_simple_prompt" in {prompt.name for prompt in (await client.list_prompts()).prompts}
        filled = await client.get_prompt("test_prompt_with_arguments", {"arg1": "a", "arg2": "b"})
        assert prompt_text(filled) == "Prompt with arguments: arg1='a', arg2='b'"
        assert prompt_text(await client.get_prompt("test_input_required_result_prompt")) == "Context: at work"
        reference = types.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")
        completed = await client.complete(reference, {"name": "arg1", "value": "par"})
        assert completed.completion.values == ["paris", "park", "party"]


async def test_changes_arrive_on_a_subscription(served: Served) -> None:
    async with (
        connect(served.url, MODERN) as client,
        asyncio.timeout(WAIT_SECONDS),
        client.listen(tools_list_changed=True) as subscription,
    ):
        assert subscription.honored.tools_list_changed is True
        await client.call_tool("test_trigger_prompt_change", {})
        await client.call_tool("test_trigger_tool_change", {})
        event = await anext(aiter(subscription))
        assert type(event).__name__ == "ToolsListChanged"


async def test_changes_arrive_on_the_stream_of_a_session(served: Served) -> None:
    person = Person()
    async with connect(served.url, "legacy", person=person) as client:
        with pytest.warns(MCPDeprecationWarning):
            await client.subscribe_resource("test://watched-resource")

        async def triggered() -> bool:
            # The client opens its stream by itself, and does not say when.
            await client.call_tool("test_trigger_tool_change", {})
            return "notifications/tools/list_changed" in person.heard

        await until(triggered)
        with pytest.warns(MCPDeprecationWarning):
            await client.unsubscribe_resource("test://watched-resource")


@pytest.mark.parametrize("mode", MODES)
async def test_a_call_that_its_client_gives_up_is_cancelled(served: Served, mode: str) -> None:
    note = f"cancelled {mode} {served.kind}"
    async with connect(served.url, mode) as client:
        begun = asyncio.Event()

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            begun.set()

        call = asyncio.create_task(client.call_tool("wait_for_cancel", {"note": note}, progress_callback=progressed))
        async with asyncio.timeout(WAIT_SECONDS):
            await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        async def cancelled() -> bool:
            counted = await client.call_tool("count_entries", {"note": note})
            return bool(counted.structured_content == {"result": 1})

        await until(cancelled)


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Return when the condition holds; TimeoutError after WAIT_SECONDS."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            holds: Any = condition()
            if await holds if asyncio.iscoroutine(holds) else holds:
                return
            await asyncio.sleep(0.02)


def prompt_text(result: types.GetPromptResult) -> str:
    content = result.messages[0].content
    assert isinstance(content, types.TextContent)
    return content.text
