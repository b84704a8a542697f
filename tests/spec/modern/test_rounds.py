"""Multi-round-trip requests: questions in results, sealed state, clients that never answer (basic/patterns/mrtr)."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import pytest
from asgiref.sync import sync_to_async
from mcp_types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)
from pydantic import BaseModel
from pytest_django import Settings

from django_mcp import Context, Elicit, ListRoots, Resolve, Sample, Server
from django_mcp.exceptions import RegistryError
from django_mcp.models import MCPSession
from django_mcp.models.claim import Claim
from django_mcp.models.stored_result import StoredResult
from django_mcp.server.compile import compiled
from tests.servers import defined
from tests.spec.modern.wire import EVERYTHING, REQUESTS, Answer, call, post, request

KINDS = {"elicitation/create", "sampling/createMessage", "roots/list"}
MESSAGE = SamplingMessage(role="user", content=TextContent(type="text", text="Say something"))
BY_HAND: Mapping[str, Any] = {
    "form": ElicitRequest(
        params=ElicitRequestFormParams(message="?", requested_schema={"type": "object", "properties": {}})
    ),
    "url": ElicitRequest(params=ElicitRequestURLParams(message="?", url="https://example.com/", elicitation_id="1")),
    "sampling": CreateMessageRequest(params=CreateMessageRequestParams(messages=[MESSAGE], max_tokens=9)),
    "tools": CreateMessageRequest(params=CreateMessageRequestParams(messages=[MESSAGE], max_tokens=9, tools=[])),
    "roots": ListRootsRequest(),
}
#: What each question needs, and what is declared that does not suffice.
NEEDS: Mapping[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "form": ({"elicitation": {"form": {}}}, [{}, {"elicitation": {"url": {}}}, {"sampling": {}}]),
    "url": ({"elicitation": {"url": {}}}, [{}, {"elicitation": {}}, {"elicitation": {"form": {}}}]),
    "sampling": ({"sampling": {}}, [{}, {"elicitation": {}, "roots": {}}]),
    "tools": ({"sampling": {"tools": {}}}, [{}, {"sampling": {}}]),
    "roots": ({"roots": {}}, [{}, {"sampling": {}}]),
}


class Name(BaseModel):
    name: str


class Sure(BaseModel):
    sure: bool


def who() -> Elicit[Name]:
    return Elicit("Who is it for?", Name)


def sure() -> Elicit[Sure]:
    return Elicit("Are you sure?", Sure)


def joke() -> Sample:
    return Sample([MESSAGE], max_tokens=9)


def roots() -> ListRoots:
    return ListRoots()


def another(function: Any) -> Any:
    """Return a second resolver of the same name."""

    def copy() -> Elicit[Name]:
        return Elicit("Who else?", Name)

    copy.__name__ = function.__name__
    return copy


WHO_ELSE = another(who)


@pytest.fixture
def ran() -> list[str]:
    return []


@pytest.fixture
def booking(server: Server, ran: list[str]) -> Server:
    """Define a tool that asks two things and notes that it ran, and a prompt and a resource that ask one."""

    @server.tool
    async def book(flight: str, name: Annotated[Name, Resolve(who)], answer: Annotated[Sure, Resolve(sure)]) -> str:
        ran.append(name.name)
        return f"{flight} for {name.name}"

    @server.tool
    async def cancel(flight: str, name: Annotated[Name, Resolve(who)]) -> str:
        ran.append(name.name)
        return f"{flight} cancelled"

    @server.prompt
    async def greet(name: Annotated[Name, Resolve(who)]) -> str:
        return f"Greet {name.name}."

    @server.resource("desk://mine")
    async def mine(name: Annotated[Name, Resolve(who)]) -> str:
        return f"The desk of {name.name}"

    return server


ANSWERS: Mapping[str, Any] = {
    "who": {"action": "accept", "content": {"name": "Ada"}},
    "sure": {"action": "accept", "content": {"sure": True}},
}


async def asked(tenant: str = "") -> str:
    """Call the tool that asks; return the state of its question."""
    answer = await post(call("book", {"flight": "LH1"}), {"x-tenant": tenant})
    assert answer.result["resultType"] == "input_required"
    return str(answer.result["requestState"])


async def answered(
    state: Any, tool: str = "book", flight: str = "LH1", answers: Mapping[str, Any] = ANSWERS, tenant: str = ""
) -> Answer:
    params = {"requestState": state, "inputResponses": answers}
    return await post(call(tool, {"flight": flight}, params=params), {"x-tenant": tenant})


def check_refused(answer: Answer) -> None:
    assert answer.status == 400
    assert answer.error["code"] == -32602
    assert answer.error["message"] == "Invalid or expired requestState"


# What is asked.


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
async def test_a_question_travels_inside_the_result_of_its_request(booking: Server, method: str) -> None:
    params: Mapping[str, Mapping[str, Any]] = {
        "tools/call": {"name": "cancel", "arguments": {"flight": "LH1"}},
        "prompts/get": {"name": "greet"},
        "resources/read": {"uri": "desk://mine"},
    }
    answer = await post(request(method, params[method]))
    assert answer.status == 200
    assert len(answer.messages) == 1
    assert answer.result["resultType"] == "input_required"
    question = answer.result["inputRequests"]["who"]
    assert (question["method"], question["params"]["message"]) == ("elicitation/create", "Who is it for?")
    state = answer.result["requestState"]
    if method != "tools/call":
        more = {"requestState": state, "inputResponses": {"who": ANSWERS["who"]}}
        assert "Ada" in str((await post(request(method, {**params[method], **more}))).result)


def test_only_calls_gets_and_reads_can_ask() -> None:
    with defined("asking") as asking:

        @asking.prompt
        async def plan(day: str) -> str:
            return day

        @asking.completion("day", prompt="plan")
        async def complete(value: str, name: Annotated[Name, Resolve(who)]) -> list[str]:
            return [name.name]

        with pytest.raises(RegistryError, match="take `value: str`"):
            compiled(asking)


async def test_other_requests_are_answered_whole_whatever_a_client_sends(full: Server) -> None:
    for method in REQUESTS.keys() - {"tools/call", "prompts/get", "resources/read"}:
        params = {**REQUESTS[method], "inputResponses": {"x": {"action": "accept"}}, "requestState": "x"}
        assert (await post(request(method, params))).result["resultType"] == "complete"


async def test_each_question_of_a_round_has_a_key_of_its_own(server: Server) -> None:
    @server.tool(read_only=True)
    async def invite(
        first: Annotated[Name, Resolve(who)],
        second: Annotated[Name, Resolve(WHO_ELSE)],
        same: Annotated[Name, Resolve(who)],
        answer: Annotated[Sure, Resolve(sure)],
    ) -> str:
        return f"{first.name} {second.name} {same.name}"

    first = await post(call("invite"))
    assert list(first.result["inputRequests"]) == ["who", "who_2", "sure"]
    second = {"action": "accept", "content": {"name": "Bob"}}
    params = {"requestState": first.result["requestState"], "inputResponses": {**ANSWERS, "who_2": second}}
    assert (await post(call("invite", params=params))).text == "Ada Bob Ada"


async def test_a_question_is_an_elicitation_a_sampling_or_a_request_for_roots(server: Server) -> None:
    @server.tool
    async def ask_all(
        name: Annotated[Name, Resolve(who)],
        words: Annotated[CreateMessageResult, Resolve(joke)],
        places: Annotated[ListRootsResult, Resolve(roots)],
    ) -> str:
        return ""

    questions = (await post(call("ask_all"))).result["inputRequests"]
    assert {question["method"] for question in questions.values()} == KINDS
    assert [key for key, question in questions.items() if "id" in question or "jsonrpc" in question] == []


async def test_a_result_that_asks_for_input_has_questions_or_state(server: Server) -> None:
    @server.tool
    async def ask(what: str) -> str | InputRequiredResult:
        questions = {"form": BY_HAND["form"]} if "questions" in what else {}
        return InputRequiredResult(input_requests=questions, request_state="1" if "state" in what else None)

    for what, keys in (
        ("questions", {"inputRequests"}),
        ("state", {"requestState"}),
        ("questions and state", {"inputRequests", "requestState"}),
    ):
        result = (await post(call("ask", {"what": what}))).result
        assert result["resultType"] == "input_required"
        assert {key for key in ("inputRequests", "requestState") if result.get(key)} == keys
    nothing = (await post(call("ask", {"what": "nothing"}))).result
    assert (nothing["resultType"], nothing["isError"]) == ("complete", True)


# What is not asked.


@pytest.mark.parametrize("kind", BY_HAND)
async def test_a_question_by_hand_is_put_only_to_a_client_that_declared_it(server: Server, kind: str) -> None:
    @server.tool
    async def ask_tool() -> str | InputRequiredResult:
        return InputRequiredResult(input_requests={"it": BY_HAND[kind]})

    @server.prompt
    async def ask_prompt() -> Any:
        return InputRequiredResult(input_requests={"it": BY_HAND[kind]})

    @server.resource("desk://ask")
    def ask_resource() -> Any:
        return InputRequiredResult(input_requests={"it": BY_HAND[kind]})

    needed, lacking = NEEDS[kind]
    for method, params in (
        ("tools/call", {"name": "ask_tool", "arguments": {}}),
        ("prompts/get", {"name": "ask_prompt"}),
        ("resources/read", {"uri": "desk://ask"}),
    ):
        good = await post(request(method, params, capabilities=needed))
        assert list(good.result["inputRequests"]) == ["it"]
        for declared in lacking:
            answer = await post(request(method, params, capabilities=declared))
            assert (answer.status, answer.error["code"]) == (400, -32021)
            assert answer.error["data"] == {"requiredCapabilities": needed}


async def test_bare_elicitation_means_forms(booking: Server) -> None:
    answer = await post(call("cancel", {"flight": "LH1"}, capabilities={"elicitation": {}}))
    assert answer.result["resultType"] == "input_required"


@pytest.mark.parametrize(
    ("resolver", "annotation", "needed"),
    [
        (who, Name, {"elicitation": {"form": {}}}),
        (joke, CreateMessageResult, {"sampling": {}}),
        (roots, ListRootsResult, {"roots": {}}),
    ],
)
async def test_a_question_as_a_parameter_is_put_only_to_a_client_that_declared_it(
    server: Server, resolver: Any, annotation: Any, needed: dict[str, Any]
) -> None:
    async def ask(answer: Any) -> str:
        return ""

    ask.__annotations__["answer"] = Annotated[annotation, Resolve(resolver)]
    server.tool(ask)
    assert (await post(call("ask", capabilities=needed))).result["resultType"] == "input_required"
    lacking: list[dict[str, Any]] = [{}, {name: {} for name in EVERYTHING if name not in needed}]
    for declared in lacking:
        answer = await post(call("ask", capabilities=declared))
        assert (answer.status, answer.error["code"]) == (400, -32021)
        assert answer.error["data"] == {"requiredCapabilities": needed}


# State.


@pytest.mark.parametrize("garbage", ["", "x", "v1.", "v1.AAAA", "v2.AAAA", "\u00e9", "\ud800", "a" * 100_000])
async def test_a_state_that_is_garbage_is_refused(booking: Server, ran: list[str], garbage: str) -> None:
    check_refused(await answered(garbage))
    assert ran == []


@pytest.mark.parametrize("odd", [7, True, {}, ["x"]])
async def test_a_state_of_another_type_is_refused(booking: Server, ran: list[str], odd: Any) -> None:
    answer = await answered(odd)
    assert (answer.status, answer.error["code"]) == (400, -32602)
    assert ran == []


async def test_a_state_that_was_altered_is_refused(booking: Server, ran: list[str]) -> None:
    state = await asked()
    for place in range(0, len(state), 7):
        other = "A" if state[place] != "A" else "B"
        check_refused(await answered(state[:place] + other + state[place + 1 :]))
    for length in (1, 3, len(state) // 2):
        check_refused(await answered(state[:-length]))
    check_refused(await answered(state + "A"))
    assert ran == []


async def test_a_state_is_good_for_its_own_request_alone(booking: Server, ran: list[str]) -> None:
    state = await asked()
    check_refused(await answered(state, flight="LH2"))
    check_refused(await answered(state, tool="cancel"))
    prompt = request("prompts/get", {"name": "greet", "requestState": state, "inputResponses": ANSWERS})
    check_refused(await post(prompt))
    assert ran == []


async def test_a_state_is_good_for_its_own_caller_alone(booking: Server, ran: list[str], settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public", "TENANT": "tests.spec.modern.test_rounds.tenant_of"}
    state = await asked(tenant="mine")
    check_refused(await answered(state, tenant="other"))
    check_refused(await answered(state))
    assert ran == []
    partial = await answered(state, answers={"who": ANSWERS["who"]}, tenant="mine")
    assert partial.result["resultType"] == "input_required"


def tenant_of(http_request: Any) -> str:
    return str(http_request.headers.get("x-tenant", ""))


async def test_a_state_sealed_under_another_key_is_refused(booking: Server, settings: Settings) -> None:
    state = await asked()
    old = settings.SECRET_KEY
    settings.SECRET_KEY = "another secret of the tests, as long as the first one is or nearly so"
    check_refused(await answered(state))
    settings.SECRET_KEY_FALLBACKS = [old]
    assert (await answered(state, answers={})).result["resultType"] == "input_required"


async def test_a_state_says_nothing_to_who_reads_it(booking: Server) -> None:
    first = await asked()
    partial = await answered(first, answers={"who": ANSWERS["who"]})
    state = partial.result["requestState"]
    assert "Ada" not in state
    assert "QWRh" not in state


@pytest.mark.django_db(transaction=True)
async def test_a_state_runs_the_body_once_however_often_it_is_sent(booking: Server, ran: list[str]) -> None:
    state = await asked()
    at_once = await asyncio.gather(*(answered(state) for _ in range(4)))
    later = await answered(state)
    assert {answer.text for answer in (*at_once, later)} == {"LH1 for Ada"}
    assert ran == ["Ada"]


@pytest.mark.django_db(transaction=True)
async def test_rounds_by_hand_ask_again_and_each_runs_once(server: Server, ran: list[str]) -> None:
    @server.tool
    async def steps(ctx: Context) -> str | InputRequiredResult:
        step = int(ctx.request_state or 0)
        ran.append(f"step {step}")
        if step < 2:
            return InputRequiredResult(input_requests={"it": BY_HAND["form"]}, request_state=str(step + 1))
        return "done"

    first = await post(call("steps"))
    rounds = [first]
    for _ in range(2):
        params = {"requestState": rounds[-1].result["requestState"], "inputResponses": {"it": {"action": "accept"}}}
        rounds.append(await post(call("steps", params=params)))
        repeated = await post(call("steps", params=params))
        assert repeated.result["resultType"] == rounds[-1].result["resultType"]
    assert [answer.result["resultType"] for answer in rounds] == ["input_required", "input_required", "complete"]
    assert rounds[-1].text == "done"
    assert ran == ["step 0", "step 1", "step 2"]


# Clients that do not answer.


@pytest.mark.django_db(transaction=True)
async def test_a_round_that_is_abandoned_holds_nothing(booking: Server, ran: list[str]) -> None:
    for _ in range(3):
        await asked()

    @sync_to_async
    def rows() -> int:
        return sum(model._default_manager.count() for model in (Claim, MCPSession, StoredResult))

    assert (await rows(), ran) == (0, [])
    assert (await answered(await asked())).text == "LH1 for Ada"


@pytest.mark.django_db(transaction=True)
async def test_what_was_not_answered_is_asked_again(booking: Server, ran: list[str]) -> None:
    nothing = await answered(await asked(), answers={})
    assert list(nothing.result["inputRequests"]) == ["who", "sure"]
    some = await answered(
        nothing.result["requestState"], answers={"who": ANSWERS["who"], "uncalled for": {"action": "decline"}}
    )
    assert list(some.result["inputRequests"]) == ["sure"]
    assert ran == []
    assert (await answered(some.result["requestState"], answers={"sure": ANSWERS["sure"]})).text == "LH1 for Ada"
    assert ran == ["Ada"]
