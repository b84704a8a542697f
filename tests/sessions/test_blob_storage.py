"""Blobs in a file storage: the contract on files and on S3, and what the storage does when it is broken."""

import threading
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connections, transaction
from pytest_django import DjangoAssertNumQueries, Settings

from django_mcp.core.principal import Principal
from django_mcp.exceptions import ConfigurationError, CorruptBlob, HeadMoved, StoreUnavailable
from django_mcp.models import Blob, BlobObject
from django_mcp.sessions.stores.blob_storage import NAME_LENGTH, THREADS, BlobStorage
from django_mcp.sessions.stores.database import DatabaseStore
from django_mcp.sessions.stores.database_state import DatabaseStateStore
from django_mcp.sessions.stores.state import ConversationRecord, Head, StateStore
from django_mcp.testing.state_contract import StateStoreContract, manifest_of, references, sha256
from tests.databases import together
from tests.sessions.aws_stores import aws, bucket
from tests.sessions.calls import ALICE as CALLER
from tests.sessions.calls import Call, values_of
from tests.sessions.objects import age_objects, names_in, needed_objects, watched, watched_storage

__all__ = ["aws", "bucket"]

LARGE = b"a large value" * 10
FILES = "django.core.files.storage.FileSystemStorage"


def make(using: str = "default", *, least: int = 100) -> DatabaseStateStore:
    return DatabaseStateStore("default", {"OPTIONS": {"USING": using, "BLOBS": "blobs", "BLOBS_FROM_BYTES": least}})


def begin(store: DatabaseStateStore) -> ConversationRecord:
    return store.begin(**CALLER.owner).conversation


def commit(store: DatabaseStateStore, record: ConversationRecord, base: int, *blobs: bytes, **values: Any) -> Head:
    manifest = manifest_of(*blobs, **values)
    return store.commit(
        record,
        base_generation=base,
        manifest=manifest,
        snapshot=sha256(manifest),
        blobs={sha256(body): body for body in blobs},
    )


@pytest.fixture
def folder(tmp_path: Path, settings: Settings) -> Path:
    settings.STORAGES = {**settings.STORAGES, "blobs": watched_storage(tmp_path)}
    return tmp_path


@pytest.mark.django_db(transaction=True)
class TestContractOnFiles(StateStoreContract):
    @pytest.fixture
    def store(self, folder: Path) -> StateStore:
        return make(least=0)


class TestContractOnFilesBesideRealServers(StateStoreContract):
    @pytest.fixture
    def store(self, concurrent_database: str, folder: Path) -> StateStore:
        return make(concurrent_database, least=0)


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
class TestContractOnS3(StateStoreContract):
    @pytest.fixture
    def store(self, bucket: str) -> StateStore:
        return make(least=0)

    def test_what_is_gone_or_is_another_is_corrupt_and_a_bucket_that_is_away_is_an_outage(
        self, store: DatabaseStateStore, server: str, settings: Settings
    ) -> None:
        record = begin(store)
        commit(store, record, 0, b"gone", b"other", b"kept")
        names = dict(Blob.objects.values_list("digest", "kept_in_id"))
        storage = storages["blobs"]
        storage.delete(str(names[sha256(b"gone")]))
        storage.save(str(names[sha256(b"other")]), ContentFile(b"another"))
        with pytest.raises(CorruptBlob, match="is missing"):
            store.blob(record, sha256(b"gone"))
        with pytest.raises(CorruptBlob, match="does not hash to its name"):
            store.blob(record, sha256(b"other"))
        assert store.blob(record, sha256(b"kept")) == b"kept"
        options = {**settings.STORAGES["blobs"]["OPTIONS"], "endpoint_url": "http://127.0.0.1:9"}
        settings.STORAGES = {**settings.STORAGES, "blobs": {**settings.STORAGES["blobs"], "OPTIONS": options}}
        with pytest.raises(StoreUnavailable):
            store.blob(record, sha256(b"kept"))
        with pytest.raises(StoreUnavailable):
            commit(store, record, 1, b"new")
        assert store.find(record.id, **CALLER.owner).generation == 1

    def test_values_of_five_megabytes_come_and_go(self, store: DatabaseStateStore, server: str) -> None:
        record = begin(store)
        bodies = [bytes([number]) * 5_000_000 for number in range(3)]
        commit(store, record, 0, *bodies)
        assert list(store.blobs(record, map(sha256, bodies)).values()) == bodies
        names = needed_objects()
        store.revoke(record)
        age_objects()
        assert store.collect(references).blobs == 3
        assert not any(storages["blobs"].exists(name) for name in names)


# What is kept where


@pytest.mark.django_db(transaction=True)
def test_what_is_large_is_an_object_and_what_is_small_a_row(folder: Path) -> None:
    store = make()
    record = begin(store)
    commit(store, record, 0, LARGE, b"small")
    large, small = Blob.objects.get(digest=sha256(LARGE)), Blob.objects.get(digest=sha256(b"small"))
    assert (bytes(large.body), large.size, bytes(small.body), small.kept_in) == (b"", len(LARGE), b"small", None)
    (kept,) = BlobObject.objects.all()
    assert (kept.pk, kept.storage, kept.garbage_at, kept.is_given_up) == (large.kept_in_id, "blobs", None, False)
    assert names_in(folder) == {kept.name}
    assert (folder / kept.name).read_bytes() == LARGE
    assert record.id not in kept.name
    assert str(kept) == f"{kept.name[-8:]}…"


