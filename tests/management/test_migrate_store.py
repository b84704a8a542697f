"""`mcp migrate-store`: what it says, what it refuses, and that each process finds what moved."""

import re
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import override_settings
from pytest_django import Settings

from django_mcp.core.principal import Principal
from django_mcp.exceptions import ConversationNotFound, HeadMoved, KeptElsewhere, StoreUnavailable
from django_mcp.models import Blob, Conversation, PastCall, Snapshot
from django_mcp.sessions.migration import conversations as migration
from django_mcp.sessions.stores import CallNote, Claimed, Done, state_store, store, store_of, stores
from django_mcp.sessions.stores.cache_state import CacheStateStore
from django_mcp.sessions.stores.image import Image
from tests import services
from tests.redis_stores import cache_of
from tests.services import redis_server
from tests.sessions.calls import ALICE, Call, values_of

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]

DATABASE = "django_mcp.sessions.stores.database.DatabaseStore"
STORES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": DATABASE},
    "redis": {"BACKEND": "django_mcp.sessions.stores.cache.CacheStore"},
    "same": {"BACKEND": DATABASE},
    "far": {"BACKEND": DATABASE, "OPTIONS": {"USING": "other"}},
}
CALLER = ALICE.owner


@pytest.fixture(autouse=True)
def redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[services.Service]:
    monkeypatch.setattr(migration, "PAUSES", (0.01,))
    chosen = {"STORE": "redis", "STORES": STORES}
    with services.redis() as service, cache_of(service), override_settings(DJANGO_MCP=chosen):
        yield service


def run(*words: str) -> list[str]:
    """Return the columns of the line of the conversations."""
    out = StringIO()
    call_command("mcp", "migrate-store", *words, "--workers", "1", stdout=out, stderr=StringIO())
    (line,) = [line for line in out.getvalue().splitlines() if line.startswith("conversations")]
    return re.split(r"  +", line.strip())


def refusal(*words: str) -> str:
    with pytest.raises(CommandError) as caught:
        run(*words)
    return str(caught.value)


def keep(alias: str = "default", **terms: Any) -> str:
    """Keep two generations of a large value in a new conversation; return its id."""
    store = state_store(alias)
    record = store.begin(**CALLER, **terms).conversation
    for number in range(2):
        call = Call(store, store.find(record.id, **CALLER))
        call.state["text"] = f"{number} " * 10_000
        call.commit()
    store.note(record, CallNote(name="look"))
    return record.id


def images() -> dict[str, Image]:
    return {
        row.pk: stores.keeper("default", row.store).image(store_of(row).inspect(row.pk).conversation)
        for row in Conversation.objects.active()
    }


def in_tables() -> int:
    return Snapshot.objects.count() + Blob.objects.count() + PastCall.objects.count()


# Moves


def test_everything_moves_there_and_back(redis: services.Service) -> None:
    names = [keep(), keep(name="n"), keep(kind="user")]
    store = state_store()
    fork = store.fork(store.inspect(names[0]).conversation, 1).conversation.id
    store.revoke_tokens(store.inspect(names[1]).conversation, fingerprint="abc")
    ended = keep()
    store.revoke(store.inspect(ended).conversation)
    before = images()
    assert set(before) == {*names, fork}
    assert run("default", "redis", "--dry-run") == ["conversations", "4"]

    assert run("default", "redis")[:4] == ["conversations", "4", "0", "0"]
    assert set(Conversation.objects.active().values_list("store", flat=True)) == {"redis"}
    assert {row.conversation_id for row in Snapshot.objects.all()} == {ended}
    for pk, image in images().items():
        assert image.is_like(before[pk])
    assert run("default", "redis")[:4] == ["conversations", "0", "4", "0"]

    assert run("redis", "default")[:4] == ["conversations", "4", "0", "0"]
    assert images() == before
    with redis_server.connect(redis) as client:
        assert [key for key in client.scan_iter("*f:*") if b":once:" not in key] == []


def test_what_moved_is_found_from_either_store() -> None:
    named, user = keep(name="n"), keep(kind="user")
    begun = state_store().begin(**CALLER)
    run("default", "redis")
    for alias in ("default", "redis"):
        store = state_store(alias)
        assert store.find(named, **CALLER).generation == 2
        assert store.find_by_handle(str(begun.conversation.handle), **CALLER).conversation.id == begun.conversation.id
        assert store.find_named("n", **CALLER).conversation.id == named
        assert store.begin(**CALLER, name="n").conversation.id == named
        assert store.begin(**CALLER, kind="user").conversation.id == user
        record = store.inspect(named).conversation
        assert [line.number for line in store.history(record)] == [2, 1]
        assert store.calls(record)[0].call.name == "look"
        assert values_of(store, store.snapshot(record, 1)) == {"text": "0 " * 10_000}
        with pytest.raises(ConversationNotFound):
            store.find(named, server="s", tenant="", principal=Principal(kind="user", id="2"))
        with pytest.raises(ConversationNotFound):
            store.find("0" * 32, **CALLER)


