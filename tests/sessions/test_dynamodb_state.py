"""The state store on DynamoDB: the contract, what it costs, its bounds, and what time does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from django_mcp.core.principal import Principal
from django_mcp.exceptions import ConfigurationError, StoreUnavailable
from django_mcp.models import Conversation
from django_mcp.sessions.stores import state_store, store
from django_mcp.sessions.stores.dynamodb import DynamoDBStateStore, DynamoDBStore
from django_mcp.sessions.stores.dynamodb_items import INLINE_BYTES
from django_mcp.sessions.stores.dynamodb_table import MOST_WRITES, PART_BYTES, Item, Write
from django_mcp.sessions.stores.indexed_generations import place_of
from django_mcp.sessions.stores.remote_state import Terms
from django_mcp.sessions.stores.state import CallNote, ConversationRecord, Head, StateStore
from django_mcp.testing.state_contract import StateStoreContract, manifest_of, references, sha256
from tests.sessions.aws_stores import Options, aws, make, options

__all__ = ["aws", "options"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]

ALICE = Principal(kind="user", id="1")
CALLER: dict[str, Any] = {"server": "s", "tenant": "", "principal": ALICE}
ITEM_BYTES = 400 * 1024
TRANSACTION_BYTES = 4 * 1024 * 1024
DAY = 86_400
TERMS = Terms(history=50, touch_seconds=60, record_seconds=DAY, blob_seconds=DAY)


def begin(store: StateStore, **terms: Any) -> ConversationRecord:
    return store.begin(**{**CALLER, **terms}).conversation


def commit(store: StateStore, record: ConversationRecord, base: int, *blobs: bytes, **values: Any) -> Head:
    manifest = manifest_of(*blobs, **values)
    return store.commit(
        record,
        base_generation=base,
        manifest=manifest,
        snapshot=sha256(manifest),
        blobs={sha256(body): body for body in blobs},
    )


def items_of(store: DynamoDBStateStore, record: ConversationRecord, prefix: str = "") -> dict[str, Item]:
    family = family_of(store, record)
    return {item["item"]: item for item in store.table.query(family, prefix)}


def family_of(store: DynamoDBStateStore, record: ConversationRecord) -> str:
    return f"django_mcp:{store.alias}:f:{record.family}"


def change(store: DynamoDBStateStore, record: ConversationRecord, name: str, **values: Any) -> None:
    """Change attributes of an item behind the store's back."""
    write = Write(
        key=(family_of(store, record), name),
        update="SET " + ", ".join(f"#{name} = :{name}" for name in values),
        condition="attribute_exists(#item)",
        values={f":{name}": value for name, value in values.items()},
    )
    assert store.table.apply(write) is not None


class Watch:
    """What is asked of DynamoDB from here on."""

    def __init__(self, store: DynamoDBStateStore) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        store.table.client.meta.events.register("provide-client-params.dynamodb.*", self._see)

    def _see(self, params: dict[str, Any], model: Any, **kwargs: Any) -> None:
        self.asked.append((model.name, params))

    def took(self, act: Callable[[], object]) -> list[str]:
        """Return the operations of one act."""
        self.asked.clear()
        act()
        return [name for name, _ in self.asked]

    def written(self) -> list[list[dict[str, Any]]]:
        """Return what each transaction wrote."""
        return [params["TransactItems"] for name, params in self.asked if name == "TransactWriteItems"]


def size_of(value: Any) -> int:
    """Return at least as many bytes as DynamoDB counts."""
    if isinstance(value, dict):
        return sum(len(name) + size_of(inner) for name, inner in value.items())
    if isinstance(value, list):
        return sum(map(size_of, value))
    return len(value) if isinstance(value, (str, bytes)) else 22


class TestContract(StateStoreContract):
    @pytest.fixture
    def store(self, options: Options) -> StateStore:
        return make(options)


# Costs and bounds


