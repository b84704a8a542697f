"""Every row of the table of bad inputs gets its answer at every door, and the server still serves afterwards."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.live.bad_inputs import SESSIONS_NOT_FOUND, STATE_REFUSED, TABLE, BadInput, encoded, headers_of
from tests.live.server import CONSUMERS, Kind, Served
from tests.live.wire import BATCHING, HANDSHAKE, Answer, Caller, Streaming, exchange
from tests.services import PrivatePostgres, Unavailable, skip_or_fail, wait_until

pytestmark = pytest.mark.live

FORBIDDEN = (b"Traceback", b'File "', b"<html", b"<!DOCTYPE", b"secret-of-the-server", b"django_mcp/", b"Exception")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A running server and the values that stand for the names in angle brackets."""

    served: Served
    values: Mapping[str, str]

    @property
    def caller(self) -> Caller:
        return Caller(port=self.served.port)


GUARDS: Mapping[str, Any] = {
    "PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "THROTTLES": ["tests.live.guards.Generous"],
    "CALL_RATE": "1000000/day",
}
"""Classes of REST framework on the endpoint: they change no answer to what is wrong."""
DOORS = [
    *(pytest.param((kind, {}), id=kind) for kind in Kind),
    *(pytest.param((kind, GUARDS), id=f"{kind}-guarded") for kind in (Kind.UVICORN, Kind.VIEW_WSGI)),
]


@pytest.fixture(scope="module", params=DOORS)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    kind, mcp = request.param
    with tempfile.TemporaryDirectory() as folder, Served(kind, Path(folder), mcp=mcp) as served:
        yield Target(served=served, values=make_values(served))


def make_values(served: Served) -> dict[str, str]:
    sessions = {}
    for name, version, tenant in (
        ("session", HANDSHAKE, ""),
        ("batching", BATCHING, ""),
        ("ended", HANDSHAKE, ""),
        ("foreign", HANDSHAKE, "other"),
    ):
        caller = Caller(port=served.port, headers=[("X-Tenant", tenant)] if tenant else [])
        assert caller.initialize(version).status == 200
        assert caller.call("test_simple_text").status == 200
        sessions[name] = caller
    values = {f"<{name}>": caller.session or "" for name, caller in sessions.items()}
    if served.kind.is_consumer:
        assert sessions["ended"].terminate().status == 200
        values |= make_event_ids(sessions["session"], sessions["foreign"])
    else:
        # The view takes no DELETE: a process with the consumer, on the same database, ends the session.
        with Served(Kind.UVICORN, served.folder, database=served.database) as other:
            assert sessions["ended"].at(other.port).terminate().status == 200
    state, foreign = (begin_round(served.port, tenant=tenant) for tenant in ("", "other"))
    middle = len(state) // 2
    values |= {
        "<unknown>": "x" * 43,
        "<long>": "x" * 4_000,
        "<not-ascii>": "\xe9\xff",
        "<empty>": "",
        "<state>": state,
        "<foreign-state>": foreign,
        "<short-state>": state[:-8],
        "<tampered-state>": state[:middle] + ("A" if state[middle] != "A" else "B") + state[middle + 1 :],
    }
    return values


def make_event_ids(mine: Caller, foreign: Caller) -> dict[str, str]:
    """Return ids of events: another session's, one with another number, and the last one of a stream that ended."""
    ids = {}
    for name, caller in (("mine", mine), ("foreign", foreign)):
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "test_tool_with_progress", "arguments": {}, "_meta": {"progressToken": "p"}},
        }
        with caller.post_stream(message) as stream:
            event = stream.next_event()
            while "id" not in (event.message if event.data else {}):
                event = stream.next_event()
            ids[name] = str(event.id)
    stream_name, number, mac = ids["mine"].split(".")
    return {
        "<foreign-event>": ids["foreign"],
        "<last-event>": ids["mine"],
        "<tampered-event>": f"{stream_name}.{int(number) - 1}.{mac}",
    }


def begin_round(port: int, *, tenant: str = "", note: str = "table") -> str:
    """Call the tool that asks, and return the state of its question."""
    caller = Caller(port=port, headers=[("X-Tenant", tenant)] if tenant else [])
    result = caller.modern_call("write_entry", {"note": note}).result
    assert result["resultType"] == "input_required"
    return str(result["requestState"])