def test_a_call_that_read_before_it_moved_commits_where_it_is_then() -> None:
    pk = keep()
    store = state_store()
    call, late = (Call(store, store.find(pk, **CALLER)) for _ in range(2))
    run("default", "redis")
    assert call.state["text"] == "1 " * 10_000
    call.state["more"] = "large " * 1_000
    assert call.commit().generation == 3
    base = late.base.head
    with pytest.raises(HeadMoved):
        store.commit(
            base.conversation,
            base_generation=2,
            manifest=base.manifest,
            snapshot=base.snapshot,
            blobs={},
        )
    assert values_of(store, state_store("redis").find(pk, **CALLER))["more"] == "large " * 1_000


def test_an_operator_acts_where_it_is() -> None:
    pk = keep()
    run("default", "redis")
    store = state_store()
    record = store.inspect(pk).conversation
    assert store.rewind(record, 1).generation == 3
    assert store.revoke_tokens(record, fingerprint="abc").generation == 4
    assert Conversation.objects.get(pk=store.fork(record).conversation.id).store == "redis"
    assert store.revoke(record)
    assert not store.expire(record)
    with pytest.raises(ConversationNotFound):
        state_store("redis").find(pk, **CALLER)


def test_in_a_transaction_nothing_is_written_that_could_not_be_taken_back() -> None:
    pk = keep()
    store = state_store()
    call = Call(store, store.find(pk, **CALLER))
    run("default", "redis")
    call.state["x"] = 1
    with pytest.raises(KeptElsewhere, match="takes no part in transactions"), transaction.atomic():
        call.commit()
    assert store.find(pk, **CALLER).generation == 2
    assert call.commit().generation == 3


def test_what_is_noted_while_it_moves_is_taken_along(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (("default", "redis"), ("redis", "default")):
        pk = keep(words[0])
        source = stores[words[0]].state
        record = source.inspect(pk).conversation
        seal = source.seal

        def note_late(*args: Any) -> bool:
            if args[0].id == record.id:  # noqa: B023
                source.note(record, CallNote(name="late"))  # noqa: B023
            return seal(*args)  # noqa: B023

        monkeypatch.setattr(source, "seal", note_late)
        run(*words)
        assert [noted.call.name for noted in state_store().calls(record)][:2] == ["late", "look"]


def test_a_row_of_a_store_that_is_not_known_is_an_outage() -> None:
    pk = keep()
    Conversation.objects.update(store="gone")
    with pytest.raises(StoreUnavailable, match="'gone'"):
        state_store().find(pk, **CALLER)


# What is left


def test_what_cannot_be_read_stays_and_is_told() -> None:
    good, bad = keep(), keep()
    Blob.objects.filter(family_id=bad).update(body=b"damaged")
    told = refusal("default", "redis")
    assert f"Left of the conversations: 1 cannot be read ({bad[:8]} cannot be read)." in told
    assert "Run it again to go on with what is left." in told
    assert {row.pk: row.store for row in Conversation.objects.all()} == {good: "redis", bad: ""}


def test_a_run_whose_store_goes_away_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [keep() for _ in range(4)]
    before = images()
    arrive: Callable[..., Any] = CacheStateStore.arrive
    left = [2]

    def away(*args: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise StoreUnavailable("Redis does not answer")
        return arrive(*args)

    with monkeypatch.context() as patch:
        patch.setattr(CacheStateStore, "arrive", away)
        assert "Redis does not answer" in refusal("default", "redis")
    assert Conversation.objects.filter(store="redis").count() == 2
    assert run("default", "redis")[:4] == ["conversations", "2", "2", "0"]
    assert in_tables() == 0
    for pk, image in images().items():
        assert image.is_like(before[pk])
    assert set(before) == set(names)


# What it refuses


def test_both_stores_have_their_index_in_one_database() -> None:
    assert "set USING in the OPTIONS of DJANGO_MCP['STORES']['far']" in refusal("default", "far")


def test_nothing_moves_to_the_same_tables() -> None:
    assert refusal("default", "same") == "'default' and 'same' keep conversations in the same place."


def test_tools_that_need_transactions_are_named(settings: Settings) -> None:
    keep()
    settings.DJANGO_MCP = {"STORES": STORES}
    told = refusal("default", "redis")
    assert "'redis' takes no part in transactions, which these tools need: keep_draft (default)." in told
    assert run("redis", "default")[:4] == ["conversations", "0", "1", "0"]


def test_an_unknown_alias_is_named() -> None:
    assert "There is no store 'nowhere'" in refusal("default", "nowhere")


def test_what_was_claimed_and_streamed_comes_along() -> None:
    old, new = store("default"), store("redis")
    terms: dict[str, Any] = {"lease_seconds": 30, "lifetime_seconds": 600}
    claimed = old.claim("s", "scope", "key", **terms)
    assert isinstance(claimed, Claimed)
    old.settle("s", "scope", "key", claimed.fence, {"done": 1})
    out = StringIO()
    call_command("mcp", "migrate-store", "default", "redis", stdout=out, stderr=StringIO())
    assert re.search(r"streams and calls +1 +0 +0 ", out.getvalue())
    assert new.peek("s", "scope", "key") == Done(outcome={"done": 1})
    # Conversations alone move between two aliases of one database.
    assert store("default").place == store("same").place
