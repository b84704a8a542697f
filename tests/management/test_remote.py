"""`manage.py mcp tools|call|read|prompt --url` against a server, through the official client."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_mcp.management.remote import remote_client
from django_mcp.testing import Log, Progress, UnansweredQuestion
from django_mcp.testing.answers import AnswerBook
from tests.live.server import Kind, Served
from tests.services import HOST, free_port

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(Kind.UVICORN, tmp_path_factory.mktemp("remote")) as served:
        yield served


@pytest.fixture(scope="module")
def secrets(served: Served) -> dict[str, str]:
    made: dict[str, str] = json.loads(served.run("tests.live.accounts", "make"))
    return made


def run(served: Served, *words: str) -> str:
    stdout = io.StringIO()
    call_command("mcp", *words, "--url", served.url, stdout=stdout, stderr=io.StringIO(), no_color=True)
    return stdout.getvalue()


def test_tools_are_listed(served: Served) -> None:
    assert "test_simple_text()\n    Return one text.\n" in run(served, "tools")
    assert "test_simple_text" in {tool["name"] for tool in json.loads(run(served, "tools", "--json"))}


def test_a_tool_is_called(served: Served) -> None:
    assert run(served, "call", "test_simple_text") == "This is a simple text response for testing.\n"
    assert run(served, "call", "test_x_mcp_header", "region=north") == "region: north\n"
    with pytest.raises(CommandError, match=r"^This tool intentionally returns an error for testing$"):
        run(served, "call", "test_error_handling")
    with pytest.raises(CommandError, match="There is no tool 'missing'"):
        run(served, "call", "missing")


def test_a_question_is_answered_by_its_name(served: Served) -> None:
    words = ("call", "test_input_required_result_multi_round")
    answers = ("--answer", 'step1={"name": "Eve"}', "--answer", 'step2={"color": "red"}')
    assert run(served, *words, *answers) == "Eve likes red.\n"
    with pytest.raises(CommandError, match=r"The server asked the question 'step2' \(elicitation\): Step 2"):
        run(served, *words, *answers[:2])


def test_resources_and_prompts(served: Served) -> None:
    assert json.loads(run(served, "read", "test://template/7/data"))["id"] == "7"
    with pytest.raises(CommandError, match="Resource not found"):
        run(served, "read", "test://nowhere")
    assert "user: " in run(served, "prompt", "test_simple_prompt")
    with pytest.raises(CommandError, match="Unknown prompt: missing"):
        run(served, "prompt", "missing")


def test_a_token_says_who_asks(served: Served, secrets: dict[str, str]) -> None:
    assert "alice" in run(served, "call", "who", "--token", secrets["alice"])
    with pytest.raises(CommandError, match=served.url):
        run(served, "tools", "--token", secrets["revoked"])


def test_a_server_that_does_not_answer_is_one_line() -> None:
    url = f"http://{HOST}:{free_port()}/mcp"
    with pytest.raises(CommandError, match=f"^{url} cannot be asked: ") as caught:
        call_command("mcp", "tools", "--url", url, stdout=io.StringIO(), stderr=io.StringIO())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_both_eras_through_the_official_client(served: Served, mode: str) -> None:
    heard: list[Any] = []
    book = AnswerBook({"step1": {"name": "Eve"}, "step2": {"color": "red"}, "confirm": {"ok": True}})
    async with remote_client(served.url, None, book.respond, heard.append, mode=mode) as client:
        assert (await client.acall("test_input_required_result_multi_round", {})).text == "Eve likes red."
        await client.acall("test_tool_with_progress", {})
        await client.acall("test_tool_with_logging", {})
        with pytest.raises(UnansweredQuestion, match="the question 'user_name'"):
            await client.acall("test_input_required_result_multiple_inputs", {})
    assert [one.progress for one in heard if isinstance(one, Progress)] == [0, 50, 100]
    assert len([one for one in heard if isinstance(one, Log)]) == 3
