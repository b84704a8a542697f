"""The database state store: the contract, what time does, what it costs, and its races on real servers."""

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import InterfaceError, OperationalError, connections
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from django_mcp.core import manifest as manifests
from django_mcp.core.principal import ANONYMOUS, Principal
from django_mcp.exceptions import ConversationNotFound, CorruptBlob, HeadMoved, Overloaded, StoreUnavailable
from django_mcp.models import Blob, Conversation, Snapshot
from django_mcp.models.blob import PART_BYTES
from django_mcp.models.conversation import ConversationState
from django_mcp.models.session import IN_USE
from django_mcp.models.transactions import Pace, transact
from django_mcp.sessions.stores.database_generations import TRIM_EVERY
from django_mcp.sessions.stores.database_state import DatabaseStateStore
from django_mcp.sessions.stores.state import Collected, ConversationRecord, Head, StateStore
from django_mcp.testing.state_contract import StateStoreContract, manifest_of, references, sha256
from tests.databases import together

ALICE = Principal(kind="user", id="1")
BOB = Principal(kind="user", id="2")
CALLER: dict[str, Any] = {"server": "s", "tenant": "", "principal": ALICE}


def make(alias: str = "default", **options: object) -> DatabaseStateStore:
    return DatabaseStateStore("default", {"OPTIONS": {"USING": alias, **options}})


def begin(store: DatabaseStateStore, **terms: Any) -> ConversationRecord:
    return store.begin(**{**CALLER, **terms}).conversation


def commit(store: DatabaseStateStore, record: ConversationRecord, base: int, *blobs: bytes, **values: Any) -> Head:
    """Commit a manifest of exactly these blobs and values, and supply the blobs."""
    manifest = manifest_of(*blobs, **values)
    return store.commit(
        record,
        base_generation=base,
        manifest=manifest,
        snapshot=sha256(manifest),
        blobs={sha256(body): body for body in blobs},
    )


def backdate(record: ConversationRecord, field: str = "last_used_at", **ago: float) -> None:
    Conversation.objects.filter(pk=record.id).update(**{field: timezone.now() - timedelta(**ago)})


def age_blobs(using: str = "default") -> None:
    """Make every blob old enough to be collected."""
    rows = Blob.objects.using(using)
    transact(lambda: rows.update(touched_at=timezone.now() - timedelta(hours=1)), using=using)


def look_now(using: str = "default") -> None:
    """Make collection look at every conversation."""
    rows = Conversation.objects.using(using)
    transact(lambda: rows.update(garbage_at=timezone.now()), using=using)


def state_of(record: ConversationRecord) -> str:
    return Conversation.objects.get(pk=record.id).state


@pytest.mark.django_db(transaction=True)
class TestContractOnTheTestDatabase(StateStoreContract):
    @pytest.fixture
    def store(self) -> StateStore:
        return make()


class TestContractOnRealServers(StateStoreContract):
    @pytest.fixture
    def store(self, concurrent_database: str) -> StateStore:
        return make(concurrent_database)


# Costs