def filled(value: Any, values: Mapping[str, str]) -> Any:
    """Return `value` with what the names in angle brackets stand for."""
    if isinstance(value, dict):
        return {key: filled(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, values) for item in value]
    return values.get(value, value) if isinstance(value, str) else value


def send(row: BadInput, target: Target) -> Answer:
    headers = {**headers_of(row), **row.headers}
    present = [(name, filled(value, target.values)) for name, value in headers.items() if value is not None]
    return exchange(
        target.served.port,
        row.method,
        "/mcp",
        [*present, *row.extra],
        encoded(filled(row.body, target.values)),
        host=row.host,
        chunked=row.chunked,
    )


def check_clean(answer: Answer) -> None:
    """Assert what holds of every answer: no page, no redirect, nothing of the server's inside."""
    assert not 300 <= answer.status < 400
    assert "location" not in answer.headers
    assert "html" not in answer.media_type
    for text in FORBIDDEN:
        assert text not in answer.body


def check_serving(caller: Caller) -> None:
    good = caller.modern_call("test_simple_text")
    assert good.status == 200
    assert good.text == "This is a simple text response for testing."


@pytest.mark.parametrize("row", [pytest.param(row, id=f"{row.era}: {row.name}") for row in TABLE])
def test_a_bad_input_gets_its_answer(row: BadInput, target: Target) -> None:
    expected = row.expected_of(target.served.kind)
    logged = len(target.served.log)
    answer = send(row, target)
    check_clean(answer)
    assert answer.status == expected.status, answer
    for name, value in expected.headers.items():
        assert answer.headers.get(name) == value
    if not expected.has_body:
        assert answer.body == b""
    elif expected.serves:
        assert answer.text == "This is a simple text response for testing."
    elif not expected.is_json:
        assert answer.media_type == "text/plain"
    elif expected.code is None:
        assert answer.media_type == "application/json"
        assert answer.result["isError"] is True
        if expected.text is not None:
            assert answer.text == expected.text
    else:
        assert answer.media_type == "application/json"
        assert answer.message["jsonrpc"] == "2.0"
        error = answer.error
        assert error["code"] == expected.code, error
        assert error["message"]
        if expected.text is not None:
            assert error["message"] == expected.text
        if expected.reason is not None:
            assert error["data"]["reason"] == expected.reason
    check_serving(target.caller)
    assert ("Traceback" in target.served.log[logged:]) is row.logs


def test_sessions_that_are_not_there_are_refused_in_the_same_bytes(target: Target) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    answers = set()
    for name in SESSIONS_NOT_FOUND:
        caller = Caller(port=target.served.port, session=target.values[name])
        answer = caller.post(ping)
        answers.add((answer.status, answer.media_type, answer.headers.get("retry-after"), answer.body))
    assert len(answers) == 1
    assert answers.pop()[0] == 404


def test_a_batch_of_twenty_is_answered_in_a_session_that_allows_it(target: Target) -> None:
    caller = Caller(port=target.served.port, session=target.values["<batching>"], version=BATCHING)
    answer = caller.post([{"jsonrpc": "2.0", "id": number, "method": "ping"} for number in range(20)])
    assert answer.status == 200
    assert sorted(message["id"] for message in answer.message) == list(range(20))


def test_another_handshake_version_in_the_header_changes_nothing(target: Target) -> None:
    caller = Caller(port=target.served.port, session=target.values["<session>"], version="2025-06-18")
    assert caller.call("test_simple_text").text == "This is a simple text response for testing."


def test_a_preflight_needs_no_credentials_and_no_body(target: Target) -> None:
    own = f"http://127.0.0.1:{target.served.port}"
    answer = exchange(
        target.served.port, "OPTIONS", "/mcp", [("Origin", own), ("Access-Control-Request-Method", "POST")]
    )
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == own


def test_a_notification_of_no_known_kind_is_taken(target: Target) -> None:
    caller = Caller(port=target.served.port, session=target.values["<session>"])
    for message in (
        {"jsonrpc": "2.0", "method": "notifications/nothing"},
        {"jsonrpc": "2.0", "id": "nobody-asked", "result": {}},
        {"jsonrpc": "2.0", "id": 7, "error": {"code": 1, "message": "no"}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "nothing"}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": {}}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled"},
    ):
        answer = caller.post(message)
        assert (answer.status, answer.body) == (202, b""), message
    check_serving(target.caller)


