"""Resumption tokens and handles: what redeems, what is refused and how, and the methods of the extension."""

import base64
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from django_mcp import Server, State
from django_mcp.core.principal import Principal
from django_mcp.core.token import TokenClaims, name_digest
from django_mcp.models import Conversation, Snapshot
from django_mcp.sessions import tokens
from django_mcp.sessions.scope import Scope
from django_mcp.sessions.sealing import seal
from django_mcp.sessions.stores import state_store
from django_mcp.signals import size_budget_exceeded, token_issued, token_refused
from django_mcp.testing import Client
from django_mcp.testing.errors import MCPClientError
from tests.servers import defined

pytestmark = pytest.mark.django_db

META_KEY = "org.django-mcp/resumptionToken"
EXTENSION = "org.django-mcp/resumption"
REFUSED = "The resumption token is not valid"
MODES = ("modern", "legacy")


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def server(server: Server) -> Server:
    @server.tool
    def count(state: State, by: int = 1) -> int:
        total: int = state.update("total", lambda total: total + by, default=0)
        return total

    @server.tool
    def look(state: State) -> int:
        return int(state["total"])

    return server


def count(
    user: User | None, token: Any = None, *, server: str = "tested", mode: str = "modern", **options: Any
) -> Any:
    meta = {} if token is None else {"_meta": {META_KEY: token}}
    client = Client(user, server=server, mode=mode, **options)
    return client.request("tools/call", {"name": "count", "arguments": {}, **meta})


def claims_of(user: User, **changes: Any) -> str:
    """Return a token that this project sealed, with claims changed."""
    conversation = Conversation.objects.get()
    scope = Scope(server="tests/tested", tenant="", principal=Principal(kind="user", id=str(user.pk)), user=user)
    now = int(time.time())
    claims: dict[str, Any] = {
        "conversation": conversation.pk,
        "generation": conversation.generation,
        "snapshot": Snapshot.objects.get(number=conversation.generation).address[:32],
        "audience": scope.audience,
        "caller": scope.caller,
        "issued": now,
        "expires": now + 60,
    }
    return seal("django_mcp.resumption", TokenClaims(**claims | changes).pack(), prefix="v2:")


def everything() -> list[Any]:
    """Return what the store has of conversations, without the times of their use."""
    return [
        list(
            Conversation.objects.order_by("pk").values("pk", "generation", "state", "revoked_up_to", "handle_digest")
        ),
        list(Snapshot.objects.order_by("pk").values_list("pk", "number", "address")),
    ]


def tampered(token: str) -> str:
    raw = bytearray(base64.urlsafe_b64decode(token.removeprefix("v2:") + "=="))
    raw[-1] ^= 1
    return "v2:" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


