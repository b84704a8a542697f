"""Questions asked by parameters: in rounds in the modern era, on the stream in the handshake era."""

import asyncio
import threading
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import override_settings
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from pydantic import BaseModel, Field
from pytest_django import Settings

from django_mcp import Context, Elicit, ElicitationResult, Resolve, Server, ToolError
from django_mcp.exceptions import RegistryError
from django_mcp.server.compile import compiled
from django_mcp.testing import CallResult, Client, MCPClientError, Question, decline

both_eras = pytest.mark.parametrize("mode", ["modern", "legacy"])
pytestmark = pytest.mark.django_db


class Consent(BaseModel):
    ok: bool = Field(description="Go on")


class Name(BaseModel):
    name: str = Field(min_length=2)


def consent(item: str) -> Elicit[Consent]:
    """Ask with an argument of the tool, by its name."""
    return Elicit(f"Buy {item}?", Consent)


async def consent_async(item: str, ctx: Context) -> Elicit[Consent]:
    """Ask with the context, and with the async ORM."""
    return Elicit(f"{ctx.user} buys {item} of {await Group.objects.acount()}?", Consent)


def who() -> Elicit[Name]:
    return Elicit("Who?", Name)


def known(item: str) -> Any:
    """Ask only where the answer is not known."""
    return Name(name="known") if item == "sand" else Elicit("Who?", Name)


def refuse(item: str) -> Elicit[Consent]:
    raise ToolError(f"There is no {item}")


def crash() -> Elicit[Consent]:
    raise LookupError("secret")


def same_name() -> tuple[Callable[..., Any], Callable[..., Any]]:
    def asking() -> Elicit[Name]:
        return Elicit("First?", Name)

    first = asking

    def asking() -> Elicit[Name]:  # type: ignore[no-redef]
        return Elicit("Second?", Name)

    return first, asking


FIRST, SECOND = same_name()


@pytest.fixture
def bought(server: Server) -> list[str]:
    """Define tools that buy what they are told, once the user agrees; note what they bought."""
    bought: list[str] = []

    @server.tool
    def buy(item: str, answer: Annotated[Consent, Resolve(consent)]) -> str:
        if not answer.ok:
            raise ToolError("Not bought")
        bought.append(item)
        return f"{item} {len(bought)}"

    @server.tool(name="buy_idempotent", idempotent=True)
    def again(item: str, answer: Annotated[Consent, Resolve(consent)]) -> str:
        bought.append(item)
        return f"{item} {len(bought)}"

    @server.tool(name="buy_read_only", read_only=True)
    def look(item: str, answer: Annotated[Consent, Resolve(consent)]) -> str:
        bought.append(item)
        return f"{item} {len(bought)}"

    return bought


YES = {"consent": {"ok": True}}


def asked(client: Client, tool: str = "buy", item: str = "sand") -> CallResult:
    result = client.call(tool, {"item": item}, answer=False)
    assert result.stopped
    return result


@both_eras
def test_resolvers_take_arguments_by_name_and_the_context(server: Server, mode: str) -> None:
    @server.tool
    def buy(item: str, answer: Annotated[Consent, Resolve(consent_async)]) -> str:
        return f"{item} {answer.ok}"

    alice = User.objects.create_user("alice")
    Group.objects.create(name="staff")
    client = Client(alice, server="tested", mode=mode, answers={"consent_async": {"ok": True}})
    result = client.call("buy", {"item": "sand"})
    assert result.text == "sand True"
    assert result.questions[0].message == "alice buys sand of 1?"
    (tool,) = client.list_tools()
    assert tool.input_schema["properties"].keys() == {"item"}


@both_eras
def test_a_sync_resolver_runs_on_the_thread_of_the_handler(server: Server, mode: str) -> None:
    seen: list[int] = []

    def asking() -> Elicit[Consent]:
        seen.append(threading.get_ident())
        return Elicit("?", Consent)

    def buy(answer: Any) -> str:
        return str(answer.ok)

    buy.__annotations__["answer"] = Annotated[Consent, Resolve(asking)]
    server.tool(buy)
    assert Client(server="tested", mode=mode, answers={"asking": {"ok": True}}).call("buy").text == "True"
    assert set(seen) == {threading.get_ident()}


@both_eras
def test_a_resolver_that_knows_asks_nothing(server: Server, mode: str) -> None:
    @server.tool
    def greet(item: str, name: Annotated[Name, Resolve(known)]) -> str:
        return name.name

    client = Client(server="tested", mode=mode, answers={"known": {"name": "Eve"}})
    result = client.call("greet", {"item": "sand"})
    assert (result.text, result.questions) == ("known", [])
    assert client.call("greet", {"item": "iron"}).text == "Eve"


