"""Many callers at once on Redis: nothing is lost, and each test catches a store whose step is torn into commands.

A process lets its calls commit to one conversation one after the other. Here every thread stands for a process.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, Final

import pytest
from pytest_django import Settings

from django_mcp.exceptions import ConversationNotFound, CorruptBlob, HeadMoved
from django_mcp.models import Conversation
from django_mcp.sessions import commit as commits
from django_mcp.sessions.stores.cache_state import CacheStateStore
from django_mcp.sessions.stores.redis_link import RedisLink
from django_mcp.sessions.stores.redis_state import RedisState
from django_mcp.sessions.stores.remote_state import Change, Place, Refused, Terms
from django_mcp.sessions.stores.state import Collected, ConversationRecord, Head
from django_mcp.testing.state_contract import manifest_of, references, sha256
from tests import services
from tests.databases import together
from tests.redis_stores import cache_on, make_state
from tests.sessions import state_checks
from tests.sessions.calls import ALICE, Crash, values_of
from tests.sessions.state_checks import MANY, assignments, increments, one_order, read
from tests.sessions.test_redis_state import CALLER, age_blobs, begin, commit, look_now, move_back
from tests.sessions.test_state_concurrency import Races

pytestmark = pytest.mark.services

BOUND_SECONDS: Final = 20


@pytest.fixture(autouse=True)
def each_thread_is_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "_lane", lambda *_: nullcontext())


@pytest.fixture
def cache() -> Iterator[str]:
    with services.redis() as service, cache_on(service) as alias:
        yield alias


@pytest.fixture
def store(cache: str) -> CacheStateStore:
    return make_state(cache)


@pytest.mark.django_db(transaction=True)
class TestOnRedis(Races):
    @pytest.fixture
    def store(self, cache: str) -> CacheStateStore:
        return make_state(cache)


# The steps, torn


class TornCommit(RedisState):
    """Looks whether the head is the expected one, and then moves it, whichever it is by then."""

    def __init__(self, link: RedisLink) -> None:
        super().__init__(link)
        self._pair = threading.Barrier(2)

    def _meet(self) -> None:
        """Wait a moment for somebody else who is as far."""
        try:
            self._pair.wait(0.02)
        except threading.BrokenBarrierError:
            self._pair.reset()

    def commit(self, place: Place, base_generation: int, change: Change, terms: Terms) -> Refused | None:
        found = self.load(place)
        if found is None or found.generation != base_generation:
            return Refused(why="moved" if found else "missing", head=found)
        self._meet()
        while True:
            refused = super().commit(place, base_generation, change, terms)
            if refused is None or refused.why != "moved" or refused.head is None:
                return refused
            base_generation = refused.head.generation


ATTEMPTS: Final = 5
CHECKS: Final[dict[str, tuple[Callable[[CacheStateStore], list[str]], str]]] = {
    "increments": (lambda store: increments(store, callers=8, total=160), r"generation \d+ counts "),
    "assignments": (
        lambda store: assignments(store, callers=8, each=6, in_step=True),
        "overwritten unseen: |lost: |was acknowledged",
    ),
    "one order": (
        lambda store: [wrong for seed in range(4) for wrong in one_order(store, seed=seed)],
        "no order explains ",
    ),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("check", CHECKS)
def test_a_commit_that_is_torn_is_caught(store: CacheStateStore, check: str, settings: Settings) -> None:
    settings.DJANGO_MCP = {"STATE_HISTORY": MANY}
    ask, words = CHECKS[check]
    assert ask(store) == []
    store.remote = TornCommit(store.link)
    # Callers that happen not to meet see nothing wrong.
    assert any(re.search(words, violation) for _ in range(ATTEMPTS) for violation in ask(store))


# Commits


@pytest.mark.django_db(transaction=True)
def test_of_twelve_commits_at_once_one_wins_each_round(store: CacheStateStore) -> None:
    assert rounds_with_other_winners(store) == []


@pytest.mark.django_db(transaction=True)
def test_a_torn_commit_has_more_winners_than_one(store: CacheStateStore) -> None:
    store.remote = TornCommit(store.link)
    assert rounds_with_other_winners(store) != []


def rounds_with_other_winners(store: CacheStateStore) -> list[object]:
    """Let twelve commit at once, twelve times; return the outcomes of what did not have one winner."""
    record = begin(store)
    wrong: list[object] = []
    for _ in range(12):
        base = store.find(record.id, **CALLER).generation
        outcomes = together(12, lambda number: commit(store, record, base, b"%d" % number, n=number))  # noqa: B023
        winners = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Head)]
        losers = [outcome for outcome in outcomes if isinstance(outcome, HeadMoved)]
        head = store.find(record.id, **CALLER)
        is_right = (
            len(winners) == 1
            and len(losers) == 11
            and head.manifest == manifest_of(b"%d" % winners[0], n=winners[0])
            and {loser.head.snapshot for loser in losers} == {head.snapshot}
        )
        if not is_right:
            wrong.append(outcomes)
    return wrong


@pytest.mark.django_db(transaction=True)
def test_commits_rewinds_and_revocations_make_one_chain(store: CacheStateStore) -> None:
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

    numbers: list[int] = []
    for outcome in together(8, work):
        assert isinstance(outcome, list), outcome
        numbers += outcome
    assert sorted(numbers) == list(range(2, len(numbers) + 2))
    assert [line.number for line in store.history(record)] == list(range(len(numbers) + 1, 0, -1))[:50]
    assert store.inspect(record.id).conversation.revoked_tokens == set(map(str, range(8)))


@pytest.mark.django_db(transaction=True)
def test_a_commit_is_whole_or_not_there_wherever_the_process_dies(
    store: CacheStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = state_checks.begin(store)
    before = {"a": "large" * 100}
    call = read(store, record)
    call.state.update(before)
    call.commit()
    deaths = 0
    while True:
        call = read(store, record)
        call.state["a"] = "another" * 100
        move_back(store, record, seconds=61)
        with monkeypatch.context() as patch:
            die_at(patch, deaths)
            try:
                call.commit()
                break
            except Crash:
                deaths += 1
        head = store.find(record.id, **ALICE.owner)
        assert (head.generation, values_of(store, head)) == (1, before)
    assert deaths == 5, "refused, the index (its use, its transaction), the touch, the commit"
    assert values_of(store, store.find(record.id, **ALICE.owner)) == {"a": "another" * 100}


def die_at(patch: pytest.MonkeyPatch, number: int) -> None:
    """Die in place of what is sent to Redis or written to the index at that number, counted from 0."""
    left = number

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def do(*args: Any, **terms: Any) -> Any:
            nonlocal left
            if not left:
                raise Crash
            left -= 1
            return real(*args, **terms)

        return do

    patch.setattr(RedisLink, "run", dying(RedisLink.run))
    patch.setattr("django_mcp.sessions.stores.conversation_index.transact", dying(lambda work, using: work()))
    patch.setattr("django_mcp.models.transactions.transact", dying(lambda work, using: work()))


# Ends


class LateCommit(RedisState):
    """Looks whether the conversation has ended, and commits when `go` says so, ended or not."""

    def __init__(self, link: RedisLink, at_commit: threading.Event, go: threading.Event) -> None:
        super().__init__(link)
        self.at_commit, self.go = at_commit, go

    def commit(self, place: Place, base_generation: int, change: Change, terms: Terms) -> Refused | None:
        found = self.load(place)
        if found is None or found.is_ended:
            return Refused(why="ended", head=found)
        self.at_commit.set()
        assert self.go.wait(BOUND_SECONDS)
        key = self.link.key(f"f:{place.family}", f"c:{place.id}")
        self.link.client.hdel(key, "ended")
        return super().commit(place, base_generation, change, terms)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_torn", [False, True])
def test_nothing_is_kept_after_a_revocation_that_was_acknowledged(store: CacheStateStore, is_torn: bool) -> None:
    record = begin(store)
    commit(store, record, 0, n=0)
    at_commit, go = threading.Event(), threading.Event()
    if is_torn:
        store.remote = LateCommit(store.link, at_commit, go)
    else:
        at_commit.set()
    seen: list[int] = []

    def work(number: int) -> bool:
        if number == 0:
            assert at_commit.wait(BOUND_SECONDS)
            assert store.revoke(record)
            seen.append(store.inspect(record.id).generation)
            go.set()
            return False
        base = 1
        while True:
            try:
                base = commit(store, record, base, n=number).generation
            except HeadMoved as moved:
                base = moved.head.generation
            except ConversationNotFound:
                return False
            if is_torn and go.is_set():
                return True

    outcomes = together(6, work)
    assert all(isinstance(outcome, bool) for outcome in outcomes), outcomes
    assert (store.inspect(record.id).generation > seen[0]) is is_torn


# Collection


class TornDrop(RedisState):
    """Looks which blobs are old, and deletes them when a commit may have taken one up again."""

    def __init__(self, link: RedisLink, between: Callable[[], object]) -> None:
        super().__init__(link)
        self._between = between

    def drop_blobs(self, family: str, digests: Any, *, before: Any) -> set[str]:
        self._between()
        for digest in digests:
            self.link.client.zadd(self.link.key(f"f:{family}", "blobs"), {digest: 0})
        return super().drop_blobs(family, digests, before=before)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_torn", [False, True])
def test_a_blob_that_a_commit_takes_up_while_it_is_collected_stays(
    store: CacheStateStore, settings: Settings, is_torn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DJANGO_MCP = {"STATE_HISTORY": 1}
    record = begin(store)
    commit(store, record, 0, b"a large value", b"garbage")
    commit(store, record, 1, a=1)
    age_blobs(store, record)
    look_now()

    def take_up() -> None:
        commit(store, record, 2, b"a large value")

    if is_torn:
        store.remote = TornDrop(store.link, take_up)
    else:
        drop = store.remote.drop_blobs

        def drop_late(*args: Any, **terms: Any) -> set[str]:
            take_up()
            return drop(*args, **terms)

        monkeypatch.setattr(store.remote, "drop_blobs", drop_late)
    store.collect(references)
    with pytest.raises(CorruptBlob):
        store.blob(record, sha256(b"garbage"))
    if is_torn:
        with pytest.raises(CorruptBlob):
            store.blob(record, sha256(b"a large value"))
    else:
        assert store.blob(record, sha256(b"a large value")) == b"a large value"


@pytest.mark.django_db(transaction=True)
def test_no_live_generation_lacks_a_blob_whatever_is_collected_meanwhile(
    store: CacheStateStore, settings: Settings
) -> None:
    """Writers give up values and take them up again while each value is garbage the moment nothing needs it."""
    settings.DJANGO_MCP = {"STATE_HISTORY": 6}
    roots = [begin(store) for _ in range(2)]
    bodies = [b"value %d" % number for number in range(60)]
    writing, over, writers = threading.Semaphore(0), threading.Event(), 4

    def write(number: int) -> int:
        record, made = roots[number % 2], 0
        for step in range(60):
            head = store.find(record.id, **CALLER)
            chosen = [bodies[(number + step) % 60], bodies[(number * step) % 60]]
            try:
                made = commit(store, record, head.generation, *chosen, n=number, step=step).generation
                if step > 4 and step % 4 == 0:
                    store.rewind(record, made - 4)
            except (HeadMoved, LookupError):
                continue
            if step % 7 == 0:
                fork = store.fork(record)
                commit(store, fork.conversation, fork.generation, *chosen[:1], n=number)
                store.revoke(fork.conversation)
        return made

    def collect(_: int) -> int:
        collected = 0
        while not over.is_set():
            # What a commit touches from here on is young; all else is old enough to go. Hence one collector alone.
            for root in roots:
                age_at_once(store, root)
            look_now()
            collected += store.collect(references).blobs
        return collected

    def look(number: int) -> int:
        checked = 0
        while not over.is_set():
            head = store.find(roots[number % 2].id, **CALLER)
            needed = json.loads(head.manifest)["blobs"] if head.manifest else []
            try:
                checked += len(store.blobs(head.conversation, needed))
            except CorruptBlob:
                if store.find(head.conversation.id, **CALLER).generation <= head.generation + 1:
                    raise
        return checked

    def work(number: int) -> int:
        if number >= writers:
            return (collect, look, look)[number - writers](number)
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
    for root in roots:
        for line in store.history(root):
            store.blobs(root, json.loads(store.snapshot(root, line.number).manifest or '{"blobs": []}')["blobs"])


def age_at_once(store: CacheStateStore, record: ConversationRecord) -> None:
    """Make every blob old by one command, which comes before a commit or after it."""
    name = store.link.key(f"f:{record.family}", "blobs")
    script = "for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('ZADD', KEYS[1], 0, name) end"
    store.link.client.eval(script, 1, name)


def test_collectors_at_once_take_each_thing_once_and_nothing_that_is_needed(
    cache: str, concurrent_database: str
) -> None:
    store = make_state(cache, concurrent_database)
    kept: list[tuple[ConversationRecord, bytes]] = []
    for number in range(12):
        record = begin(store)
        needed, garbage = b"needed %d" % number, b"garbage %d" % number
        manifest = manifest_of(needed)
        blobs = {sha256(body): body for body in (needed, garbage)}
        store.commit(record, base_generation=0, manifest=manifest, snapshot=sha256(manifest), blobs=blobs)
        age_blobs(store, record)
        if number % 3 == 0:
            store.revoke(record)
        else:
            kept.append((record, needed))
    rows = Conversation.objects.using(concurrent_database)
    rows.update(garbage_at=rows.earliest("created_at").created_at)
    outcomes = together(6, lambda _: store.collect(references))
    collected = [outcome for outcome in outcomes if isinstance(outcome, Collected)]
    assert len(collected) == 6, outcomes
    assert sum(found.blobs for found in collected) == 12 + 4
    assert sum(found.snapshots for found in collected) == 4
    for record, needed in kept:
        assert store.blob(record, sha256(needed)) == needed