@pytest.mark.django_db
def test_a_call_costs_one_query_to_read_and_two_to_write(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    store = make()
    record = begin(store)
    commit(store, record, 0, a=1)
    with django_assert_num_queries(1):
        store.find(record.id, **CALLER)
    with django_assert_num_queries(1):
        store.find_by_handle(str(record.handle), **CALLER)
    with django_assert_num_queries(4) as captured:  # the savepoint of the test around two statements
        commit(store, record, 1, a=2)
    assert [query["sql"].split()[0] for query in captured.captured_queries] == [
        "SAVEPOINT",
        "UPDATE",
        "INSERT",
        "RELEASE",
    ]
    with django_assert_num_queries(5):
        commit(store, record, 2, b"one", b"two")
    with django_assert_num_queries(1):
        store.blobs(record, [sha256(b"one"), sha256(b"two")])
    with django_assert_num_queries(1):
        store.history(record)
    with django_assert_num_queries(1):
        store.snapshot(record, 1)


@pytest.mark.django_db
def test_a_use_is_recorded_once_a_minute(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    store = make()
    record = begin(store)
    backdate(record, seconds=61)
    before = timezone.now()
    with django_assert_num_queries(4):  # the read, and the update between its savepoint
        store.find(record.id, **CALLER)
    assert Conversation.objects.get().last_used_at >= before
    with django_assert_num_queries(1):
        store.find(record.id, **CALLER)
    backdate(record, seconds=61)
    store.inspect(record.id)
    assert Conversation.objects.get().last_used_at < before


@pytest.mark.django_db
def test_a_large_commit_is_a_few_statements(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    store = make()
    record = begin(store)
    bodies = [b"%d" % number * 3_000 for number in range(500)]
    with django_assert_num_queries(4 + 4):  # 4 MB, one at once
        commit(store, record, 0, *bodies)
    assert Blob.objects.count() == 500


@pytest.mark.django_db
def test_neither_handles_nor_names_are_kept_in_clear() -> None:
    record = begin(make(), name="the session itself")
    kept = json.dumps(list(Conversation.objects.values()), default=str)
    assert str(record.handle) not in kept
    assert "the session itself" not in kept
    assert str(Conversation.objects.get()) == f"{record.id[:8]}… user:1"


# Users


@pytest.mark.django_db
def test_a_conversation_of_a_user_is_found_by_that_user_while_active() -> None:
    store = make()
    user, other = User.objects.create_user("alice"), User.objects.create_user("bob")
    terms = {**CALLER, "user": user}
    record = begin(store, user=user)
    assert store.find(record.id, **terms).conversation == store.inspect(record.id).conversation
    for wrong in (None, other, AnonymousUser(), User(pk=user.pk, is_active=False)):
        with pytest.raises(ConversationNotFound):
            store.find(record.id, **{**CALLER, "user": wrong})
    assert state_of(record) == ConversationState.ACTIVE
    anonymous = begin(store, principal=ANONYMOUS, user=AnonymousUser())
    assert store.find(anonymous.id, **{**CALLER, "principal": ANONYMOUS}).generation == 0


@pytest.mark.django_db
def test_one_name_of_a_principal_is_not_shared_between_users() -> None:
    store = make()
    user, other = User.objects.create_user("alice"), User.objects.create_user("bob")
    begin(store, kind="user", user=user)
    with pytest.raises(ConversationNotFound):
        begin(store, kind="user", user=other)


def test_a_deleted_user_takes_everything_along(concurrent_database: str) -> None:
    store = make(concurrent_database)
    users = User.objects.db_manager(concurrent_database)
    user, other = users.create_user("alice"), users.create_user("bob")
    record = begin(store, user=user)
    commit(store, record, 0, b"a large value")
    fork = store.fork(record).conversation
    commit(store, fork, 1, b"another")
    store.fork(fork)
    commit(store, begin(store, user=user, kind="user"), 0, b"preferences")
    kept = begin(store, user=other, principal=BOB)
    commit(store, kept, 0, b"kept")
    user.delete()
    assert Conversation.objects.using(concurrent_database).get().pk == kept.id
    assert Snapshot.objects.using(concurrent_database).count() == 1
    assert bytes(Blob.objects.using(concurrent_database).get().body) == b"kept"


# Time


@pytest.mark.django_db
@pytest.mark.parametrize(("field", "fine", "over"), [("last_used_at", 6.9, 7), ("created_at", 29.9, 30)])
def test_a_conversation_ends_by_the_clock(field: str, fine: float, over: float) -> None:
    store = make()
    record = begin(store)
    backdate(record, field, days=fine)
    assert store.find(record.id, **CALLER).generation == 0
    backdate(record, field, days=over)
    with pytest.raises(ConversationNotFound):
        store.find(record.id, **CALLER)
    assert state_of(record) == ConversationState.EXPIRED
    with pytest.raises(ConversationNotFound):
        commit(store, record, 0, a=1)


@pytest.mark.django_db
def test_the_state_of_a_user_has_no_clock() -> None:
    store = make()
    record = begin(store, kind="user")
    backdate(record, days=400)
    backdate(record, "created_at", days=400)
    store.collect(references)
    assert store.find_named(kind="user", **CALLER).conversation.id == record.id


@pytest.mark.django_db
def test_a_conversation_used_elsewhere_meanwhile_does_not_expire() -> None:
    store = make()
    record = begin(store)
    backdate(record, days=8)
    used: list[str] = []

    def use_before_the_first_write(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("UPDATE") and not used:
            used.append(sql)
            Conversation.objects.update(last_used_at=timezone.now())
        return execute(sql, params, many, context)

    with connections["default"].execute_wrapper(use_before_the_first_write):
        assert store.find(record.id, **CALLER).generation == 0
    assert len(used) == 1


@pytest.mark.django_db(transaction=True)
def test_a_new_conversation_expires_others_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    store = make()
    due = begin(store)
    backdate(due, days=8)
    begin(store, principal=BOB)
    assert state_of(due) == ConversationState.ACTIVE
    monkeypatch.setattr(store, "_sweeps", Pace(0))
    begin(store, principal=BOB)
    assert state_of(due) == ConversationState.EXPIRED


@pytest.mark.django_db
def test_a_conversation_does_not_end_as_active() -> None:
    with pytest.raises(ValueError, match="A conversation does not end as active"):
        Conversation.objects.end(ConversationState.ACTIVE)


# Caps


@pytest.mark.django_db
def test_over_the_cap_what_never_kept_anything_goes_first_then_what_is_idle(settings: Settings) -> None:
    settings.DJANGO_MCP = {"MAX_CONVERSATIONS_PER_PRINCIPAL": 4}
    store = make()
    busy, idle, idler, empty = (begin(store) for _ in range(4))
    for record in (idle, idler):
        commit(store, record, 0, a=1)
    backdate(busy, seconds=61)
    backdate(idle, seconds=IN_USE.total_seconds() + 1)
    backdate(idler, seconds=IN_USE.total_seconds() + 60)
    backdate(empty, seconds=IN_USE.total_seconds() + 1)
    for gone in (empty, idler, idle):
        newest = begin(store)
        commit(store, newest, 0, a=1)
        assert state_of(gone) == ConversationState.EXPIRED
        assert Conversation.objects.active().count() == 4
    with pytest.raises(Overloaded, match="Too many conversations"):
        begin(store)
    assert state_of(busy) == ConversationState.ACTIVE


@pytest.mark.django_db
def test_the_state_of_a_user_makes_no_room(settings: Settings) -> None:
    settings.DJANGO_MCP = {"MAX_CONVERSATIONS_PER_PRINCIPAL": 1}
    store = make()
    own = begin(store, kind="user")
    backdate(own, days=1)
    begin(store)
    with pytest.raises(Overloaded):
        begin(store)
    assert state_of(own) == ConversationState.ACTIVE


@pytest.mark.django_db
def test_an_origin_does_not_make_room_for_its_fork(settings: Settings) -> None:
    settings.DJANGO_MCP = {"MAX_CONVERSATIONS_PER_PRINCIPAL": 2}
    store = make()
    origin, other = begin(store), begin(store)
    for record in (origin, other):
        backdate(record, days=1)
    fork = store.fork(origin).conversation
    assert [state_of(record) for record in (origin, other, fork)] == ["active", "expired", "active"]


@pytest.mark.django_db
def test_all_together_have_a_cap() -> None:
    store = make(MAX_CONVERSATIONS=2)
    first = begin(store)
    begin(store, principal=BOB)
    for refused in (lambda: begin(store, tenant="other"), lambda: store.fork(first)):
        with pytest.raises(Overloaded, match="Too many conversations") as caught:
            refused()
        assert caught.value.scope == "global"
    backdate(first, days=8)
    begin(store, tenant="other")


@pytest.mark.django_db
def test_far_from_the_cap_of_all_they_are_not_counted_each_time(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    store = make()
    begin(store)
    with django_assert_num_queries(5) as captured:  # the quota's row, the owner's count and the insert, in a savepoint
        begin(store)
    assert sum("COUNT(" in query["sql"] for query in captured.captured_queries) == 1


# Collection


@pytest.mark.django_db
def test_blobs_that_no_kept_generation_needs_are_collected_when_they_are_old(settings: Settings) -> None:
    settings.DJANGO_MCP = {"STATE_HISTORY": 2}
    store = make()
    record = begin(store)
    page = manifest_of(b"in the page")
    manifest = manifest_of(b"early", pages=(page,))
    early = {sha256(body): body for body in (b"early", b"in the page", page)}
    store.commit(record, base_generation=0, manifest=manifest, snapshot=sha256(manifest), blobs=early)
    for base in range(1, TRIM_EVERY):
        commit(store, record, base, b"late", b"%d" % base)
    assert Snapshot.objects.count() == 2
    assert store.collect(references) == Collected()
    assert Blob.objects.count() == 3 + 1 + 9

    age_blobs()
    look_now()
    dry = store.collect(references, dry_run=True)
    assert Blob.objects.count() == 13
    done = store.collect(references)
    assert done == dry
    assert (done.blobs, done.bytes) == (10, sum(map(len, early.values())) + 7)
    assert {bytes(blob.body) for blob in Blob.objects.all()} == {b"late", b"8", b"9"}
    assert store.collect(references) == Collected()
    assert Conversation.objects.get().garbage_at is None


@pytest.mark.django_db
def test_a_blob_that_a_commit_supplies_again_is_young_again(settings: Settings) -> None:
    settings.DJANGO_MCP = {"STATE_HISTORY": 1}
    store = make()
    record = begin(store)
    commit(store, record, 0, b"a large value")
    commit(store, record, 1, a=1)
    age_blobs()
    commit(store, record, 2, b"a large value")
    assert Blob.objects.get().touched_at >= timezone.now() - timedelta(minutes=1)


@pytest.mark.django_db
def test_a_generation_that_is_rewound_to_and_cut_while_it_is_marked_keeps_its_blobs() -> None:
    store = make()
    record = begin(store)
    commit(store, record, 0, b"a large value")
    commit(store, record, 1, a=1)
    age_blobs()
    look_now()
    moved: list[int] = []

    def move_before_manifests_are_read(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("SELECT") and "manifest" in sql and not moved:
            moved.append(0)
            moved.append(store.rewind(record, 1).generation)
            Snapshot.objects.filter(number=1).delete()
        return execute(sql, params, many, context)

    with connections["default"].execute_wrapper(move_before_manifests_are_read):
        assert store.collect(references).blobs == 0
    assert moved == [0, 3]
    assert store.blob(record, sha256(b"a large value")) == b"a large value"


@pytest.mark.django_db
def test_a_fork_keeps_what_its_origin_has_given_up() -> None:
    store = make()
    record = begin(store)
    commit(store, record, 0, b"of both")
    commit(store, record, 1, b"of the origin")
    fork = store.fork(record, 1).conversation
    commit(store, fork, 1, b"of both", b"of the fork")
    store.revoke(record)
    age_blobs()
    collected = store.collect(references)
    assert (collected.snapshots, collected.blobs, collected.bytes) == (2, 1, 13)
    assert store.blobs(fork, [sha256(b"of both"), sha256(b"of the fork")])
    store.revoke(fork)
    collected = store.collect(references)
    assert (collected.snapshots, collected.blobs) == (2, 2)
    assert not Blob.objects.exists()


@pytest.mark.django_db
def test_what_is_due_ends_and_what_ended_long_ago_is_forgotten() -> None:
    store = make()
    due, live, ended, root = (begin(store) for _ in range(4))
    fork = store.fork(root).conversation
    for record in (due, ended):
        commit(store, record, 0, b"a large value")
    backdate(due, days=8)
    store.revoke(ended)
    store.expire(root)
    assert store.collect(references, dry_run=True).expired == 1
    first = store.collect(references)
    assert (first.expired, first.conversations, first.snapshots) == (1, 0, 2)
    assert state_of(due) == ConversationState.EXPIRED
    age_blobs()
    look_now()
    store.collect(references)
    for record in (ended, root):
        backdate(record, "ended_at", days=15)
    assert store.collect(references, dry_run=True).conversations == 1
    assert store.collect(references).conversations == 1
    left = set(Conversation.objects.values_list("pk", flat=True))
    assert left == {due.id, live.id, root.id, fork.id}


@pytest.mark.django_db
def test_a_round_is_bounded_and_says_that_there_is_more() -> None:
    store = make()
    records = [begin(store) for _ in range(5)]
    for record in records:
        commit(store, record, 0, b"one", b"two", b"three")
        backdate(record, days=8)
    age_blobs()
    rounds = 0
    total = 0
    while True:
        collected = store.collect(references, limit=2)
        rounds += 1
        total += collected.blobs
        if collected.is_complete:
            break
        assert rounds < 50
    assert collected.is_complete
    assert total == 15
    assert rounds > 3
    assert not Snapshot.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("damage", [{"body": b"{}"}, None])
def test_a_family_whose_manifest_cannot_be_read_keeps_everything(
    damage: dict[str, Any] | None, caplog: pytest.LogCaptureFixture
) -> None:
    store = make()
    record = begin(store)
    page = manifest_of(b"in the page")
    manifest = manifest_of(pages=(page,))
    blobs = {sha256(body): body for body in (page, b"in the page", b"garbage")}
    store.commit(record, base_generation=0, manifest=manifest, snapshot=sha256(manifest), blobs=blobs)
    rows = Blob.objects.filter(digest=sha256(page))
    if damage is None:
        rows.delete()
    else:
        rows.update(**damage)
    age_blobs()
    look_now()
    left = Blob.objects.count()
    assert store.collect(references).blobs == 0
    assert Blob.objects.count() == left
    assert "keeps all its blobs, since a manifest cannot be read" in caplog.text


@pytest.mark.django_db
@pytest.mark.parametrize(
    "manifest", [b"state 2 leaf 0 0\n", b"state 1 leaf 1 3\n'a' 1", b"state 1 index 1 3\n2 short 3\n"]
)
def test_a_manifest_of_another_version_does_not_stop_the_collection_of_others(manifest: bytes) -> None:
    store = make()
    foreign, ended = begin(store), begin(store)
    store.commit(
        foreign, base_generation=0, manifest=manifest, snapshot=sha256(manifest), blobs={sha256(b"its"): b"its"}
    )
    commit(store, ended, 0, b"garbage")
    store.expire(ended)
    age_blobs()
    look_now()
    assert store.collect(manifests.references).blobs == 1
    assert Blob.objects.get().digest == sha256(b"its")


@pytest.mark.django_db
def test_a_damaged_manifest_that_still_reads_gives_nothing_up() -> None:
    store = make()
    record = begin(store)
    commit(store, record, 0, b"a large value")
    Snapshot.objects.update(manifest=manifest_of(b"a large walue"))
    age_blobs()
    look_now()
    assert store.collect(references).blobs == 0
    assert store.blob(record, sha256(b"a large value")) == b"a large value"


@pytest.mark.django_db
def test_a_head_whose_manifest_is_damaged_or_missing_is_corrupt_and_not_empty() -> None:
    store = make()
    record = begin(store)
    commit(store, record, 0, a=1)
    Snapshot.objects.update(manifest=b"{}")
    with pytest.raises(CorruptBlob, match="does not hash to its name"):
        store.find(record.id, **CALLER)
    Snapshot.objects.all().delete()
    with pytest.raises(CorruptBlob, match=r"of generation 1 of .* is missing"):
        store.find(record.id, **CALLER)


@pytest.mark.django_db
def test_a_blob_of_many_parts_is_collected_whole_and_counts_once() -> None:
    store = make()
    record = begin(store)
    large = b"x" * (PART_BYTES * 2 + 1)
    commit(store, record, 0, large, large[:PART_BYTES])
    assert Blob.objects.count() == 3 + 1
    store.revoke(record)
    age_blobs()
    collected = store.collect(references)
    assert (collected.blobs, collected.bytes) == (2, PART_BYTES * 3 + 1)
    assert not Blob.objects.exists()


# Outages


@pytest.mark.django_db
@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_an_outage_is_never_taken_for_an_empty_store(error: type[Exception]) -> None:
    def down(*args: object) -> None:
        raise error("the server is gone")

    store = make()
    record = begin(store)
    with connections["default"].execute_wrapper(down):
        for ask in (
            lambda: begin(store),
            lambda: store.find(record.id, **CALLER),
            lambda: store.find_by_handle("handle", **CALLER),
            lambda: store.find_named("name", **CALLER),
            lambda: store.inspect(record.id),
            lambda: commit(store, record, 0, b"blob"),
            lambda: store.blob(record, sha256(b"blob")),
            lambda: store.snapshot(record, 0),
            lambda: store.history(record),
            lambda: store.rewind(record, 0),
            lambda: store.fork(record),
            lambda: store.expire(record),
            lambda: store.revoke(record),
            lambda: store.revoke_tokens(record),
            lambda: store.collect(references),
        ):
            with pytest.raises(StoreUnavailable, match="The store is unavailable"):
                ask()
    assert store.find(record.id, **CALLER).generation == 0


# Races


def test_of_twelve_commits_at_once_one_wins_each_round(concurrent_database: str) -> None:
    store = make(concurrent_database)
    record = begin(store)
    for base in range(12):
        outcomes = together(12, lambda number: commit(store, record, base, b"%d" % number, n=number))  # noqa: B023
        winners = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Head)]
        assert len(winners) == 1, outcomes
        losers = [outcome for outcome in outcomes if isinstance(outcome, HeadMoved)]
        assert len(losers) == 11, outcomes
        head = store.find(record.id, **CALLER)
        assert (head.generation, head.manifest) == (base + 1, manifest_of(b"%d" % winners[0], n=winners[0]))
        assert {loser.head.snapshot for loser in losers} == {head.snapshot}
    assert [line.number for line in store.history(record)] == list(range(12, 0, -1))


def test_a_counter_that_many_increment_is_exact(concurrent_database: str) -> None:
    store = make(concurrent_database)
    record = begin(store)
    workers, each = 8, 15

    def work(_: int) -> int:
        moved = 0
        head = store.find(record.id, **CALLER)
        for _ in range(each):
            while True:
                count = json.loads(head.manifest)["values"]["count"] if head.manifest else 0
                try:
                    head = commit(store, record, head.generation, b"%d" % count, count=count + 1)
                    break
                except HeadMoved as error:
                    moved += 1
                    head = error.head
        return moved

    outcomes = together(workers, work)
    assert all(isinstance(outcome, int) for outcome in outcomes), outcomes
    head = store.find(record.id, **CALLER)
    assert head.generation == workers * each
    assert json.loads(head.manifest)["values"] == {"count": workers * each}


def test_commits_rewinds_and_revocations_make_one_chain(concurrent_database: str) -> None:
    store = make(concurrent_database)
    record = begin(store)
    commit(store, record, 0, b"first", n=-1)

    def work(number: int) -> list[int]:
        made: list[int] = []
        for step in range(8):
            if number == 0:
                made.append(store.rewind(record, 1).generation)
            elif number == 1:
                made.append(store.revoke_tokens(record, fingerprint=str(step)).generation)
            else:
                head = store.find(record.id, **CALLER)
                try:
                    made.append(commit(store, record, head.generation, b"first", n=number, step=step).generation)
                except HeadMoved:
                    continue
        return made

    outcomes = together(8, work)
    numbers: list[int] = []
    for outcome in outcomes:
        assert isinstance(outcome, list), outcomes
        numbers += outcome
    assert sorted(numbers) == list(range(2, len(numbers) + 2))
    assert [line.number for line in store.history(record)] == list(range(len(numbers) + 1, 0, -1))[:50]


def test_a_conversation_that_others_use_is_found_by_every_update(concurrent_database: str, settings: Settings) -> None:
    settings.DJANGO_MCP = {"STATE_HISTORY": 1_000}
    store = make(concurrent_database)
    record = begin(store)
    commit(store, record, 0, n=1)

    def work(number: int) -> int:
        return [store.rewind(record, 1).generation for _ in range(20)][-1]

    outcomes = together(8, work)
    assert all(isinstance(outcome, int) for outcome in outcomes), outcomes
    assert store.inspect(record.id).generation == 161


def test_nothing_is_kept_after_a_revocation_that_was_acknowledged(concurrent_database: str) -> None:
    store = make(concurrent_database)
    for _ in range(5):
        record = begin(store)
        acknowledged = threading.Event()

        def work(
            number: int, record: ConversationRecord = record, acknowledged: threading.Event = acknowledged
        ) -> bool:
            if number == 0:
                assert store.revoke(record)
                acknowledged.set()
                return False
            base = 0
            while True:
                was_over = acknowledged.is_set()
                try:
                    base = commit(store, record, base, n=number).generation
                except HeadMoved as moved:
                    base = moved.head.generation
                except ConversationNotFound:
                    return False
                else:
                    if was_over:
                        return True

        assert together(6, work) == [False] * 6


def test_a_cap_is_exact_among_many_at_once(concurrent_database: str, settings: Settings) -> None:
    settings.DJANGO_MCP = {"MAX_CONVERSATIONS_PER_PRINCIPAL": 4}
    store = make(concurrent_database)
    origin = begin(store)
    outcomes = together(12, lambda number: store.fork(origin) if number % 2 else store.begin(**CALLER))
    assert sum(isinstance(outcome, Head) for outcome in outcomes) == 3, outcomes
    assert sum(isinstance(outcome, Overloaded) for outcome in outcomes) == 9, outcomes
    assert Conversation.objects.using(concurrent_database).active().count() == 4


@pytest.mark.parametrize("terms", [{"kind": "user"}, {"name": "session"}], ids=["user", "name"])
def test_what_is_one_is_one_whoever_begins_it_first(concurrent_database: str, terms: dict[str, Any]) -> None:
    store = make(concurrent_database)
    outcomes = together(12, lambda _: begin(store, **terms))
    assert all(isinstance(outcome, ConversationRecord) for outcome in outcomes), outcomes
    assert len({outcome.id for outcome in outcomes if isinstance(outcome, ConversationRecord)}) == 1
    assert Conversation.objects.using(concurrent_database).count() == 1


def test_no_live_generation_lacks_a_blob_whatever_is_collected_meanwhile(
    concurrent_database: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers give up values and take them up again while each value is garbage the moment nothing needs it."""
    monkeypatch.setattr("django_mcp.sessions.stores.database_generations.TRIM_EVERY", 1)
    settings.DJANGO_MCP = {"STATE_HISTORY": 2}
    store = make(concurrent_database)
    roots = [begin(store) for _ in range(2)]
    bodies = [b"value %d" % number for number in range(12)]
    writing = threading.Semaphore(0)
    writers = 4

    def write(number: int) -> int:
        record, made = roots[number % 2], 0
        for step in range(40):
            head = store.find(record.id, **CALLER)
            chosen = [bodies[(number + step) % 12], bodies[(number * step) % 12]]
            try:
                made = commit(store, record, head.generation, *chosen, n=number, step=step).generation
                if step % 4 == 0:
                    store.rewind(record, made - 1)
            except (HeadMoved, LookupError):
                continue
            if step % 7 == 0:
                fork = store.fork(record)
                commit(store, fork.conversation, fork.generation, *chosen[:1], n=number)
                store.revoke(fork.conversation)
        return made

    def collect(_: int) -> int:
        collected = 0
        while not is_over():
            # What a commit touches from here on is young; all else is old enough to go. Hence one collector alone.
            age_blobs(concurrent_database)
            look_now(concurrent_database)
            collected += store.collect(references).blobs
        return collected

    def read(number: int) -> int:
        checked = 0
        while not is_over():
            head = store.find(roots[number % 2].id, **CALLER)
            needed = json.loads(head.manifest)["blobs"] if head.manifest else []
            try:
                checked += len(store.blobs(head.conversation, needed))
            except CorruptBlob:
                if store.find(head.conversation.id, **CALLER).generation <= head.generation + 1:
                    raise
        return checked

    over = threading.Event()

    def is_over() -> bool:
        return over.is_set()

    def work(number: int) -> int:
        if number >= writers:
            return (collect, read, read)[number - writers](number)
        try:
            return write(number)
        finally:
            writing.release()
            if number == 0:
                for _ in range(writers):
                    writing.acquire()
                over.set()

    outcomes = together(writers + 3, work)
    assert all(isinstance(outcome, int) for outcome in outcomes), outcomes
    assert all(outcomes), outcomes
    for conversation in Conversation.objects.using(concurrent_database).active():
        record = store.inspect(conversation.pk).conversation
        for line in store.history(record):
            store.blobs(record, json.loads(store.snapshot(record, line.number).manifest or '{"blobs": []}')["blobs"])


def test_collectors_at_once_take_each_thing_once_and_nothing_that_is_needed(concurrent_database: str) -> None:
    store = make(concurrent_database)
    for number in range(12):
        record = begin(store)
        needed, garbage = b"needed %d" % number, b"garbage %d" % number
        manifest = manifest_of(needed)
        blobs = {sha256(body): body for body in (needed, garbage)}
        store.commit(record, base_generation=0, manifest=manifest, snapshot=sha256(manifest), blobs=blobs)
        if number % 3 == 0:
            store.revoke(record)
    age_blobs(concurrent_database)
    look_now(concurrent_database)
    outcomes = together(6, lambda _: store.collect(references))
    collected = [outcome for outcome in outcomes if isinstance(outcome, Collected)]
    assert len(collected) == 6, outcomes
    assert sum(found.blobs for found in collected) == 12 + 4
    assert sum(found.snapshots for found in collected) == 4
    left = Blob.objects.using(concurrent_database).values_list("body", flat=True)
    assert {bytes(body) for body in left} == {b"needed %d" % number for number in range(12) if number % 3}
