"""Objects against time: what is collected while a commit needs it, and processes that die between any two steps."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connections
from pytest_django import Settings

from django_mcp.exceptions import ConversationNotFound, CorruptBlob, HeadMoved, StoreUnavailable
from django_mcp.models import Blob, BlobObject, Conversation
from django_mcp.models.blob import BlobQuerySet
from django_mcp.models.blob_object import BlobObjectQuerySet
from django_mcp.sessions.stores.database_blobs import DatabaseBlobs
from django_mcp.sessions.stores.database_state import DatabaseStateStore
from django_mcp.sessions.stores.state import ConversationRecord, Head
from django_mcp.testing.state_contract import manifest_of, references, sha256
from tests.databases import together
from tests.sessions.calls import ALICE, Crash
from tests.sessions.objects import age_objects, names_in, needed_objects, watched, watched_storage
from tests.sessions.test_commit_mutations import Mutation

VALUE = b"a large value"
OTHER = b"another large value"

Check = Callable[[DatabaseStateStore, pytest.MonkeyPatch], None]


@pytest.fixture
def folder(tmp_path: Path, settings: Settings) -> Path:
    settings.STORAGES = {**settings.STORAGES, "blobs": watched_storage(tmp_path)}
    return tmp_path


def make(using: str = "default") -> DatabaseStateStore:
    return DatabaseStateStore("default", {"OPTIONS": {"USING": using, "BLOBS": "blobs", "BLOBS_FROM_BYTES": 0}})


def begin(store: DatabaseStateStore) -> ConversationRecord:
    return store.begin(**ALICE.owner).conversation


def commit(store: DatabaseStateStore, record: ConversationRecord, base: int, *blobs: bytes, **values: Any) -> Head:
    manifest = manifest_of(*blobs, **values)
    return store.commit(
        record,
        base_generation=base,
        manifest=manifest,
        snapshot=sha256(manifest),
        blobs={sha256(body): body for body in blobs},
    )


def collect_all(store: DatabaseStateStore) -> None:
    """Collect as if the grace had passed for everything that nothing keeps."""
    age_objects(store.write_alias)
    Conversation.objects.using(store.write_alias).update(garbage_at="2000-01-01T00:00:00Z")
    while not store.collect(references).is_complete:
        pass


def garbage_of(store: DatabaseStateStore) -> ConversationRecord:
    """Return a conversation that had VALUE, and whose kept history does not need it any more."""
    record = begin(store)
    commit(store, record, 0, VALUE)
    commit(store, record, 1, n=1)
    return record


@contextmanager
def once(
    patch: pytest.MonkeyPatch, owner: type, name: str, *, before: Any = None, after: Any = None
) -> Iterator[list[int]]:
    """Do something else right before or after the first call of a method; the list has an entry for it."""
    original = getattr(owner, name)
    done: list[int] = []

    def method(*args: Any, **kwargs: Any) -> Any:
        is_first = not done
        if is_first:
            done.append(1)
            if before is not None:
                before()
        result = original(*args, **kwargs)
        if is_first and after is not None:
            after()
        return result

    with patch.context() as patched:
        patched.setattr(owner, name, method)
        yield done


# Races, each at the one moment that matters


def blob_is_collected_before_the_commit_that_knows_it(store: DatabaseStateStore, patch: pytest.MonkeyPatch) -> None:
    record = garbage_of(store)
    with once(patch, DatabaseBlobs, "prepare", after=lambda: collect_all(store)) as met:
        commit(store, record, 2, VALUE)
    assert met
    assert store.blob(record, sha256(VALUE)) == VALUE


def object_is_given_up_before_the_commit_that_wrote_it(store: DatabaseStateStore, patch: pytest.MonkeyPatch) -> None:
    record = begin(store)
    with once(patch, DatabaseBlobs, "prepare", after=lambda: collect_all(store)) as met:
        commit(store, record, 0, VALUE)
    assert met
    assert store.blob(record, sha256(VALUE)) == VALUE


def object_is_given_up_and_not_yet_deleted(store: DatabaseStateStore, patch: pytest.MonkeyPatch) -> None:
    """The collector has taken it, and deletes it after the commit."""
    record = begin(store)
    taken, kept = threading.Event(), threading.Event()
    failed: list[Exception] = []

    def collect() -> None:
        try:
            collect_all(store)
        except Exception as error:
            failed.append(error)
        finally:
            taken.set()
            connections.close_all()

    def watch(step: str, name: str) -> None:
        if step == "delete" and threading.current_thread() is collector:
            taken.set()
            assert kept.wait(timeout=30)

    def meet() -> None:
        collector.start()
        assert taken.wait(timeout=30)

    collector = threading.Thread(target=collect)
    try:
        with watched(watch), once(patch, DatabaseBlobs, "prepare", after=meet):
            commit(store, record, 0, VALUE)
            kept.set()
            collector.join(timeout=30)
    finally:
        kept.set()
    assert not collector.is_alive()
    assert store.blob(record, sha256(VALUE)) == VALUE
    assert failed == []


def blob_is_needed_again_right_before_it_is_deleted(store: DatabaseStateStore, patch: pytest.MonkeyPatch) -> None:
    record = garbage_of(store)
    with once(patch, DatabaseBlobs, "forget", before=lambda: commit(store, record, 2, VALUE)) as met:
        collect_all(store)
    assert met
    assert store.blob(record, sha256(VALUE)) == VALUE


def object_is_adopted_right_before_it_is_given_up(store: DatabaseStateStore, patch: pytest.MonkeyPatch) -> None:
    record = begin(store)
    written, listed, kept = threading.Event(), threading.Event(), threading.Event()

    def write() -> None:
        try:
            commit(store, record, 0, VALUE)
        finally:
            kept.set()
            connections.close_all()

    def wait() -> None:
        written.set()
        assert listed.wait(timeout=30)

    def list_and_wait() -> None:
        listed.set()
        assert kept.wait(timeout=30)

    writer = threading.Thread(target=write)
    with (
        once(patch, DatabaseBlobs, "prepare", after=wait),
        once(patch, DatabaseBlobs, "_give_up", before=list_and_wait) as met,
    ):
        writer.start()
        assert written.wait(timeout=30)
        collect_all(store)
        writer.join(timeout=30)
    assert met
    assert store.blob(record, sha256(VALUE)) == VALUE


def object_is_needed_while_its_predecessor_is_deleted(store: DatabaseStateStore, patch: pytest.MonkeyPatch) -> None:
    """The row is gone, a commit puts the value again, and only then the late delete of the object comes."""
    record = garbage_of(store)
    made: list[int] = []

    def watch(step: str, name: str) -> None:
        if step == "delete" and not made:
            made.append(2)
            made.append(commit(store, record, 2, VALUE).generation)

    with watched(watch):
        collect_all(store)
    assert made == [2, 3]
    assert store.blob(record, sha256(VALUE)) == VALUE


RACES: dict[str, Check] = {
    check.__name__: check
    for check in (
        blob_is_collected_before_the_commit_that_knows_it,
        object_is_given_up_before_the_commit_that_wrote_it,
        object_is_given_up_and_not_yet_deleted,
        blob_is_needed_again_right_before_it_is_deleted,
        object_is_adopted_right_before_it_is_given_up,
        object_is_needed_while_its_predecessor_is_deleted,
    )
}

MUTATIONS = {
    "touch without counting": (
        Mutation(
            at=BlobQuerySet,
            name="touch",
            function=BlobQuerySet.touch,
            words={"return rows.update(touched_at=now) == len(digests)": "return rows.update(touched_at=now) >= 0"},
        ),
        "blob_is_collected_before_the_commit_that_knows_it",
    ),
    "adopt what was given up": (
        Mutation(
            at=BlobObjectQuerySet,
            name="adopt",
            function=BlobObjectQuerySet.adopt,
            words={", is_given_up=False)": ")"},
        ),
        "object_is_given_up_and_not_yet_deleted",
    ),
    "delete without the condition": (
        Mutation(
            at=DatabaseBlobs,
            name="forget",
            function=DatabaseBlobs.forget,
            words={"mine.filter(touched_at__lte=cutoff).delete()": "mine.delete()"},
        ),
        "blob_is_needed_again_right_before_it_is_deleted",
    ),
    "give up without the condition": (
        Mutation(
            at=DatabaseBlobs,
            name="_give_up",
            function=DatabaseBlobs._give_up,
            words={", garbage_at=found.garbage_at)": ")"},
        ),
        "object_is_adopted_right_before_it_is_given_up",
    ),
    "one name for one content": (
        Mutation(
            at=DatabaseBlobs,
            name="prepare",
            function=DatabaseBlobs.prepare,
            words={"name=storage.new_name(family, digest))": "name=f'{family}-{digest}')"},
        ),
        "object_is_needed_while_its_predecessor_is_deleted",
    ),
}


@pytest.fixture
def short_history(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_mcp.sessions.stores.database_generations.TRIM_EVERY", 1)
    settings.DJANGO_MCP = {"STATE_HISTORY": 1}


@pytest.mark.usefixtures("folder", "short_history")
class TestRaces:
    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("race", RACES)
    def test_what_a_commit_keeps_is_there(self, race: str, monkeypatch: pytest.MonkeyPatch) -> None:
        RACES[race](make(), monkeypatch)

    @pytest.mark.parametrize("race", RACES)
    def test_what_a_commit_keeps_is_there_on_real_servers(
        self, concurrent_database: str, race: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        RACES[race](make(concurrent_database), monkeypatch)

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("mutation", MUTATIONS)
    def test_a_rule_that_is_left_out_is_missed(self, mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
        mutant, race = MUTATIONS[mutation]
        mutant.apply(monkeypatch)
        with pytest.raises((AssertionError, CorruptBlob, IntegrityError, StoreUnavailable)):
            RACES[race](make(), monkeypatch)


@pytest.mark.usefixtures("short_history")
@pytest.mark.django_db(transaction=True)
def test_an_object_that_was_put_after_its_row_had_gone_is_deleted_by_who_put_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make()
    record = begin(store)
    late: list[str] = []

    def watch(step: str, name: str) -> None:
        if step == "save" and not late:
            late.append(name)
            collect_all(store)
            assert not BlobObject.objects.exists()

    with watched(watch):
        commit(store, record, 0, VALUE)
    assert late
    assert names_in(folder) == needed_objects() == set(BlobObject.objects.values_list("name", flat=True))
    assert store.blob(record, sha256(VALUE)) == VALUE


@pytest.mark.django_db(transaction=True)
def test_objects_that_took_longer_than_a_grace_are_deleted_by_who_put_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make()
    record = begin(store)
    with monkeypatch.context() as patched:
        patched.setattr("django_mcp.sessions.stores.database_blobs.GRACE_SECONDS", 0)
        with pytest.raises(StoreUnavailable, match="collected again and again"):
            commit(store, record, 0, VALUE, OTHER)
    assert names_in(folder) == set()
    assert commit(store, record, 0, VALUE, OTHER).generation == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("method", ["prepare", "_present"])
def test_a_family_that_is_deleted_while_it_commits_is_not_found(
    folder: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make()
    record = begin(store)
    commit(store, record, 0, OTHER)
    gone = Conversation.objects.filter(pk=record.id)
    with once(monkeypatch, DatabaseBlobs, method, before=gone.delete) as met, pytest.raises(ConversationNotFound):
        commit(store, record, 1, VALUE)
    assert met
    collect_all(store)
    assert names_in(folder) == needed_objects() == set()
    assert not BlobObject.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_objects_of_one_value_at_once_one_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make()
    record = begin(store)
    fork = store.fork(record).conversation
    with once(monkeypatch, DatabaseBlobs, "prepare", after=lambda: commit(store, fork, 0, VALUE)):
        commit(store, record, 0, VALUE)
    assert len(names_in(folder)) == 2
    assert BlobObject.objects.filter(garbage_at=None).count() == 1
    collect_all(store)
    assert names_in(folder) == needed_objects()
    for one in (record, fork):
        assert store.blob(one, sha256(VALUE)) == VALUE


@pytest.mark.django_db(transaction=True)
def test_a_reader_between_a_row_and_its_object_finds_where_the_value_is_by_now(
    folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_mcp.sessions.stores.database_generations.TRIM_EVERY", 1)
    settings.DJANGO_MCP = {"STATE_HISTORY": 1}
    store = make()
    record = garbage_of(store)

    def move() -> None:
        collect_all(store)
        commit(store, record, 2, VALUE)

    with once(monkeypatch, DatabaseBlobs, "_fetch", before=move) as met:
        assert store.blob(record, sha256(VALUE)) == VALUE
    assert met


# Deaths


@contextmanager
def death_at(step: int, using: str = "default") -> Iterator[None]:
    """Die in place of, or right after, a write statement or an operation of the storage: at the boundary `step`."""
    passed = iter(range(10_000))

    def tick() -> None:
        if next(passed) == step:
            raise Crash

    def execute(run: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        is_write = sql.startswith(("INSERT", "UPDATE", "DELETE"))
        if is_write:
            tick()
        result = run(sql, params, many, context)
        if is_write:
            tick()
        return result

    with connections[using].execute_wrapper(execute), watched(lambda step, name: tick()):
        yield


@pytest.mark.usefixtures("short_history")
@pytest.mark.django_db(transaction=True)
def test_a_commit_that_dies_anywhere_loses_nothing_and_leaves_garbage_for_a_grace(folder: Path) -> None:
    store = make()
    record = begin(store)
    commit(store, record, 0, VALUE, OTHER)

    def replace(number: int) -> None:
        head = store.find(record.id, **ALICE.owner)
        # The values alternate, so that some are there, some are new and some are garbage.
        commit(store, record, head.generation, VALUE, b"new %d" % number, b"newer %d" % number, number=number)

    def check() -> None:
        head = store.find(record.id, **ALICE.owner)
        needed = json.loads(head.manifest)["blobs"]
        assert store.blobs(record, needed).keys() == set(needed)

    for number in range(200):
        try:
            with death_at(number):
                replace(number)
            break
        except Crash:
            check()
    assert number > 10
    collect_all(store)
    check()
    assert names_in(folder) == needed_objects() == set(BlobObject.objects.values_list("name", flat=True))
    head = store.find(record.id, **ALICE.owner)
    assert set(Blob.objects.values_list("digest", flat=True)) == set(json.loads(head.manifest)["blobs"])


@pytest.mark.usefixtures("short_history")
@pytest.mark.django_db(transaction=True)
def test_a_collection_that_dies_anywhere_takes_nothing_needed_and_the_next_takes_the_rest(folder: Path) -> None:
    store = make()
    record = begin(store)
    commit(store, record, 0, VALUE, OTHER)
    base = 1

    def litter() -> None:
        nonlocal base
        base = commit(store, record, base, VALUE, b"garbage %d" % base).generation
        base = commit(store, record, base, VALUE, n=base).generation

    def collect(number: int) -> None:
        age_objects()
        Conversation.objects.update(garbage_at="2000-01-01T00:00:00Z")
        store.collect(references)

    for number in range(200):
        litter()
        try:
            with death_at(number):
                collect(number)
            break
        except Crash:
            assert store.blob(record, sha256(VALUE)) == VALUE
    assert number > 10
    collect_all(store)
    assert store.blob(record, sha256(VALUE)) == VALUE
    assert names_in(folder) == needed_objects() == set(BlobObject.objects.values_list("name", flat=True))
    assert set(Blob.objects.values_list("digest", flat=True)) == {sha256(VALUE)}


# Many at once


def test_no_live_generation_lacks_an_object_whatever_is_collected_meanwhile(
    concurrent_database: str, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers give up values and take them up again while each value is garbage the moment nothing needs it."""
    monkeypatch.setattr("django_mcp.sessions.stores.database_generations.TRIM_EVERY", 1)
    settings.DJANGO_MCP = {"STATE_HISTORY": 2}
    store = make(concurrent_database)
    roots = [begin(store) for _ in range(2)]
    bodies = [b"value %d" % number for number in range(8)]
    writers = 4
    left = threading.Semaphore(0)
    over = threading.Event()

    def write(number: int) -> int:
        record, made = roots[number % 2], 0
        for step in range(30):
            head = store.find(record.id, **ALICE.owner)
            chosen = [bodies[(number + step) % 8], bodies[(number * step) % 8]]
            try:
                made = commit(store, record, head.generation, *chosen, n=number, step=step).generation
            except (HeadMoved, StoreUnavailable):
                continue
            if step % 7 == 0:
                fork = store.fork(record)
                store.revoke(fork.conversation)
        return made

    def collect() -> int:
        collected = 0
        while not over.is_set():
            # What a commit touches from here on is young; all else is old enough to go. Hence one collector alone.
            age_objects(concurrent_database)
            Conversation.objects.using(concurrent_database).update(garbage_at="2000-01-01T00:00:00Z")
            collected += store.collect(references).blobs
        return collected

    def work(number: int) -> int:
        if number == writers:
            return collect()
        try:
            return write(number)
        finally:
            left.release()
            if number == 0:
                for _ in range(writers):
                    left.acquire()
                over.set()

    outcomes = together(writers + 1, work)
    assert all(isinstance(outcome, int) for outcome in outcomes), outcomes
    assert all(outcomes), outcomes
    for conversation in Conversation.objects.using(concurrent_database).active():
        record = store.inspect(conversation.pk).conversation
        for line in store.history(record):
            needed = json.loads(store.snapshot(record, line.number).manifest)["blobs"]
            assert store.blobs(record, needed).keys() == set(needed)
    collect_all(store)
    rows = BlobObject.objects.using(concurrent_database).values_list("name", flat=True)
    assert names_in(folder) == needed_objects(concurrent_database) == set(rows)