@pytest.mark.parametrize("kind", [*CONSUMERS, Kind.VIEW_ASGI])
def test_a_request_without_good_credentials_is_refused_in_the_same_bytes(kind: Kind, tmp_path: Path) -> None:
    with Served(kind, tmp_path, settings="tests.live.settings_required") as served:
        tokens = json.loads(served.run("tests.live.accounts", "make"))
        bad = {
            name: [("Authorization", f"Bearer {secret}")]
            for name, secret in tokens.items()
            if name in {"expired", "revoked", "inactive"}
        }
        bad |= {
            "none": [],
            "unknown": [("Authorization", "Bearer mcp_" + "x" * 43)],
            "empty": [("Authorization", "")],
            "half": [("Authorization", "Bearer")],
            "basic": [("Authorization", "Basic dTpw")],
            "cookie": [("Cookie", "sessionid=" + "x" * 32)],
        }
        answers = set()
        for headers in bad.values():
            stranger = Caller(port=served.port, headers=headers, session="x" * 43)
            answers |= {_shown(stranger.modern_call("who")), _shown(stranger.post({"jsonrpc": "2.0"}))}
            if kind.is_consumer:
                accept = ("Accept", "text/event-stream")
                answers |= {
                    _shown(exchange(served.port, method, "/mcp", [accept, *stranger.session_headers()]))
                    for method in ("GET", "DELETE")
                }
        assert len(answers) == 1
        status, challenge, media_type, body = answers.pop()
        assert (status, media_type) == (401, "application/json")
        assert challenge == 'Bearer realm="everything"'
        assert json.loads(body)["error"]["message"] == "Authentication required"

        alice = Caller(port=served.port, headers=[("Authorization", f"Bearer {tokens['alice']}")])
        assert alice.modern_call("who").text == "alice"
        assert alice.initialize().status == 200
        assert alice.call("who").text == "alice"
        stranger = Caller(port=served.port, headers=[("Authorization", f"Bearer {tokens['bob']}")])
        stranger.session = alice.session
        assert stranger.call("who").status == 404
        served.run("tests.live.accounts", "deactivate", "alice")
        assert _shown(alice.modern_call("who")) == (status, challenge, media_type, body)
        assert _shown(alice.call("who")) == (status, challenge, media_type, body)
        assert "Traceback" not in served.log


def _shown(answer: Answer) -> tuple[int, str | None, str, bytes]:
    check_clean(answer)
    return answer.status, answer.headers.get("www-authenticate"), answer.media_type, answer.body


def check_refused_for_now(answer: Answer, status: int) -> None:
    check_clean(answer)
    assert answer.status == status, answer
    assert answer.media_type == "application/json"
    assert answer.error["code"] == -32603
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("kind", CONSUMERS)
def test_over_the_threads_and_the_queue_the_answer_is_503(kind: Kind, tmp_path: Path) -> None:
    with Served(kind, tmp_path, mcp={"HANDLER_THREADS": 1, "HANDLER_QUEUE": 0, "TENANT": None}) as served:
        caller = Caller(port=served.port)
        caller.initialize()
        with hold_thread(caller) as held:
            check_refused_for_now(caller.modern_call("in_thread"), 503)
            check_refused_for_now(caller.call("test_simple_text"), 503)
            # Who calls is found elsewhere.
            assert caller.initialize().status == 200
            token = Caller(port=served.port, headers=[("Authorization", "Bearer mcp_" + "x" * 43)])
            assert token.modern_call("let_go").status == 401
            assert caller.modern_call("let_go").text == "let go"
            assert held.next_message()["result"]["structuredContent"] == {"result": "held"}
        wait_until(
            lambda: caller.modern_call("in_thread").status == 200, seconds=20, what="the thread to be given back"
        )


def hold_thread(caller: Caller) -> Streaming:
    """Call the tool that keeps its thread; return its answer, of which the first event has come."""
    params = {"name": "hold", "arguments": {}, "_meta": {"progressToken": 1}}
    opened: list[Streaming] = []

    def is_held() -> bool:
        # The call before may not have given the thread back yet.
        stream = caller.modern_stream("tools/call", params)
        if stream.status == 503:
            stream.close()
            return False
        opened.append(stream)
        return True

    wait_until(is_held, seconds=20, what="the thread to be taken")
    assert opened[0].next_message()["method"] == "notifications/progress"
    return opened[0]