@both_eras
def test_a_question_for_two_parameters_is_asked_once(server: Server, mode: str) -> None:
    @server.tool
    def greet(one: Annotated[Name, Resolve(who)], two: Annotated[ElicitationResult[Name], Resolve(who)]) -> str:
        return f"{one.name} {two.action}"

    result = Client(server="tested", mode=mode, answers={"who": {"name": "Eve"}}).call("greet")
    assert (result.text, len(result.questions)) == ("Eve accept", 1)


@both_eras
def test_resolvers_of_one_name_are_numbered(server: Server, mode: str) -> None:
    @server.tool
    def greet(one: Annotated[Name, Resolve(FIRST)], two: Annotated[Name, Resolve(SECOND)]) -> str:
        return f"{one.name} {two.name}"

    client = Client(server="tested", mode=mode, answers={"asking": {"name": "Eve"}, "asking_2": {"name": "Adam"}})
    result = client.call("greet")
    assert result.text == "Eve Adam"
    assert [(question.name, question.message) for question in result.questions] == [
        ("asking", "First?"),
        ("asking_2", "Second?"),
    ]


@both_eras
def test_an_answer_that_does_not_fit_is_an_error_of_the_tool(server: Server, mode: str) -> None:
    @server.tool
    def greet(name: Annotated[Name, Resolve(who)]) -> str:
        return name.name

    client = Client(server="tested", mode=mode)
    for answer in ({"name": "E"}, {}, {"other": "Eve"}):
        result = client.call("greet", answers={"who": answer})
        assert result.is_error
        assert "does not match the requested schema" in result.text


