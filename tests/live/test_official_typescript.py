"""The official TypeScript client and the MCP Inspector's command line, with an access token."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.node_client import inspect, typescript, typescript_call
from tests.live.server import CONSUMERS, Served
from tests.live.wire import HANDSHAKE, Caller

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", params=CONSUMERS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("typescript")
    terms = {"RETRY_MILLISECONDS": 50}
    with Served(request.param, folder, settings="tests.live.settings_required", mcp=terms) as running:
        yield running
        assert "Traceback" not in running.log


@pytest.fixture(scope="module")
def token(served: Served) -> str:
    return str(json.loads(served.run("tests.live.accounts", "make"))["alice"])


def test_tools_are_listed_and_called(served: Served, token: str, tmp_path: Path) -> None:
    report = typescript_call(tmp_path, served.url, token, "who", {})
    assert "test_simple_text" in report["tools"]
    assert report["result"]["structuredContent"] == {"result": "alice"}


def test_progress_questions_and_resumed_streams(served: Served, token: str, tmp_path: Path) -> None:
    report = typescript(tmp_path, "everything.mjs", served.url, token)
    assert report["progressed"] == "done"
    assert [step["progress"] for step in report["progress"]] == [0, 50, 100]
    assert report["elicited"].startswith("User response: action=accept, content=")
    assert report["rounds"] == "Ada likes green."
    assert report["questions"] == [
        "Who are you?",
        "Step 1: What is your name?",
        "Step 2: What is your favorite color?",
    ]
    assert report["heardTools"] is report["heardPrompts"] is True
    assert report["reconnected"] == "Reconnection test completed"
    assert report["resumedCalls"] == 1


def test_the_inspector_lists_calls_and_reads(served: Served, token: str, tmp_path: Path) -> None:
    listed = inspect(tmp_path, served.url, token, "--method", "tools/list")
    assert "test_simple_text" in {tool["name"] for tool in listed["tools"]}
    called = inspect(tmp_path, served.url, token, "--method", "tools/call", "--tool-name", "who")
    assert called["content"] == [{"type": "text", "text": "alice"}]
    given = ("--tool-name", "count_entries", "--tool-arg", "note=nothing")
    counted = inspect(tmp_path, served.url, token, "--method", "tools/call", *given)
    assert counted["structuredContent"] == {"result": 0}
    read = inspect(tmp_path, served.url, token, "--method", "resources/read", "--uri", "test://static-text")
    assert read["contents"][0]["text"] == "This is the content of the static text resource."


def test_without_a_token_they_are_refused(served: Served, tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"401|Authentication required|Unauthorized"):
        typescript_call(tmp_path, served.url, "", "who", {})
    assert Caller(port=served.port).initialize(HANDSHAKE).status == 401
