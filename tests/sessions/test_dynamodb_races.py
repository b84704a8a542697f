"""The state store on DynamoDB when things happen at once, or answers are lost; and that these tests bite.

DynamoDB decides a race by the conditions of a transaction, and the server of the tests serves one request after the
other. So what comes between two requests of a step is put there on purpose, and each condition is left out in turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest
from django.utils import timezone
from pytest_django import Settings

from django_mcp.exceptions import ConversationNotFound, CorruptBlob, HeadMoved, StoreUnavailable
from django_mcp.models import Conversation
from django_mcp.sessions.stores import dynamodb_generations
from django_mcp.sessions.stores.dynamodb import DynamoDBStateStore
from django_mcp.sessions.stores.dynamodb_table import Write
from django_mcp.sessions.stores.state import GRACE_SECONDS, ConversationRecord, Head
from django_mcp.testing.state_contract import manifest_of, sha256
from tests.services import PrivateAWS
from tests.services.proxy import Answer, FaultyProxy, Lost, Times
from tests.sessions.aws_stores import Options, aws, make, options
from tests.sessions.state_checks import MANY, assignments, increments, one_order
from tests.sessions.test_dynamodb_state import CALLER, begin, change, commit, items_of

__all__ = ["aws", "options"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]

LARGE: Final = b"\0" * 100_000
CONFLICT: Final = Answer(
    400,
    {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled, please refer cancellation reasons for specific reasons",
        "CancellationReasons": [{"Code": "TransactionConflict"}, {"Code": "None"}],
    },
)
THROTTLED: Final = Answer(400, {"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"})
BROKEN: Final = Answer(500, {"__type": "com.amazonaws.dynamodb.v20120810#InternalServerError"})
REFUSED: Final = Answer(400, {"__type": "com.amazon.coral.service#UnrecognizedClientException"})


@pytest.fixture
def proxy(aws: PrivateAWS) -> Iterator[FaultyProxy]:
    with FaultyProxy(aws.port) as running:
        yield running


@pytest.fixture
def store(options: Options, proxy: FaultyProxy) -> DynamoDBStateStore:
    """Return a store that asks through the proxy."""
    return make({**options, "ENDPOINT_URL": proxy.url})


# Lost answers and outages


STEPS: Final[dict[str, Callable[[DynamoDBStateStore, ConversationRecord], Head]]] = {
    "commit": lambda store, record: commit(store, record, 1, b"small", LARGE, a=2),
    "rewind": lambda store, record: store.rewind(record, 1),
    "revoke_tokens": lambda store, record: store.revoke_tokens(record),
}


@pytest.mark.parametrize("is_done", [True, False], ids=["after it was done", "before it was done"])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_whose_answer_was_lost_is_done_once(
    store: DynamoDBStateStore, proxy: FaultyProxy, step: str, *, is_done: bool
) -> None:
    record = begin(store)
    commit(store, record, 0, a=1)
    proxy.fault = Times("TransactWriteItems", Lost(is_done=is_done))
    proxy.targets.clear()
    made = STEPS[step](store, record)
    assert proxy.targets.count("TransactWriteItems") == 2
    assert made.generation == 2
    found = store.find(record.id, **CALLER)
    assert (found.generation, found.manifest) == (2, made.manifest)
    assert [line.number for line in store.history(record)] == [2, 1]
    commit(store, record, 2, a=3)


def test_a_fork_whose_answer_was_lost_is_made_once(store: DynamoDBStateStore, proxy: FaultyProxy) -> None:
    record = begin(store)
    commit(store, record, 0, LARGE, a=1)
    proxy.fault = Times("TransactWriteItems", Lost())
    fork = store.fork(record)
    found = store.find(fork.conversation.id, **CALLER)
    assert (found.generation, found.manifest) == (1, manifest_of(LARGE, a=1))
    assert len(items_of(store, record, "c:")) == 4


@pytest.mark.parametrize("outcome", [Lost(is_done=False), BROKEN, THROTTLED, REFUSED], ids=str)
def test_an_outage_is_never_an_answer(
    store: DynamoDBStateStore, proxy: FaultyProxy, outcome: Answer | Lost, options: Options
) -> None:
    record = begin(store)
    commit(store, record, 0, b"small", a=1)
    proxy.fault = lambda target, body: outcome
    uses: list[Callable[[], object]] = [
        lambda: store.find(record.id, **CALLER),
        lambda: commit(store, record, 1, a=2),
        lambda: store.blob(record, sha256(b"small")),
        lambda: begin(store),
    ]
    for use in uses:
        with pytest.raises(StoreUnavailable, match="DynamoDB") as caught:
            use()
        assert caught.value.__cause__ is not None
    assert Conversation.objects.active().count() == 1
    proxy.fault = lambda target, body: None
    assert store.find(record.id, **CALLER).manifest == manifest_of(b"small", a=1)
    assert commit(store, record, 1, a=2).generation == 2


def test_nobody_there_is_an_outage(options: Options, proxy: FaultyProxy) -> None:
    record = begin(make(options))
    store = make({**options, "ENDPOINT_URL": "http://127.0.0.1:9"})
    with pytest.raises(StoreUnavailable, match="DynamoDB does not answer"):
        store.find(record.id, **CALLER)


def test_a_conflict_of_transactions_passes(store: DynamoDBStateStore, proxy: FaultyProxy) -> None:
    record = begin(store)
    commit(store, record, 0, a=1)
    proxy.fault = Times("TransactWriteItems", CONFLICT, left=2)
    proxy.targets.clear()
    assert commit(store, record, 1, a=2).generation == 2
    assert proxy.targets.count("TransactWriteItems") == 3


def test_of_conflicts_without_end_is_read_what_they_made(
    store: DynamoDBStateStore, proxy: FaultyProxy, options: Options
) -> None:
    record = begin(store)
    commit(store, record, 0, a=1)
    commit(make(options), record, 1, a=2)
    proxy.fault = Times("TransactWriteItems", CONFLICT, left=MANY)
    with pytest.raises(HeadMoved, match="at generation 2 by now"):
        commit(store, record, 1, a=3)


def test_a_commit_that_comes_second_leaves_no_part_of_what_it_wrote(
    store: DynamoDBStateStore, proxy: FaultyProxy, options: Options
) -> None:
    record = begin(store)
    commit(store, record, 0, a=1)
    other = make(options)

    def overtake(target: str, body: bytes) -> None:
        if target.endswith(".TransactWriteItems"):
            proxy.fault = lambda target, body: None
            commit(other, record, 1, a=2)

    proxy.fault = overtake
    with pytest.raises(HeadMoved, match="at generation 2 by now"):
        commit(store, record, 1, b"small", LARGE, text="x" * 1_000_000)
    assert set(items_of(store, record)) == {f"c:{record.id}:{name}" for name in ("r", f"g{1:020d}", f"g{2:020d}")}


# What comes between, and what holds it off


Between = Callable[[], object]


def between(store: DynamoDBStateStore, act: Between) -> None:
    """Do something right before the next transaction of this store."""
    table, transact = store.table, store.table.transact

    def interrupted(writes: Sequence[Write]) -> bool:
        table.transact = transact  # type: ignore[method-assign]
        act()
        return transact(writes)

    table.transact = interrupted  # type: ignore[method-assign]


def hurry(options: Options) -> list[str]:
    """A commit comes right before another one from the same generation."""
    store, other = make(options), make(options)
    record = begin(store)
    commit(store, record, 0, a=1)
    between(store, lambda: commit(other, record, 1, a=2))
    try:
        commit(store, record, 1, a=3)
    except HeadMoved as moved:
        found = store.find(record.id, **CALLER)
        return [] if moved.head.manifest == found.manifest == manifest_of(a=2) else ["the head is another one"]
    return ["the other one's commit was overwritten"]


def end_meanwhile(options: Options) -> list[str]:
    """It ends right before a commit."""
    store, other = make(options), make(options)
    record = begin(store)
    commit(store, record, 0, a=1)
    between(store, lambda: other.revoke(record))
    try:
        commit(store, record, 1, a=2)
    except ConversationNotFound:
        return []
    return ["what had ended was changed"]


def stale(options: Options) -> list[str]:
    """A head that nobody touched for long moves only after the index was told."""
    store = make(options)
    record = begin(store)
    commit(store, record, 0, a=1)
    change(store, record, f"c:{record.id}:r", touched=0)
    long_ago = timezone.now() - timedelta(days=1)
    Conversation.objects.update(last_used_at=long_ago)
    commit(store, record, 1, a=2)
    return [] if Conversation.objects.get().last_used_at > long_ago else ["the index was not told"]


def dawdle(options: Options) -> list[str]:
    """A commit sleeps for long before its transaction, and whoever collects does not see it."""
    store, other = make(options), make(options)
    record = begin(store)
    commit(store, record, 0, b"small", LARGE)
    commit(store, record, 1, a=1)
    age(store, record)
    now, _ = other.remote.kept_blobs(record.family)
    long_ago = now - timedelta(seconds=2 * GRACE_SECONDS)
    transact = store.table.transact

    def sleep(writes: Sequence[Write]) -> bool:
        """Send what was made up long ago."""
        store.table.transact = transact  # type: ignore[method-assign]
        other.remote.snapshots(record.family)
        return transact([_at(write, int(long_ago.timestamp() * 1_000_000)) for write in writes])

    store.table.transact = sleep  # type: ignore[method-assign]
    commit(store, record, 2, b"small", LARGE)
    names = [sha256(b"small"), sha256(LARGE)]
    other.remote.drop_blobs(record.family, names, before=now - timedelta(seconds=GRACE_SECONDS))
    return unreadable(store, record)


def _at(write: Write, at: int) -> Write:
    return replace(write, values={name: at if name == ":at" else value for name, value in write.values.items()})


def revive(options: Options) -> list[str]:
    """A blob that was listed as old is needed again before it is dropped."""
    store, other = make(options), make(options)
    record = begin(store)
    commit(store, record, 0, b"small", LARGE)
    commit(store, record, 1, a=1)
    age(store, record)
    now, _ = other.remote.kept_blobs(record.family)
    other.remote.snapshots(record.family)
    commit(store, record, 2, b"small", LARGE)
    names = [sha256(b"small"), sha256(LARGE)]
    other.remote.drop_blobs(record.family, names, before=now - timedelta(seconds=GRACE_SECONDS))
    return unreadable(store, record)


def drop_meanwhile(options: Options) -> list[str]:
    """A blob that is there goes between the look of a commit that needs it, and its transaction."""
    store, other = make(options), make(options)
    record = begin(store)
    commit(store, record, 0, b"small", LARGE)
    commit(store, record, 1, a=1)
    age(store, record)
    names = [sha256(b"small"), sha256(LARGE)]
    cutoff = timezone.now() - timedelta(seconds=GRACE_SECONDS)
    between(store, lambda: other.remote.drop_blobs(record.family, names, before=cutoff))
    commit(store, record, 2, b"small", LARGE)
    return unreadable(store, record)


def unreadable(store: DynamoDBStateStore, record: ConversationRecord) -> list[str]:
    try:
        store.blobs(record, [sha256(b"small"), sha256(LARGE)])
    except CorruptBlob as error:
        return [f"a blob that is needed is gone: {error}"]
    return []


def age(store: DynamoDBStateStore, record: ConversationRecord) -> None:
    old = int((timezone.now() - timedelta(hours=1)).timestamp() * 1_000_000)
    for name in items_of(store, record, "b:"):
        change(store, record, name, touched=old)


def counted(options: Options) -> list[str]:
    return increments(make(options), callers=8, total=24)


def assigned(options: Options) -> list[str]:
    return assignments(make(options), callers=4, each=2, in_step=True)


Check = Callable[[Options], list[str]]

CHECKS: Final[dict[str, Check]] = {
    check.__name__: check for check in (hurry, end_meanwhile, stale, dawdle, revive, drop_meanwhile, counted, assigned)
}


def _without(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Leave out a condition of generations."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        whole = getattr(dynamodb_generations, name)
        patch.setattr(dynamodb_generations, name, f"({whole} OR attribute_not_exists(#nothing))")

    return apply


def _unconditional(pattern: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Leave out the conditions of writes to items of such names."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        request = Write.request

        def bare(write: Write, table: str) -> dict[str, Any]:
            asked = request(write, table)
            if re.search(pattern, write.key[1]) and write.condition:
                used = f"({write.condition}) OR attribute_not_exists(nothing)"
                asked["ConditionExpression"] = used
            return asked

        patch.setattr(Write, "request", bare)

    return apply


def _both(*applied: Callable[[pytest.MonkeyPatch], None]) -> Callable[[pytest.MonkeyPatch], None]:
    def apply(patch: pytest.MonkeyPatch) -> None:
        for mutation in applied:
            mutation(patch)

    return apply


IS_HEAD: Final = _both(_without("IS_HEAD"), _unconditional(r":g\d+$"))
MUTATIONS: Final[dict[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "no condition on the head": IS_HEAD,
    "no condition on the end": _without("OPEN"),
    "no condition on the touch": _without("TOUCHED"),
    "no floor": _unconditional("^s$"),
    "no condition on blobs": _unconditional("^b:"),
}
CATCHES: Final = [
    ("no condition on the head", "hurry"),
    ("no condition on the head", "counted"),
    ("no condition on the head", "assigned"),
    ("no condition on the end", "end_meanwhile"),
    ("no condition on the touch", "stale"),
    ("no floor", "dawdle"),
    ("no condition on blobs", "revive"),
    ("no condition on blobs", "drop_meanwhile"),
]


@pytest.fixture
def keep_all(settings: Settings) -> None:
    settings.DJANGO_MCP = {"STATE_HISTORY": MANY}


@pytest.mark.usefixtures("keep_all")
@pytest.mark.parametrize("check", CHECKS)
def test_the_store_as_it_is_holds(check: str, options: Options) -> None:
    assert CHECKS[check](options) == []


@pytest.mark.usefixtures("keep_all")
@pytest.mark.parametrize(("mutation", "check"), CATCHES)
def test_without_a_condition_it_does_not(
    mutation: str, check: str, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTATIONS[mutation](monkeypatch)
    try:
        found = CHECKS[check](options)
    except (AssertionError, CorruptBlob, KeyError) as error:
        found = [repr(error)]
    assert found


# Many at once


@pytest.mark.usefixtures("keep_all")
def test_increments_of_64_callers_are_all_there(options: Options) -> None:
    assert increments(make(options), callers=64, total=64) == []


@pytest.mark.usefixtures("keep_all")
def test_one_order_explains_what_was_done_at_once(options: Options) -> None:
    store = make(options)
    assert [wrong for seed in range(3) for wrong in one_order(store, seed=seed, callers=4, each=4)] == []