@pytest.mark.parametrize("kind", [*CONSUMERS, Kind.VIEW_ASGI, Kind.VIEW_WSGI])
def test_over_the_sessions_of_one_address_the_answer_is_429(kind: Kind, tmp_path: Path) -> None:
    with Served(kind, tmp_path, mcp={"MAX_ANONYMOUS_SESSIONS_PER_ADDRESS": 2}) as served:
        used = [Caller(port=served.port) for _ in range(2)]
        for caller in used:
            assert caller.initialize().status == 200
            assert caller.call("test_simple_text").status == 200
        check_refused_for_now(Caller(port=served.port).initialize(), 429)
        for caller in used:
            assert caller.call("test_simple_text").status == 200
        check_serving(Caller(port=served.port))


def test_a_session_that_was_never_used_makes_room(tmp_path: Path) -> None:
    with Served(Kind.UVICORN, tmp_path, mcp={"MAX_ANONYMOUS_SESSIONS_PER_ADDRESS": 2}) as served:
        first, second, third = (Caller(port=served.port) for _ in range(3))
        for caller in (first, second, third):
            assert caller.initialize().status == 200
        assert first.call("test_simple_text").status == 404
        assert third.call("test_simple_text").status == 200


def test_a_request_state_whose_time_is_over_is_refused_like_any_other(tmp_path: Path) -> None:
    with Served(Kind.UVICORN, tmp_path, mcp={"REQUEST_STATE_SECONDS": 1}) as served:
        caller = Caller(port=served.port)
        state = begin_round(served.port)

        def repeat() -> Answer:
            declined = {"ask_consent": {"action": "decline"}}
            return caller.modern_call("write_entry", {"note": "table"}, requestState=state, inputResponses=declined)

        wait_until(lambda: repeat().status == 400, seconds=20, what="a state of one second to expire")
        error = repeat().error
        assert (error["code"], error["message"]) == (-32602, STATE_REFUSED)


@pytest.mark.services
@pytest.mark.parametrize("kind", [*CONSUMERS, Kind.VIEW_ASGI])
def test_without_the_store_the_answer_is_503_and_never_404(kind: Kind, tmp_path: Path) -> None:
    try:
        postgres = PrivatePostgres()
        postgres.start()
    except Unavailable as reason:
        skip_or_fail(f"no PostgreSQL: {reason}")
    database = f"{postgres.service.url}?connect_timeout=3"
    with postgres, Served(kind, tmp_path, database=database, mcp={"TENANT": None}) as served:
        caller = Caller(port=served.port)
        caller.initialize()
        assert caller.call("in_thread").status == 200
        state = begin_round(served.port)
        token = Caller(port=served.port, headers=[("Authorization", "Bearer mcp_" + "x" * 43)])
        postgres.stop()
        check_serving(caller)
        consent = {"ask_consent": {"action": "accept", "content": {"ok": True}}}
        refusals = [
            caller.call("test_simple_text"),
            caller.post([{"jsonrpc": "2.0", "id": 1, "method": "ping"}]),
            caller.post({"jsonrpc": "2.0", "method": "notifications/initialized"}),
            Caller(port=served.port).initialize(),
            token.modern_call("test_simple_text"),
            caller.modern_call("write_entry", {"note": "table"}, requestState=state, inputResponses=consent),
            caller.modern("resources/read", {"uri": "mcp-result://nothing"}),
        ]
        if kind.is_consumer:
            accept = ("Accept", "text/event-stream")
            refusals += [
                exchange(served.port, method, "/mcp", [accept, *caller.session_headers()])
                for method in ("GET", "DELETE")
            ]
        for answer in refusals:
            check_refused_for_now(answer, 503)
        postgres.start()
        wait_until(
            lambda: caller.call("test_simple_text").status == 200, seconds=30, what="the store to be used again"
        )
        written = caller.modern_call("write_entry", {"note": "table"}, requestState=state, inputResponses=consent)
        assert written.result["structuredContent"]["entry"] == 1