@both_eras
def test_errors_of_a_resolver(server: Server, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    @server.tool
    def refused(item: str, answer: Annotated[Consent, Resolve(refuse)]) -> str:
        return ""

    @server.tool
    def crashed(answer: Annotated[Consent, Resolve(crash)]) -> str:
        return ""

    client = Client(server="tested", mode=mode)
    assert client.call("refused", {"item": "sand"}).text == "There is no sand"
    assert client.call("crashed").text == "The tool 'crashed' failed."
    assert "secret" in caplog.text


@both_eras
def test_arguments_are_checked_before_anything_is_asked(bought: list[str], mode: str) -> None:
    result = Client(server="tested", mode=mode).call("buy", {})
    assert (result.text, result.questions) == ("Invalid arguments: item: Field required", [])


@both_eras
def test_prompts_and_resources_ask_too(server: Server, mode: str) -> None:
    @server.prompt
    def greet(name: Annotated[Name, Resolve(who)]) -> str:
        return f"Greet {name.name}"

    @server.resource("card://{item}")
    def card(item: str, answer: Annotated[Consent, Resolve(consent)]) -> str:
        return f"{item} {answer.ok}"

    client = Client(server="tested", mode=mode, answers={"who": {"name": "Eve"}, **YES})
    assert client.prompt("greet").text == "Greet Eve"
    assert client.list_prompts()[0].arguments in (None, [])
    assert client.read("card://sand").text == "sand True"


def test_a_resolver_that_depends_on_itself_does_not_load(server: Server) -> None:
    def circle(again: Any) -> Elicit[Name]:
        return Elicit("?", Name)

    circle.__annotations__["again"] = Annotated[Name, Resolve(circle)]

    def greet(name: Any) -> str:
        return ""

    greet.__annotations__["name"] = Annotated[Name, Resolve(circle)]
    definition: Any = server.tool(greet)
    with pytest.raises(RegistryError, match="has the resolver 'circle', which depends on itself") as caught:
        compiled(server)
    assert caught.value.where == definition.where


def test_a_resolver_that_wants_what_there_is_not_does_not_load(server: Server) -> None:
    @server.tool
    def greet(answer: Annotated[Consent, Resolve(consent)]) -> str:
        return ""

    with pytest.raises(RegistryError, match="item"):
        compiled(server)


def test_rounds_written_by_hand(server: Server) -> None:
    @server.tool
    def greet(ctx: Context) -> str | InputRequiredResult:
        answer = (ctx.input_responses or {}).get("user_name")
        if isinstance(answer, ElicitResult) and answer.content:
            return f"{ctx.request_state} {answer.content['name']}"
        params = ElicitRequestFormParams(message="Who?", requested_schema=Name.model_json_schema())
        return InputRequiredResult(input_requests={"user_name": ElicitRequest(params=params)}, request_state="kept")

    client = Client(server="tested", answers={"user_name": {"name": "Eve"}})
    first = client.call("greet", answer=False)
    assert first.request_state
    assert "kept" not in first.request_state
    assert client.call("greet", after=first).text == "kept Eve"


# The sealed state


def test_a_state_is_for_its_caller_its_tool_and_its_arguments(bought: list[str], server: Server) -> None:
    alice, bob = (User.objects.create_user(name) for name in ("alice", "bob"))
    client = Client(alice, server="tested", answers=YES)
    first = asked(client)
    strangers = [
        (Client(bob, server="tested", answers=YES), "buy", "sand"),
        (Client(server="tested", answers=YES), "buy", "sand"),
        (Client(alice, server="tested", answers=YES, tenant="other"), "buy", "sand"),
        (client, "buy", "iron"),
        (client, "buy_idempotent", "sand"),
    ]
    for stranger, tool, item in strangers:
        with pytest.raises(MCPClientError) as caught:
            stranger.call(tool, {"item": item}, after=first)
        assert (caught.value.code, caught.value.status) == (-32602, 400)
        assert caught.value.message == "Invalid or expired requestState"
    assert bought == []
    assert client.call("buy", {"item": "sand"}, after=first).text == "sand 1"


@pytest.mark.parametrize("state", ["", "v1.AAAA", "nonsense", "v1." + "A" * 400])
def test_a_state_that_was_never_given_is_refused(bought: list[str], state: str) -> None:
    params = {"name": "buy", "arguments": {"item": "sand"}, "requestState": state}
    with pytest.raises(MCPClientError, match="Invalid or expired requestState"):
        Client(server="tested").request("tools/call", params)
    assert bought == []


def test_answers_without_a_state_are_asked_for_again(bought: list[str]) -> None:
    answer = {"consent": {"action": "accept", "content": {"ok": True}}}
    params = {"name": "buy", "arguments": {"item": "sand"}, "inputResponses": answer}
    reply = Client(server="tested").request("tools/call", params, answer=False)
    assert [question.name for question in reply.questions] == ["consent"]
    assert bought == []


def test_a_state_lives_under_an_old_key_and_dies_with_it(bought: list[str], settings: Settings) -> None:
    client = Client(server="tested", answers=YES)
    first = asked(client)
    old = settings.SECRET_KEY
    with (
        override_settings(SECRET_KEY="another key " * 6, SECRET_KEY_FALLBACKS=[]),
        pytest.raises(MCPClientError, match="Invalid or expired requestState"),
    ):
        client.call("buy", {"item": "sand"}, after=first)
    with override_settings(SECRET_KEY="another key " * 6, SECRET_KEY_FALLBACKS=[old]):
        assert client.call("buy", {"item": "sand"}, after=first).text == "sand 1"


# One body for one state


def test_a_repeated_last_round_gets_the_recorded_result(bought: list[str]) -> None:
    client = Client(server="tested", answers=YES)
    first = asked(client)
    assert {client.call("buy", {"item": "sand"}, after=first).text for _ in range(4)} == {"sand 1"}
    assert client.call("buy", {"item": "sand"}, after=asked(client)).text == "sand 2"
    assert bought == ["sand", "sand"]


def test_another_answer_changes_nothing_once_the_body_ran(bought: list[str]) -> None:
    client = Client(server="tested")
    first = asked(client)
    no = client.call("buy", {"item": "sand"}, after=first, answers={"consent": {"ok": False}})
    assert (no.is_error, no.text) == (True, "Not bought")
    yes = client.call("buy", {"item": "sand"}, after=first, answers=YES)
    assert (yes.is_error, yes.text) == (True, "Not bought")
    assert bought == []


def test_a_no_to_the_question_leaves_the_state_as_good_as_before(bought: list[str]) -> None:
    client = Client(server="tested")
    first = asked(client)
    assert client.call("buy", {"item": "sand"}, after=first, answers={"consent": decline()}).is_error
    assert client.call("buy", {"item": "sand"}, after=first, answers=YES).text == "sand 1"


@pytest.mark.parametrize("tool", ["buy_idempotent", "buy_read_only"])
def test_a_tool_that_may_run_twice_does(bought: list[str], tool: str) -> None:
    client = Client(server="tested", answers=YES)
    first = asked(client, tool)
    texts = [client.call(tool, {"item": "sand"}, after=first).text for _ in range(2)]
    assert texts == ["sand 1", "sand 2"]


# The handshake era


@pytest.mark.django_db(transaction=True)
async def test_a_question_that_nobody_answers_ends(server: Server, settings: Settings) -> None:
    settings.DJANGO_MCP = {"QUESTION_SECONDS": 1}
    given_up = asyncio.Event()
    told: list[str] = []

    @server.tool
    async def ask(ctx: Context) -> str:
        try:
            await ctx.aelicit("Anybody?", Name)
        except MCPError as error:
            told.append(str(error))
            given_up.set()
            raise ToolError("Nobody") from error
        return ""

    async def answer(question: Question) -> dict[str, str]:
        await given_up.wait()
        return {"name": "too late"}

    result = await Client(server="tested", mode="legacy", answers=answer).acall("ask")
    assert (result.is_error, result.text) == (True, "Nobody")
    assert told == ["the client did not answer elicitation/create in time"]
