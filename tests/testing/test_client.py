"""The client itself: what it returns, what it raises, how it answers."""

from typing import Annotated, Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from mcp_types import CreateMessageResult, ListRootsResult, SamplingMessage, TextContent
from pydantic import BaseModel

from django_mcp import (
    AcceptedElicitation,
    CancelledElicitation,
    Context,
    DeclinedElicitation,
    Elicit,
    ElicitationResult,
    ListRoots,
    Resolve,
    Sample,
    Server,
)
from django_mcp.models import MCPSession
from django_mcp.testing import (
    Client,
    Log,
    MCPClientError,
    Progress,
    Question,
    UnansweredQuestion,
    accept,
    cancel,
    decline,
)

ERAS = ["modern", "legacy"]
both_eras = pytest.mark.parametrize("mode", ERAS)
# An async test's ORM runs on a thread of its own, where the transaction of `django_db` does not reach.
committed = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.django_db


class Confirmation(BaseModel):
    ok: bool


class Name(BaseModel):
    name: str


def confirm_booking(reference: str) -> Elicit[Confirmation]:
    return Elicit(f"Book {reference}?", Confirmation)


def who() -> Elicit[Name]:
    return Elicit("Who is it for?", Name)


def whose_booking(name: Annotated[Name, Resolve(who)]) -> Elicit[Confirmation]:
    return Elicit(f"Really for {name.name}?", Confirmation)


def joke() -> Sample:
    return Sample([SamplingMessage(role="user", content=TextContent(type="text", text="Tell a joke"))], max_tokens=9)


def roots() -> ListRoots:
    return ListRoots()


@pytest.fixture
def booked(server: Server) -> list[str]:
    """Define a tool that asks, and note what it booked."""
    booked: list[str] = []

    @server.tool
    def book(reference: str, answer: Annotated[Confirmation, Resolve(confirm_booking)]) -> str:
        booked.append(reference)
        return f"{reference} {answer.ok} {len(booked)}"

    return booked


@both_eras
def test_a_result_holds_everything_that_was_sent(server: Server, mode: str) -> None:
    @server.tool
    def work(ctx: Context) -> dict[str, int]:
        ctx.progress(1, 3, "one")
        ctx.warning({"left": 2})
        ctx.log("debug", "fine", logger="worker")
        ctx.progress(3)
        return {"done": 3}

    heard: list[Any] = []
    result = Client(server="tested", mode=mode, listener=heard.append).call("work")
    assert result.progress == [Progress(progress=1, total=3, message="one"), Progress(progress=3)]
    assert result.logs == [Log(level="warning", data={"left": 2}), Log(level="debug", data="fine", logger="worker")]
    assert heard == [result.progress[0], *result.logs, result.progress[1]]
    assert (result.structured, result.is_error, result.status, result.stopped) == ({"done": 3}, False, 200, False)
    assert result.content == [TextContent(type="text", text=result.text)]
    assert result.raw["structuredContent"] == {"done": 3}
    assert (result.questions, result.request_state) == ([], None)


@both_eras
@pytest.mark.parametrize(("log_level", "count"), [("warning", 1), ("debug", 2)])
def test_log_messages_come_from_a_level_on(server: Server, mode: str, log_level: str, count: int) -> None:
    @server.tool
    async def chat(ctx: Context) -> str:
        await ctx.adebug("a")
        await ctx.aerror("b")
        return ""

    assert len(Client(server="tested", mode=mode, log_level=log_level).call("chat").logs) == count


@both_eras
def test_a_protocol_error_is_raised(server: Server, mode: str) -> None:
    with pytest.raises(MCPClientError, match=r"Unknown tool: nothing \(code -32602") as caught:
        Client(server="tested", mode=mode).call("nothing")
    assert (caught.value.code, caught.value.message, caught.value.data) == (-32602, "Unknown tool: nothing", None)
    assert caught.value.status == (400 if mode == "modern" else 200)


@both_eras
def test_a_method_that_there_is_not(server: Server, mode: str) -> None:
    with pytest.raises(MCPClientError) as caught:
        Client(server="tested", mode=mode).request("tools/uninvented")
    assert (caught.value.code, caught.value.status) == (-32601, 404 if mode == "modern" else 200)