@pytest.mark.django_db(transaction=True)
def test_names_cannot_be_guessed_and_two_families_share_none(folder: Path) -> None:
    store = make()
    for _ in range(2):
        commit(store, begin(store), 0, LARGE)
    one, other = sorted(needed_objects())
    assert one.partition("-")[2] != other.partition("-")[2]
    storage = BlobStorage("blobs")
    names = {storage.new_name("x" * 32, sha256(b"")) for _ in range(100)}
    assert len(names) == 100
    assert max(map(len, names)) <= NAME_LENGTH
    assert all(len(name.rpartition("-")[2]) == 32 for name in names)


@pytest.mark.django_db(transaction=True)
def test_what_is_there_is_not_written_again(folder: Path) -> None:
    store = make()
    record = begin(store)
    commit(store, record, 0, LARGE)
    with watched(lambda step, name: pytest.fail(f"{step} {name}")):
        commit(store, record, 1, LARGE, n=1)
        fork = store.fork(record).conversation
        commit(store, fork, 1, LARGE, n=2)
        commit(store, record, 2, LARGE, n=3)
        with pytest.raises(HeadMoved):
            commit(store, record, 1, LARGE * 2)
    assert len(names_in(folder)) == 1
    assert store.blob(fork, sha256(LARGE)) == LARGE


@pytest.mark.django_db(transaction=True)
def test_a_value_stays_where_it_is_when_the_option_comes_and_goes(folder: Path) -> None:
    rows, objects = DatabaseStateStore("default", {"OPTIONS": {}}), make()
    record = begin(rows)
    commit(rows, record, 0, LARGE)
    commit(objects, record, 1, LARGE, LARGE * 2)
    commit(rows, record, 2, LARGE, LARGE * 2, n=1)
    assert Blob.objects.filter(kept_in=None).get().digest == sha256(LARGE)
    for store in (rows, objects):
        assert store.blobs(record, [sha256(LARGE), sha256(LARGE * 2)]) == {
            sha256(LARGE): LARGE,
            sha256(LARGE * 2): LARGE * 2,
        }


@pytest.mark.django_db(transaction=True)
def test_within_a_transaction_of_the_caller_large_values_are_rows(folder: Path) -> None:
    store = make()
    record = begin(store)
    with watched(lambda step, name: pytest.fail(f"{step} {name}")):
        with transaction.atomic():
            commit(store, record, 0, LARGE)
        assert store.blob(record, sha256(LARGE)) == LARGE
    assert names_in(folder) == set()


@pytest.mark.django_db(transaction=True)
def test_a_commit_with_objects_costs_a_few_statements_more(
    folder: Path, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    store = make()
    record = begin(store)
    commit(store, record, 0, b"small")
    with django_assert_num_queries(5):  # BEGIN, three statements, COMMIT
        commit(store, record, 1, b"little")
    with django_assert_num_queries(
        5 + 2 + 3 + 2
    ):  # two looks, a transaction that writes them down, and two statements
        commit(store, record, 2, LARGE, LARGE * 2)
    with django_assert_num_queries(1):
        store.blobs(record, [sha256(b"small"), sha256(LARGE), sha256(LARGE * 2)])


@pytest.mark.django_db(transaction=True)
def test_several_objects_are_read_at_once_and_not_too_many(folder: Path) -> None:
    store = make()
    record = begin(store)
    bodies = [LARGE + b"%d" % number for number in range(THREADS * 3)]
    commit(store, record, 0, *bodies)
    meeting = threading.Barrier(THREADS)
    lock = threading.Lock()
    at_once: list[int] = [0]
    most: list[int] = []

    def watch(step: str, name: str) -> None:
        with lock:
            at_once[0] += {"open": 1, "opened": -1}[step]
            most.append(at_once[0])
        if step == "open":
            meeting.wait(timeout=30)

    with watched(watch):
        assert list(store.blobs(record, map(sha256, bodies)).values()) == bodies
    assert max(most) == THREADS


@pytest.mark.django_db(transaction=True)
def test_the_objects_of_a_deleted_user_are_deleted_at_the_next_round(folder: Path) -> None:
    store = make()
    user, other = User.objects.create_user("alice"), User.objects.create_user("bob")
    record = store.begin(**{**CALLER.owner, "user": user}).conversation
    commit(store, record, 0, LARGE)
    commit(store, store.fork(record).conversation, 1, LARGE * 2)
    kept = store.begin(**{**CALLER.owner, "user": other, "principal": Principal(kind="user", id="2")}).conversation
    commit(store, kept, 0, LARGE)
    user.delete()
    assert len(names_in(folder)) == 3
    assert store.collect(references, dry_run=True).is_complete
    assert len(names_in(folder)) == 3
    store.collect(references)
    assert names_in(folder) == needed_objects() != set()
    assert BlobObject.objects.count() == 1
    assert store.blob(kept, sha256(LARGE)) == LARGE


# Storages that are broken


@pytest.mark.django_db(transaction=True)
def test_a_missing_object_is_corrupt_and_so_is_another_one(folder: Path) -> None:
    store = make()
    record = begin(store)
    commit(store, record, 0, LARGE, LARGE * 2, LARGE * 3)
    names = {digest: folder / str(name) for digest, name in Blob.objects.values_list("digest", "kept_in_id")}
    names[sha256(LARGE)].unlink()
    names[sha256(LARGE * 2)].write_bytes(LARGE)
    for digests in ([sha256(LARGE)], [sha256(LARGE * 3), sha256(LARGE)]):
        with pytest.raises(CorruptBlob, match="is missing") as caught:
            store.blobs(record, digests)
        assert caught.value.digest == sha256(LARGE)
    for digests in ([sha256(LARGE * 2)], [sha256(LARGE * 3), sha256(LARGE * 2)]):
        with pytest.raises(CorruptBlob, match="does not hash to its name"):
            store.blobs(record, digests)
    assert store.blob(record, sha256(LARGE * 3)) == LARGE * 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [PermissionError, TimeoutError, RuntimeError])