def test_a_call_costs_one_request_to_read_and_one_to_write(
    options: Options, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    store = make(options)
    watch = Watch(store)
    record = begin(store)
    commit(store, record, 0, a=1)
    with django_assert_num_queries(0):
        assert watch.took(lambda: store.find(record.id, **CALLER)) == ["Query"]
        assert watch.took(lambda: store.find_by_handle(str(record.handle), **CALLER)) == ["Query"]
        assert watch.took(lambda: commit(store, record, 1, a=2)) == ["TransactWriteItems"]
        assert watch.took(lambda: commit(store, record, 2, b"one", b"two")) == [
            "Query",
            "BatchGetItem",
            "TransactWriteItems",
        ]
        names = [sha256(b"one"), sha256(b"two")]
        assert watch.took(lambda: store.blobs(record, names)) == ["BatchGetItem"]
        assert watch.took(lambda: store.snapshot(record, 1)) == ["BatchGetItem"]
        assert watch.took(lambda: store.history(record)) == ["Query"]
    other = make(options)
    assert Watch(other).took(lambda: other.find_by_handle(str(record.handle), **CALLER)) == ["GetItem", "Query"]


def test_whatever_a_commit_has_its_transactions_stay_within_the_bounds(options: Options) -> None:
    store = make(options)
    record = begin(store)
    bodies = [b"%d" % number + b"\0" * (INLINE_BYTES - 3) for number in range(150)]
    large = b"\1" * (INLINE_BYTES + 1)
    watch = Watch(store)
    commit(store, record, 0, *bodies, large, filler="x" * (INLINE_BYTES - 10_500))
    commit(store, record, 1, *bodies[:120], b"new", filler="x" * 300_000)
    transactions = watch.written()
    assert max(map(len, transactions)) <= MOST_WRITES
    assert max(map(size_of, transactions)) > 1_000_000
    assert max(map(size_of, transactions)) < TRANSACTION_BYTES // 2
    assert len(transactions) == 4
    names = list(map(sha256, (*bodies, large, b"new")))
    assert store.blobs(record, names) == dict(zip(names, (*bodies, large, b"new"), strict=True))
    assert max(map(size_of, items_of(store, record).values())) < ITEM_BYTES


def test_a_large_value_is_kept_in_parts_and_comes_back(options: Options) -> None:
    store = make(options)
    record = begin(store)
    body = bytes(range(256)) * 20_480
    assert len(body) == 5 * 1024 * 1024
    commit(store, record, 0, body)
    assert make(options).blob(record, sha256(body)) == body
    parts = items_of(store, record, "p:").values()
    assert [len(part["body"]) for part in parts][:-1] == [PART_BYTES] * 13
    assert max(map(size_of, parts)) < ITEM_BYTES


def test_a_manifest_larger_than_an_item_is_read_copied_forked_and_cut(options: Options, settings: Settings) -> None:
    settings.DJANGO_MCP = {"STATE_HISTORY": 3}
    store = make(options)
    record = begin(store)
    large: dict[str, Any] = {"text": "x" * 1_000_000}
    commit(store, record, 0, **large)
    assert store.find(record.id, **CALLER).manifest == manifest_of(**large)
    commit(store, record, 1, a=1)
    assert store.rewind(record, 1).manifest == manifest_of(**large)
    fork = store.fork(record, 1)
    assert fork.manifest == manifest_of(**large)
    sizes = [len(manifest_of(**values)) for values in (large, {"a": 1}, large)]
    assert [line.bytes for line in store.history(record)] == sizes
    assert len(items_of(store, record, "m:")) == 9
    for base in range(3, 10):
        commit(store, record, base, a=base)
    assert {name.split(":")[1] for name in items_of(store, record, "m:")} == {fork.conversation.id}
    assert store.find(fork.conversation.id, **CALLER).manifest == manifest_of(**large)


def test_a_commit_that_is_refused_leaves_nothing(options: Options) -> None:
    store = make(options)
    record = begin(store)
    commit(store, record, 0, a=1)
    before = items_of(store, record)
    with pytest.raises(Exception, match="at generation 1 by now"):
        commit(store, record, 0, b"small", b"\0" * 1_000_000, filler="x" * 1_000_000)
    assert items_of(store, record) == before


# Time


def test_what_may_go_says_when_and_lives_on_with_each_use(options: Options, settings: Settings) -> None:
    settings.DJANGO_MCP = {"CONVERSATION_IDLE_SECONDS": 10 * DAY, "CONVERSATION_SECONDS": 30 * DAY}
    store = make(options)
    record = begin(store)
    commit(store, record, 0, b"\0" * 100_000, text="x" * 100_000)
    store.note(record, CallNote(name="look"))
    now = timezone.now().timestamp()
    items = items_of(store, record)
    assert min(item["expires"] for item in items.values()) > now + 10 * DAY
    kept = items[f"c:{record.id}:r"]["kept_until"]
    rest = {name: item["expires"] for name, item in items.items() if not name.endswith(":r")}
    assert len(rest) == 6
    assert min(rest.values()) >= kept
    soon = int(now + DAY)
    for name in items:
        if name.startswith(("c:", "m:", "n:")):
            change(store, record, name, expires=soon)
    change(store, record, f"c:{record.id}:r", kept_until=soon, touched=0)
    store.find(record.id, **CALLER)
    used = items_of(store, record)
    assert min(item["expires"] for item in used.values()) > now + 10 * DAY
    assert used[f"c:{record.id}:r"]["kept_until"] > now + 20 * DAY


def test_what_a_user_keeps_has_no_end(options: Options) -> None:
    store = make(options)
    record = begin(store, kind="user")
    commit(store, record, 0, b"\0" * 100_000, text="x" * 100_000)
    store.note(record, CallNote(name="look"))
    change(store, record, f"c:{record.id}:r", touched=0)
    store.find_named(kind="user", **CALLER)
    assert not any("expires" in item for item in items_of(store, record).values())


def test_a_fork_lets_the_blobs_that_it_needs_live_as_long_as_it(options: Options) -> None:
    store = make(options)
    record = begin(store)
    commit(store, record, 0, b"small", b"\0" * 1_000_000)
    soon = int(timezone.now().timestamp() + DAY)
    for name in ("s", *items_of(store, record, "b:"), *items_of(store, record, "p:")):
        change(store, record, name, expires=soon)
    change(store, record, "s", until=soon)
    fork = store.fork(record).conversation
    for prefix in ("s", "b:", "p:"):
        assert min(item["expires"] for item in items_of(store, record, prefix).values()) > soon + 20 * DAY
    commit(store, fork, 1, b"small", b"more")
    assert store.blob(record, sha256(b"small")) == b"small"


def test_what_is_over_is_not_there_although_it_was_not_deleted_yet(options: Options) -> None:
    store = make(options)
    record = begin(store)
    commit(store, record, 0, b"blob")
    over = int(timezone.now().timestamp()) - 1
    place = place_of(record)
    store.remote.point("name", place, seconds=100)
    assert store.remote.follow("name") == place
    store.remote.point("name", place, seconds=-2)
    assert store.remote.follow("name") is None
    change(store, record, f"c:{record.id}:r", expires=over)
    assert store.remote.load(place) is None
    store.remote.touch(place, timezone.now(), TERMS, is_foreseen=True)
    assert store.remote.load(place) is None
    # A blob whose time is over may go at any moment: it is made anew.
    change(store, record, f"b:{sha256(b'blob')}", expires=over)
    fork = begin(store)
    commit(store, fork, 0, a=1)
    change(store, record, f"c:{record.id}:r", expires=over + DAY)
    commit(store, record, 1, b"blob", a=1)
    assert items_of(store, record, "b:")[f"b:{sha256(b'blob')}"]["expires"] > over + DAY


def test_a_conversation_that_ended_goes_whole(options: Options) -> None:
    store = make(options)
    record = begin(store)
    commit(store, record, 0, b"small", b"\0" * 1_000_000, text="x" * 100_000)
    store.note(record, CallNote(name="look"))
    assert store.revoke(record)
    assert store.collect(references, dry_run=True).snapshots == 1
    assert store.collect(references).snapshots == 1
    assert set(items_of(store, record)) > {f"b:{sha256(b'small')}"}
    age(store, record)
    look_now()
    collected = store.collect(references)
    assert (collected.blobs, collected.bytes) == (2, 1_000_005)
    assert items_of(store, record) == {}


def test_blobs_of_a_history_that_was_cut_go_and_young_ones_stay(options: Options, settings: Settings) -> None:
    settings.DJANGO_MCP = {"STATE_HISTORY": 2}
    store = make(options)
    record = begin(store)
    commit(store, record, 0, b"old")
    for base in range(1, 9):
        commit(store, record, base, b"needed", n=base)
    age(store, record)
    commit(store, record, 9, b"needed", b"young", n=9)
    commit(store, record, 10, b"needed", n=10)
    commit(store, record, 11, b"needed", n=11)
    look_now()
    assert store.collect(references).blobs == 1
    assert set(items_of(store, record, "b:")) == {f"b:{sha256(body)}" for body in (b"needed", b"young")}


def age(store: DynamoDBStateStore, record: ConversationRecord) -> None:
    """Make every blob of the family old enough to be collected."""
    old = int((timezone.now() - timedelta(hours=1)).timestamp() * 1_000_000)
    for name in items_of(store, record, "b:"):
        change(store, record, name, touched=old)


def look_now() -> None:
    """Make collection look at every conversation."""
    Conversation.objects.update(garbage_at=timezone.now())


# The store of the settings


def configure(settings: Settings, **options: Any) -> None:
    path = "django_mcp.sessions.stores.dynamodb.DynamoDBStore"
    settings.DJANGO_MCP = {"STORES": {"default": {"BACKEND": path, "OPTIONS": options}}}


def test_the_store_keeps_state_there_and_logs_in_the_database(options: Options, settings: Settings) -> None:
    configure(settings, **options, MAX_CONVERSATIONS=1)
    state = state_store()
    assert isinstance(state, DynamoDBStateStore)
    record = begin(state)
    commit(state, record, 0, a=1)
    assert f"c:{record.id}:r" in items_of(state, record)
    assert Conversation.objects.get().pk == record.id
    log = store()
    assert isinstance(log, DynamoDBStore)
    assert log.put_result("s", "", ALICE, "text/plain", b"body")
    assert not state.supports_transactions
    assert list(log.check()) == []
    with pytest.raises(Exception, match="Too many conversations"):
        begin(state)


def test_what_the_store_lacks_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(settings, REGION="eu-central-1")
    (error,) = store().check()
    assert (error.id, error.hint) == (
        "django_mcp.E013",
        "Set DJANGO_MCP['STORES']['default']['OPTIONS']['TABLE'] to its name; `manage.py mcp table` creates it.",
    )
    with pytest.raises(ConfigurationError, match="The store 'default' has no table"):
        begin(state_store())
    monkeypatch.setattr("django_mcp.sessions.stores.dynamodb.find_spec", lambda name: None)
    configure(settings, TABLE="table")
    (error,) = store().check()
    assert (error.id, error.hint) == ("django_mcp.E013", 'Run pip install "django-mcp-durable[dynamodb]".')
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigurationError, match=r'needs boto3: pip install "django-mcp-durable\[dynamodb\]"'):
        begin(state_store())
    configure(settings, TABEL="table")
    with pytest.raises(ConfigurationError, match=r"has the unknown keys \['TABEL'\]; the known ones are .*TABLE"):
        store()


def test_a_table_that_is_not_there_is_an_outage(options: Options) -> None:
    store = make({**options, "TABLE": "another"})
    with pytest.raises(StoreUnavailable, match="DynamoDB has no table 'another'"):
        begin(store)
    assert not Conversation.objects.active().exists()
    with pytest.raises(StoreUnavailable, match="DynamoDB has no table 'another'"):
        store.find("0" * 32, **CALLER)