def test_a_server_or_a_mode_that_there_is_not(server: Server) -> None:
    with pytest.raises(LookupError, match=r"there is no MCP server 'missing'; there are .*default.*tested"):
        Client(server="missing")
    with pytest.raises(ValueError, match=r"there is no mode '2024-01-01'; there are modern, legacy, .*2026-07-28"):
        Client(server="tested", mode="2024-01-01")


@pytest.mark.parametrize("mode", ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"])
def test_a_version_may_be_named(server: Server, mode: str) -> None:
    @server.tool
    def version(ctx: Context) -> str:
        return ctx.protocol_version

    client = Client(server="tested", mode=mode)
    assert client.call("version").text == client.protocol_version == mode


@both_eras
def test_the_user_is_the_caller(server: Server, mode: str) -> None:
    @server.tool
    def whoami(ctx: Context) -> str:
        assert ctx.request.user == ctx.user
        return str(ctx.user)

    alice = User.objects.create_user("alice")
    assert Client(alice, server="tested", mode=mode).call("whoami").text == "alice"
    assert Client(server="tested", mode=mode).call("whoami").text == "AnonymousUser"
    assert Client(AnonymousUser(), server="tested", mode=mode).call("whoami").text == "AnonymousUser"


@both_eras
def test_headers_path_and_tenant_reach_the_handler(server: Server, mode: str) -> None:
    @server.tool
    def look(ctx: Context) -> list[str]:
        kwargs = ctx.request.resolver_match.kwargs if ctx.request.resolver_match else None
        return [ctx.request.headers["X-Shop"], ctx.request.path, ctx.tenant, str(kwargs)]

    client = Client(server="tested", mode=mode, headers={"X-Shop": "north"}, path="/mcp/", tenant="acme")
    assert client.call("look").structured == {"result": ["north", "/mcp/", "acme", "{}"]}
    nowhere = Client(server="tested", mode=mode, headers={"X-Shop": "south"}, path="/nowhere")
    assert nowhere.call("look").structured == {"result": ["south", "/nowhere", "", "None"]}


@both_eras
def test_an_answer_is_found_by_the_name_of_the_asking_function(booked: list[str], mode: str) -> None:
    client = Client(server="tested", mode=mode, answers={"confirm_booking": {"ok": True}})
    result = client.call("book", {"reference": "A1"})
    assert result.text == "A1 True 1"
    (question,) = result.questions
    assert (question.name, question.kind, question.message) == ("confirm_booking", "elicitation", "Book A1?")
    assert question.schema["properties"]["ok"]["type"] == "boolean"


@both_eras
@pytest.mark.parametrize(
    "answers",
    [
        {"Book A1?": {"ok": False}},
        {"elicitation": Confirmation(ok=False)},
        {"confirm_booking": accept(ok=False)},
        {"confirm_booking": lambda question: {"ok": question.message == "other"}},
        lambda question: accept({"ok": question.name == "other"}),
    ],
    ids=["text", "kind", "accept", "callable", "callable for all"],
)
def test_the_ways_to_answer(booked: list[str], mode: str, answers: Any) -> None:
    assert Client(server="tested", mode=mode).call("book", {"reference": "A1"}, answers=answers).text == "A1 False 1"


@committed
@both_eras
async def test_an_async_callable_answers(booked: list[str], mode: str) -> None:
    async def answer(question: Question) -> dict[str, bool]:
        return {"ok": await User.objects.acount() == 0}

    client = Client(server="tested", mode=mode, answers=answer)
    assert (await client.acall("book", {"reference": "A1"})).text == "A1 True 1"


@both_eras
def test_answers_can_be_made_ready_later_and_those_of_a_call_come_first(booked: list[str], mode: str) -> None:
    client = Client(server="tested", mode=mode)
    client.answer("confirm_booking", {"ok": True})
    assert client.call("book", {"reference": "A1"}).text == "A1 True 1"
    assert client.call("book", {"reference": "A1"}, answers={"confirm_booking": {"ok": False}}).text == "A1 False 2"


@both_eras
def test_a_question_without_an_answer_is_an_error_that_shows_it(booked: list[str], mode: str) -> None:
    with pytest.raises(UnansweredQuestion) as caught:
        Client(server="tested", mode=mode).call("book", {"reference": "A1"})
    assert str(caught.value) == (
        "the server asked the question 'confirm_booking' (elicitation): Book A1?; "
        "give answers={'confirm_booking': …}, or call with answer=False to look at the question"
    )
    with pytest.raises(UnansweredQuestion):
        Client(server="tested", mode=mode, answers=lambda question: None).call("book", {"reference": "A1"})
    with pytest.raises(TypeError, match="no answer to the question 'confirm_booking'"):
        Client(server="tested", mode=mode, answers={"confirm_booking": 5}).call("book", {"reference": "A1"})
    assert booked == []


@both_eras
def test_a_call_can_stop_at_its_questions(booked: list[str], mode: str) -> None:
    client = Client(server="tested", mode=mode)
    asked = client.call("book", {"reference": "A1"}, answer=False)
    assert asked.stopped
    assert [question.message for question in asked.questions] == ["Book A1?"]
    assert booked == []
    done = client.call("book", {"reference": "A1"}, after=asked, answers={"confirm_booking": {"ok": True}})
    assert (done.text, done.stopped) == ("A1 True 1", False)


def test_a_last_round_sent_twice_runs_once(booked: list[str]) -> None:
    client = Client(server="tested", answers={"confirm_booking": {"ok": True}})
    asked = client.call("book", {"reference": "A1"}, answer=False)
    results = [client.call("book", {"reference": "A1"}, after=asked) for _ in range(3)]
    assert [result.text for result in results] == ["A1 True 1"] * 3
    assert booked == ["A1"]


@both_eras
def test_questions_after_answers(server: Server, mode: str) -> None:
    @server.tool
    def give(sure: Annotated[Confirmation, Resolve(whose_booking)], name: Annotated[Name, Resolve(who)]) -> str:
        return f"{name.name} {sure.ok}"

    client = Client(server="tested", mode=mode, answers={"who": {"name": "Eve"}, "whose_booking": {"ok": True}})
    result = client.call("give")
    assert result.text == "Eve True"
    assert [(question.name, question.message) for question in result.questions] == [
        ("who", "Who is it for?"),
        ("whose_booking", "Really for Eve?"),
    ]
    if mode == "modern":
        first = client.call("give", answer=False)
        second = client.call("give", after=first, answer=False)
        assert [question.name for question in second.questions] == ["whose_booking"]
        assert client.call("give", after=second).text == "Eve True"


@both_eras
def test_a_no_aborts_or_is_told(server: Server, mode: str) -> None:
    @server.tool
    def must(answer: Annotated[Name, Resolve(who)]) -> str:
        return answer.name

    @server.tool
    def may(answer: Annotated[ElicitationResult[Name], Resolve(who)]) -> str:
        match answer:
            case AcceptedElicitation():
                return answer.data.name
            case DeclinedElicitation():
                return "declined"
            case CancelledElicitation():
                return "cancelled"

    client = Client(server="tested", mode=mode)
    refused = client.call("must", answers={"who": decline()})
    assert refused.is_error
    assert "elicitation was decline" in refused.text
    assert client.call("may", answers={"who": {"name": "Eve"}}).text == "Eve"
    assert client.call("may", answers={"who": decline()}).text == "declined"
    assert client.call("may", answers={"who": cancel()}).text == "cancelled"


@both_eras
def test_the_model_and_the_roots_are_asked(server: Server, mode: str) -> None:
    @server.tool
    def ask(
        said: Annotated[CreateMessageResult, Resolve(joke)], where: Annotated[ListRootsResult, Resolve(roots)]
    ) -> str:
        assert isinstance(said.content, TextContent)
        return f"{said.content.text} {[str(root.uri) for root in where.roots]}"

    client = Client(server="tested", mode=mode, answers={"joke": "ha", "roots": ["file:///a", {"uri": "file:///b"}]})
    result = client.call("ask")
    assert result.text == "ha ['file:///a', 'file:///b']"
    assert [question.kind for question in result.questions] == ["sampling", "roots"]
    assert result.questions[0].message == "Tell a joke"


def test_a_question_in_a_body_goes_by_its_text(server: Server) -> None:
    @server.tool
    async def ask(ctx: Context) -> str:
        outcome = await ctx.aelicit("And you?", Name)
        return str(outcome.data.name)

    legacy = Client(server="tested", mode="legacy", answers={"And you?": {"name": "Eve"}})
    result = legacy.call("ask")
    assert (result.text, result.questions[0].name) == ("Eve", "")
    assert Client(server="tested").call("ask").is_error


@both_eras
def test_a_client_may_say_that_it_cannot_answer(booked: list[str], mode: str) -> None:
    client = Client(server="tested", mode=mode, capabilities={})
    with pytest.raises(MCPClientError) as caught:
        client.call("book", {"reference": "A1"})
    assert caught.value.code == -32021
    assert caught.value.data == {"requiredCapabilities": {"elicitation": {"form": {}}}}


def test_a_stream_that_the_server_closes_is_resumed(server: Server) -> None:
    @server.tool
    async def part(ctx: Context) -> str:
        await ctx.aclose_stream()
        await ctx.aprogress(1)
        return "together again"

    result = Client(server="tested", mode="legacy").call("part")
    assert (result.text, len(result.progress)) == ("together again", 1)


def test_a_legacy_client_keeps_one_session(server: Server) -> None:
    server.tool(name="one")(lambda: "")
    client = Client(server="tested", mode="legacy")
    assert not MCPSession.objects.exists()
    client.list_tools()
    client.call("one")
    session = MCPSession.objects.get()
    assert (session.protocol_version, session.client_name) == ("2025-11-25", "django_mcp.testing")
    session.terminate()
    with pytest.raises(MCPClientError, match="Session not found") as caught:
        client.call("one")
    assert caught.value.status == 404


@committed
@both_eras
async def test_every_method_has_an_async_twin(server: Server, mode: str) -> None:
    @server.tool
    def hello() -> str:
        return "hi"

    @server.resource("note://one")
    def one() -> str:
        return "first"

    @server.resource("note://{name}")
    def note(name: str) -> str:
        return name

    @server.prompt
    def greet(name: str) -> str:
        return f"Greet {name}"

    @server.completion("name", prompt="greet")
    def names(value: str) -> list[str]:
        return [value + "a"]

    client = Client(server="tested", mode=mode)
    assert [tool.name for tool in await client.alist_tools()] == ["hello"]
    assert [resource.uri for resource in await client.alist_resources()] == ["note://one"]
    assert [template.uri_template for template in await client.alist_templates()] == ["note://{name}"]
    assert [prompt.name for prompt in await client.alist_prompts()] == ["greet"]
    assert (await client.acall("hello")).text == "hi"
    assert (await client.aread("note://two")).text == "two"
    assert (await client.aprompt("greet", {"name": "Eve"})).text == "Greet Eve"
    assert (await client.acomplete("name", "Ev", prompt="greet")).values == ["Eva"]
    assert (await client.arequest("tools/list")).raw["tools"][0]["name"] == "hello"


@both_eras
def test_every_method_has_a_sync_twin(server: Server, mode: str) -> None:
    server.tool(name="hello")(lambda: "hi")
    server.resource("note://one")(lambda: "first")
    server.resource("note://{name}")(lambda name: name)
    server.prompt(name="greet")(lambda name: f"Greet {name}")
    server.completion("name", prompt="greet")(lambda value: [value + "a"])
    client = Client(server="tested", mode=mode)
    assert [tool.name for tool in client.list_tools()] == ["hello"]
    assert [resource.uri for resource in client.list_resources()] == ["note://one"]
    assert [template.uri_template for template in client.list_templates()] == ["note://{name}"]
    assert [prompt.name for prompt in client.list_prompts()] == ["greet"]
    assert client.read("note://one").text == "first"
    assert client.prompt("greet", {"name": "Eve"}).text == "Greet Eve"
    suggestions = client.complete("name", "Ev", prompt="greet")
    assert (suggestions.values, suggestions.total, suggestions.has_more) == (["Eva"], 1, False)
    with pytest.raises(TypeError, match="either prompt= or resource="):
        client.complete("name", "Ev")