MISUSES: dict[str, Callable[[User, str], Any]] = {
    "a tampered byte": lambda user, token: tampered(token),
    "a tampered letter": lambda user, token: token[:-1] + chr(ord(token[-1]) ^ 1),
    "expired": lambda user, token: claims_of(user, expires=int(time.time())),
    "of another purpose": lambda user, token: seal("django_mcp.other", b"x" * 90, prefix="v2:"),
    "of another server": lambda user, token: claims_of(user, audience=name_digest("tests/other")),
    "of another caller": lambda user, token: claims_of(user, caller="0" * 32),
    "of an unknown conversation": lambda user, token: claims_of(user, conversation="0" * 32),
    "ahead of the store": lambda user, token: claims_of(user, generation=2),
    "of another history": lambda user, token: claims_of(user, snapshot="1" * 32),
    "from the future": lambda user, token: claims_of(user, issued=int(time.time()) + 3_600),
    "of version 1": lambda user, token: "v1:" + token.removeprefix("v2:"),
    "without a version": lambda user, token: token.removeprefix("v2:"),
    "empty": lambda user, token: "",
    "10 KB of garbage": lambda user, token: "v2:" + "A" * 10_240,
    "no text": lambda user, token: {"v2": token},
    "not ASCII": lambda user, token: "v2:ü\ud800",
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("misuse", MISUSES)
def test_a_token_that_is_no_good_is_refused_in_one_way(server: Server, ada: User, misuse: str, mode: str) -> None:
    token = count(ada).token
    used = MISUSES[misuse](ada, token)
    before = everything()
    with pytest.raises(MCPClientError) as raised:
        count(ada, used, mode=mode)
    error = raised.value
    assert (error.code, error.message, error.data) == (-32602, REFUSED, None)
    assert error.status == (400 if mode == "modern" else 200)
    assert everything() == before
    assert count(ada, token).raw["structuredContent"]["result"] == 2


def test_the_alarm_is_raised_where_the_store_lost_commits(
    server: Server, ada: User, caplog: pytest.LogCaptureFixture
) -> None:
    token = count(ada).token
    newer = count(ada, token).token
    Snapshot.objects.filter(number=2).delete()
    Conversation.objects.update(generation=1)
    with pytest.raises(MCPClientError, match=REFUSED):
        count(ada, newer)
    assert [record.levelname for record in caplog.records if record.name == "django_mcp.tokens"] == ["CRITICAL"]
    assert "the store went back and lost commits" in caplog.text
    assert newer not in caplog.text
    assert count(ada, token).raw["structuredContent"]["result"] == 2


@pytest.mark.parametrize("mode", MODES)
def test_a_token_of_another_user_tenant_or_server_is_refused(server: Server, ada: User, mode: str) -> None:
    token = count(ada).token
    before = everything()
    bob = User.objects.create_user("bob")
    with defined("another") as another:

        @another.tool(name="count", stateful=True)
        def other() -> int:
            return 1

        for user, options in ((bob, {}), (None, {}), (ada, {"tenant": "another"}), (ada, {"server": "another"})):
            with pytest.raises(MCPClientError, match=REFUSED):
                count(user, token, mode=mode, **options)
    assert everything() == before


@pytest.mark.parametrize("mode", MODES)
def test_a_revoked_token_is_refused_and_a_newer_one_is_not(server: Server, ada: User, mode: str) -> None:
    token = count(ada).token
    other = count(ada, token).token
    record = state_store().inspect(Conversation.objects.get().pk).conversation
    state_store().revoke_tokens(record, fingerprint=tokens.fingerprint(token))
    with pytest.raises(MCPClientError, match=REFUSED):
        count(ada, token, mode=mode)
    newest = count(ada, other, mode=mode).token
    state_store().revoke_tokens(record)
    for revoked in (token, other, newest):
        with pytest.raises(MCPClientError, match=REFUSED):
            count(ada, revoked, mode=mode)


@pytest.mark.parametrize("how", ["expire", "revoke"])
def test_a_conversation_that_has_ended_is_as_if_it_had_never_been(server: Server, ada: User, how: str) -> None:
    first = Client(ada, server="tested").call("count")
    getattr(state_store(), how)(state_store().inspect(Conversation.objects.get().pk).conversation)
    with pytest.raises(MCPClientError, match=REFUSED):
        count(ada, first.headers["mcp-resumption-token"])
    ended = Client(ada, server="tested").call("count", {"handle": first.handle})
    unknown = Client(ada, server="tested").call("count", {"handle": "a" * 26})
    assert ended.is_error
    assert ended.raw == unknown.raw


def test_an_older_token_acts_on_the_head(server: Server, ada: User) -> None:
    token = count(ada).token
    count(ada, token)
    assert count(ada, token).raw["structuredContent"]["result"] == 3


@pytest.mark.parametrize("mode", MODES)
def test_two_carriers_that_disagree_are_refused(server: Server, ada: User, mode: str) -> None:
    client = Client(ada, server="tested")
    one, two = client.call("count"), client.call("count")
    before = everything()
    header = {"Mcp-Resumption-Token": one.headers["mcp-resumption-token"]}
    with pytest.raises(MCPClientError, match=REFUSED):
        count(ada, two.headers["mcp-resumption-token"], mode=mode, headers=header)
    refused = Client(ada, server="tested", mode=mode, headers=header).call("count", {"handle": two.handle})
    assert (refused.is_error, refused.text.startswith("The handle is not valid")) == (True, True)
    assert everything() == before
    agreed = Client(ada, server="tested", mode=mode, headers=header).call("count", {"handle": one.handle})
    assert agreed.structured["result"] == 2


def test_a_token_takes_precedence_over_a_handle_that_is_no_good(server: Server, ada: User) -> None:
    token = count(ada).token
    refused = Client(ada, server="tested", headers={"Mcp-Resumption-Token": token}).call("count", {"handle": "x"})
    assert (refused.is_error, refused.text.startswith("The handle is not valid")) == (True, True)
    with pytest.raises(MCPClientError, match=REFUSED):
        Client(ada, server="tested", headers={"Mcp-Resumption-Token": "x"}).call("count", {"handle": "x"})


@pytest.mark.parametrize("handle", ["", "x" * 10_240, 7, {"a": 1}, ["v2:"], "\ud800"])
def test_a_handle_that_is_none_is_refused(server: Server, ada: User, handle: Any) -> None:
    before = everything()
    refused = Client(ada, server="tested").call("count", {"handle": handle})
    assert (refused.is_error, "Call again without a handle" in refused.text) == (True, True)
    assert everything() == before


def test_no_handle_is_a_new_conversation(server: Server, ada: User) -> None:
    assert Client(ada, server="tested").call("count", {"handle": None}).structured["result"] == 1


def test_tokens_outlive_a_rotation_of_the_secret_key(server: Server, ada: User, settings: Settings) -> None:
    token = count(ada).token
    former, settings.SECRET_KEY = settings.SECRET_KEY, "another secret, of the time after the rotation of the keys"
    with pytest.raises(MCPClientError, match=REFUSED):
        count(ada, token)
    settings.SECRET_KEY_FALLBACKS = [former]
    newer = count(ada, token).token
    settings.SECRET_KEY_FALLBACKS = []
    assert count(ada, newer).raw["structuredContent"]["result"] == 3


def test_a_refusal_says_why_to_the_log_and_by_a_signal_alone(
    server: Server, ada: User, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "django_mcp.tokens")
    heard: list[Any] = []

    def hear(sender: str, reason: str, **kwargs: Any) -> None:
        heard.append((sender, reason))

    token = count(ada).token
    token_refused.connect(hear)
    try:
        with pytest.raises(MCPClientError):
            count(ada, tampered(token))
    finally:
        token_refused.disconnect(hear)
    assert heard == [("tests/tested", "bad seal")]
    assert "refused: bad seal" in caplog.text
    assert token not in caplog.text


def test_issuing_is_signalled_with_sizes_and_times(server: Server, ada: User) -> None:
    heard: list[dict[str, Any]] = []

    def hear(**kwargs: Any) -> None:
        heard.append(kwargs)

    token_issued.connect(hear)
    try:
        token = count(ada).token
    finally:
        token_issued.disconnect(hear)
    assert [(one["sender"], one["generation"], one["keys"]) for one in heard] == [("tests/tested", 1, 1)]
    assert heard[0]["token_bytes"] == len(token) <= 300
    assert heard[0]["manifest_bytes"] > heard[0]["state_bytes"] > 0
    assert heard[0]["commit_seconds"] > 0


def test_a_manifest_that_passes_its_budget_is_warned_of_once(
    server: Server, ada: User, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    @server.tool
    def note(state: State, number: int) -> None:
        state[f"note {number}"] = "x" * 400

    heard: list[tuple[str, int]] = []

    def hear(what: str, bytes: int, **kwargs: Any) -> None:  # noqa: A002 - the signal's name
        heard.append((what, bytes))

    client = Client(ada, server="tested")
    handle = client.call("note", {"number": 0}).handle
    size_budget_exceeded.connect(hear)
    try:
        for number in range(1, 15):
            client.call("note", {"number": number, "handle": handle})
    finally:
        size_budget_exceeded.disconnect(hear)
    assert [what for what, _ in heard] == ["manifest"]
    assert heard[0][1] > 4_096
    assert caplog.text.count("grew to") == 1


@pytest.mark.parametrize("mode", MODES)
def test_the_history_is_told_to_its_owner(server: Server, ada: User, mode: str) -> None:
    client = Client(ada, server="tested", mode=mode)
    handle = client.call("count").handle
    client.call("count", {"handle": handle})
    raw = client.request(f"{EXTENSION}/history", {"handle": handle}).raw
    assert raw["generation"] == 2
    assert [(past["generation"], past["call"], past["copiedFrom"]) for past in raw["generations"]] == [
        (2, "count", None),
        (1, "count", None),
    ]
    limited = client.request(f"{EXTENSION}/history", {"handle": handle, "limit": 1}).raw
    assert len(limited["generations"]) == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_conversation_is_rewound_by_its_token(server: Server, ada: User, mode: str) -> None:
    client = Client(ada, server="tested", mode=mode)
    first = client.call("count", {"by": 5})
    client.call("count", {"handle": first.handle})
    token = first.headers["mcp-resumption-token"]
    rewound = client.request(f"{EXTENSION}/rewind", {"generation": 1, "_meta": {META_KEY: token}})
    assert rewound.raw["generation"] == 3
    assert rewound.raw["_meta"][META_KEY] == rewound.headers["mcp-resumption-token"]
    assert client.call("look", {"handle": first.handle}).structured["result"] == 5


@pytest.mark.parametrize("mode", MODES)
def test_a_fork_goes_its_own_way(server: Server, ada: User, mode: str) -> None:
    client = Client(ada, server="tested", mode=mode)
    handle = client.call("count").handle
    client.call("count", {"handle": handle})
    forked = client.request(f"{EXTENSION}/fork", {"handle": handle, "generation": 1}).raw
    assert client.call("count", {"handle": forked["handle"], "by": 10}).structured["result"] == 11
    assert client.call("look", {"handle": handle}).structured["result"] == 2
    whole = client.request(f"{EXTENSION}/fork", {"handle": handle}).raw
    assert client.call("look", {"handle": whole["handle"]}).structured["result"] == 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["history", "rewind", "fork"])
def test_the_methods_serve_nobody_else(server: Server, ada: User, method: str, mode: str) -> None:
    handle = Client(ada, server="tested").call("count").handle
    bob = User.objects.create_user("bob")
    before = everything()
    answers = []
    for name in (handle, "a" * 26):
        with pytest.raises(MCPClientError) as raised:
            Client(bob, server="tested", mode=mode).request(f"{EXTENSION}/{method}", {"handle": name, "generation": 1})
        answers.append((raised.value.code, raised.value.message, raised.value.status))
    assert answers[0] == answers[1]
    assert answers[0][0] == -32602
    with pytest.raises(MCPClientError, match="Name the conversation by a resumption token or a handle"):
        Client(ada, server="tested", mode=mode).request(f"{EXTENSION}/{method}", {"generation": 1})
    assert everything() == before


@pytest.mark.parametrize("method", ["rewind", "fork"])
@pytest.mark.parametrize("generation", [7, -1, 10**30, "1", None])
def test_a_generation_that_is_not_kept_is_an_error(server: Server, ada: User, method: str, generation: Any) -> None:
    client = Client(ada, server="tested")
    handle = client.call("count").handle
    before = everything()
    if (method, generation) == ("fork", None):
        return
    with pytest.raises(MCPClientError) as raised:
        client.request(f"{EXTENSION}/{method}", {"handle": handle, "generation": generation})
    assert raised.value.code == -32602
    assert everything() == before


def test_the_extension_is_advertised_where_a_tool_is_stateful(server: Server, ada: User) -> None:
    discovered = Client(ada, server="tested").request("server/discover").raw["capabilities"]
    assert discovered["extensions"] == {EXTENSION: {}}
    assert "experimental" not in discovered
    with defined("plain") as plain:

        @plain.tool
        def nothing() -> None: ...

        assert "extensions" not in Client(ada, server="plain").request("server/discover").raw["capabilities"]
        with pytest.raises(MCPClientError, match="Method not found"):
            Client(ada, server="plain").request(f"{EXTENSION}/history", {"handle": "x"})