def test_an_outage_of_the_storage_is_one_of_the_store(folder: Path, error: type[Exception]) -> None:
    def down(step: str, name: str) -> None:
        raise error("it is away")

    store = make()
    record = begin(store)
    commit(store, record, 0, LARGE)
    with watched(down):
        with pytest.raises(StoreUnavailable, match="The store is unavailable"):
            store.blob(record, sha256(LARGE))
        for new in ([LARGE * 2], [LARGE * 2, LARGE * 3]):
            with pytest.raises(StoreUnavailable, match="The store is unavailable"):
                commit(store, record, 1, *new)
        assert store.find(record.id, **CALLER.owner).generation == 1
        store.revoke(record)
        age_objects()
        with pytest.raises(StoreUnavailable, match="The store is unavailable"):
            store.collect(references)
        store.collect(references)
    age_objects()
    store.collect(references)
    assert names_in(folder) == set()
    assert not BlobObject.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_object_that_vanishes_while_it_is_read_is_missing_whatever_the_storage_says(folder: Path) -> None:
    def vanish(step: str, name: str) -> None:
        if step == "opened":
            (folder / name).unlink()
            raise RuntimeError("404")

    store = make()
    record = begin(store)
    commit(store, record, 0, LARGE)
    with watched(vanish), pytest.raises(CorruptBlob, match="is missing"):
        store.blob(record, sha256(LARGE))


def test_a_name_that_is_taken_leaves_no_second_object(folder: Path) -> None:
    storage = BlobStorage("blobs")
    storage.put({"a/name": LARGE})
    storage.put({"a/name": LARGE})
    assert names_in(folder) == {"a/name"}
    with pytest.raises(StoreUnavailable, match="does not keep names"):
        storage.put({"a/name": b"another"})
    assert names_in(folder) == {"a/name"}
    assert storage.get({sha256(LARGE): "a/name"}) == {sha256(LARGE): LARGE}
    storage.delete(["a/name", "another"])
    assert storage.get({sha256(LARGE): "a/name"}) == {}


def test_a_storage_that_is_not_there_is_a_mistake_of_the_project(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="The storage 'blobs' cannot be had from STORAGES: Could not find"):
        BlobStorage("blobs").put({"name": b""})
    store = DatabaseStore("default", {"OPTIONS": {"BLOBS": "blobs"}})
    (message,) = store.check()
    assert message.id == "django_mcp.E011"
    assert (
        message.hint == "Set DJANGO_MCP['STORES']['default']['OPTIONS']['BLOBS'] to one of ['default', 'staticfiles']."
    )
    settings.STORAGES = {**settings.STORAGES, "blobs": {"BACKEND": FILES}}
    assert list(store.check()) == []
    for wrong in (-1, "1", True):
        with pytest.raises(
            ConfigurationError, match=r"'BLOBS_FROM_BYTES'\] is .*; it must be a whole number, 0 or more"
        ):
            DatabaseStore("default", {"OPTIONS": {"BLOBS_FROM_BYTES": wrong}})


# Many at once


def test_a_counter_in_objects_that_64_callers_increment_is_exact(concurrent_database: str, folder: Path) -> None:
    store = make(concurrent_database, least=0)
    record = begin(store)

    def work(number: int) -> None:
        for _ in range(5):
            call = Call(store, store.find(record.id, **CALLER.owner))
            call.state.update("count", lambda count: {"n": count["n"] + 1, "pad": "x" * 500}, {"n": 0})
            call.commit()

    outcomes = together(64, work)
    assert outcomes == [None] * 64
    head = store.find(record.id, **CALLER.owner)
    assert head.generation == 64 * 5
    assert values_of(store, head)["count"]["n"] == 64 * 5
    assert connections[concurrent_database].in_atomic_block is False
    assert needed_objects(concurrent_database) <= names_in(folder)
