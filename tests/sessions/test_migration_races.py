"""Conversations that move while others change them, on real servers; each rule has a test that fails without it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import datetime
from typing import Any, Final

import pytest
from django.db.models import Q

from django_mcp.core.manifest import references
from django_mcp.exceptions import ConversationNotFound
from django_mcp.models import Conversation
from django_mcp.models.conversation import ConversationQuerySet
from django_mcp.sessions import commit as commits
from django_mcp.sessions.migration.mover import Luggage, Mover
from django_mcp.sessions.stores import indexed_generations
from django_mcp.sessions.stores.cache_state import CacheStateStore
from django_mcp.sessions.stores.conversation_index import ConversationIndex
from django_mcp.sessions.stores.database_state import DatabaseStateStore
from django_mcp.sessions.stores.following import FollowingStateStore
from django_mcp.sessions.stores.image import Image
from django_mcp.sessions.stores.moves import Ticket
from django_mcp.sessions.stores.remote_state import Moving
from django_mcp.sessions.stores.state import ConversationRecord, StateStore
from tests import services
from tests.databases import together
from tests.redis_stores import cache_on, make_state
from tests.sessions.calls import ALICE, Call, make, values_of
from tests.sessions.state_checks import begin, generations, increment

pytestmark = pytest.mark.services

CALLERS: Final = 4
BOUND_SECONDS: Final = 60


@pytest.fixture(autouse=True)
def each_thread_is_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "_lane", lambda *_: nullcontext())


@pytest.fixture
def cache() -> Iterator[str]:
    with services.redis() as service, cache_on(service) as alias:
        yield alias


class Pair:
    """The two stores of one project, as one process after the other has them."""

    def __init__(self, cache: str, using: str) -> None:
        self.database: DatabaseStateStore = make(using)
        self.redis: CacheStateStore = make_state(cache, using)
        self.using = using

    def following(self, home: StateStore) -> StateStore:
        return FollowingStateStore(home, lambda kept: self.database if kept == "" else self.redis)

    def mover(self, source: StateStore) -> Mover:
        target = self.redis if source is self.database else self.database
        return Mover(source, target, references)


@pytest.fixture
def pair(cache: str, concurrent_database: str) -> Pair:
    return Pair(cache, concurrent_database)


def lost(pair: Pair, *, moves: int = 8, each: int = 12, home: str = "database") -> list[str]:
    """Count on in one conversation that is moved to and fro; return what is not as it was counted."""
    store = pair.following(getattr(pair, home))
    record = begin(store)
    over = threading.Event()
    stores = [pair.database, pair.redis] if home == "database" else [pair.redis, pair.database]

    def work(number: int) -> int:
        if number == 0:
            moved = 0
            while moved < moves or not over.is_set():
                source = stores[moved % 2]
                result = pair.mover(source).move(record.id, Luggage())
                moved += result == "moved"
                if result == "gone":
                    raise AssertionError(f"it is not in {source.alias!r}")
                if moved >= moves and over.wait(0):
                    break
            return moved
        made = 0
        for _ in range(each):
            call = Call(store, store.find(record.id, **ALICE.owner))
            call.state.update("count", increment, 0)
            call.commit()
            made += 1
            if number == 1 and made == each:
                over.set()
        return made

    outcomes = together(CALLERS + 1, work)
    found = [f"it failed: {outcome!r}" for outcome in outcomes if isinstance(outcome, BaseException)]
    keeper = pair.following(pair.database)
    states = generations(keeper, record)
    found += [f"generation {number} counts {state}" for number, state in states.items() if state != {"count": number}]
    total = CALLERS * each
    head = keeper.find(record.id, **ALICE.owner)
    if values_of(keeper, head) != {"count": total}:
        found.append(f"{total} increments made {values_of(keeper, head)} at generation {head.generation}")
    return found


@pytest.mark.parametrize("home", ["database", "redis"])
def test_no_increment_is_lost_in_a_conversation_that_moves_to_and_fro(pair: Pair, home: str) -> None:
    assert lost(pair, home=home) == []


@pytest.mark.parametrize("home", ["database", "redis"])
def test_what_comes_home_between_the_question_and_the_look_is_found(
    pair: Pair, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home, elsewhere = (pair.database, pair.redis) if home == "database" else (pair.redis, pair.database)
    record = begin(elsewhere)
    count(elsewhere, record)
    store = pair.following(at_home)
    moves: list[str] = []

    def look(self: FollowingStateStore, *args: Any, **kwargs: Any) -> StateStore | None:
        if not moves:
            moves.append(pair.mover(elsewhere).move(record.id, Luggage()))
        return kept_by(self, *args, **kwargs)

    kept_by = FollowingStateStore._kept_by
    monkeypatch.setattr(FollowingStateStore, "_kept_by", look)
    found = store.find(record.id, **ALICE.owner)
    assert moves == ["moved"]
    assert found.generation == 1
    count(store, record)
    assert total(pair, record) == 2


class Late:
    """A commit comes between the seal and the update of the row."""

    def __init__(self, source: StateStore, commit: Callable[[], object]) -> None:
        self._seal, self._commit = source.seal, commit

    def __call__(self, conversation: ConversationRecord, image: Image, ticket: Ticket) -> bool:
        if not self._seal(conversation, image, ticket):
            return False
        self._commit()
        return True


def counted(pair: Pair, source: StateStore) -> ConversationRecord:
    """Begin a conversation that counts 1 in one of the stores."""
    record = begin(source)
    count(source, record)
    return record


def count(store: StateStore, record: ConversationRecord) -> None:
    call = Call(store, store.find(record.id, **ALICE.owner))
    call.state.update("count", increment, 0)
    call.commit()


def total(pair: Pair, record: ConversationRecord) -> Any:
    store = pair.following(pair.database)
    return values_of(store, store.find(record.id, **ALICE.owner))["count"]


def moves_late(pair: Pair, source: StateStore, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let a call that found the conversation in `source` count when everything is copied; return the total then."""
    record = counted(pair, source)
    once = iter([lambda: count(source, record)])
    monkeypatch.setattr(source, "seal", Late(source, lambda: next(once, lambda: None)()))
    assert pair.mover(source).move(record.id, Luggage()) == "moved"
    return int(total(pair, record))


def without_conditions(
    self: ConversationQuerySet, row: Conversation, ticket: datetime, store: str, changes: Any
) -> bool:
    """Update the row whatever happened since the claim."""
    rows = Conversation.objects.using(self.db).filter(pk=row.pk)
    return rows.update(store=store, **changes) == 1


@pytest.mark.parametrize("is_torn", [False, True])
def test_a_commit_before_the_row_of_the_database_moves_is_taken_along(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, is_torn: bool
) -> None:
    if is_torn:
        monkeypatch.setattr(ConversationQuerySet, "move", without_conditions)
    assert (moves_late(pair, pair.database, monkeypatch) == 2) is not is_torn


@pytest.mark.parametrize("is_torn", [False, True])
def test_a_seal_that_is_broken_keeps_the_row_where_it_is(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, is_torn: bool
) -> None:
    """Whoever waits in vain changes the row first: the mover that comes late finds another one."""
    monkeypatch.setattr(indexed_generations, "SEAL_SECONDS", 0.0)
    if is_torn:
        monkeypatch.setattr(ConversationIndex, "claim", lambda self, row: row.last_used_at)
    assert (moves_late(pair, pair.redis, monkeypatch) == 2) is not is_torn


@pytest.mark.parametrize("is_torn", [False, True])
def test_a_commit_waits_for_a_conversation_that_is_sealed(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, is_torn: bool
) -> None:
    record = counted(pair, pair.redis)
    store = pair.following(pair.redis)
    sealed, go = threading.Event(), threading.Event()
    seal = pair.redis.seal

    def hold(conversation: ConversationRecord, image: Image, ticket: Ticket) -> bool:
        is_sealed = True if is_torn else seal(conversation, image, ticket)
        sealed.set()
        assert go.wait(BOUND_SECONDS)
        return is_sealed

    monkeypatch.setattr(pair.redis, "seal", hold)
    monkeypatch.setattr(indexed_generations, "SEAL_SECONDS", BOUND_SECONDS)
    load = pair.redis.remote.load

    def look(*args: Any) -> Any:
        # Whoever commits has been refused, and looks whether it may by now.
        if threading.current_thread() is committer[0]:
            looks.append(1)
            if len(looks) > 2:
                go.set()
        return load(*args)

    looks: list[int] = []
    committer: list[threading.Thread] = [threading.current_thread()]
    monkeypatch.setattr(pair.redis.remote, "load", look)

    def work(number: int) -> Any:
        if number == 0:
            return pair.mover(pair.redis).move(record.id, Luggage())
        assert sealed.wait(BOUND_SECONDS)
        committer[0] = threading.current_thread()
        count(store, record)
        go.set()
        return None

    assert together(2, work) == ["moved", None]
    assert (total(pair, record) == 2) is not is_torn


def test_two_movers_at_once_move_each_conversation_once(pair: Pair) -> None:
    records = [counted(pair, pair.database) for _ in range(12)]
    for source in (pair.database, pair.redis):
        images = {record.id: source.image(record) for record in records}

        def work(number: int) -> list[str]:
            return [pair.mover(source).move(record.id, Luggage()) for record in records]  # noqa: B023

        outcomes = together(3, work)
        assert all(isinstance(outcome, list) for outcome in outcomes), outcomes
        moved = [result for outcome in outcomes if isinstance(outcome, list) for result in outcome]
        moved += [pair.mover(source).move(record.id, Luggage()) for record in records]
        assert moved.count("moved") == len(records)
        # Who loses the claim again and again leaves it to the other.
        assert set(moved) <= {"moved", "gone", "busy"}
        target = pair.redis if source is pair.database else pair.database
        for record in records:
            assert target.image(record).is_like(images[record.id])
            assert not pair.mover(source).members(record.family)


@pytest.mark.parametrize("end", ["revoke", "expire"])
@pytest.mark.parametrize("source", ["database", "redis"])
def test_what_ends_while_it_moves_has_ended(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, source: str, end: str
) -> None:
    store: StateStore = getattr(pair, source)
    record = counted(pair, store)
    everywhere = pair.following(store)
    monkeypatch.setattr(store, "seal", Late(store, lambda: getattr(everywhere, end)(record)))
    assert pair.mover(store).move(record.id, Luggage()) == "gone"
    for home in (pair.database, pair.redis):
        with pytest.raises(ConversationNotFound):
            pair.following(home).find(record.id, **ALICE.owner)


def test_tokens_that_are_revoked_while_it_moves_stay_revoked(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    for source in (pair.database, pair.redis):
        record = counted(pair, source)
        once = iter([lambda: source.revoke_tokens(record, fingerprint="abc")])  # noqa: B023
        monkeypatch.setattr(source, "manifests", _before(source.manifests, lambda: next(once, lambda: None)()))  # noqa: B023
        assert pair.mover(source).move(record.id, Luggage()) == "moved"
        found = pair.following(source).find(record.id, **ALICE.owner)
        assert found.conversation.revoked_tokens == {"abc"}
        assert found.generation == 2


def _before(real: Callable[..., Any], do: Callable[[], object]) -> Callable[..., Any]:
    def step(*args: Any) -> Any:
        do()
        return real(*args)

    return step


def test_a_copy_that_has_not_moved_is_shown_to_nobody(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mover dies when everything is copied; calls go on where the conversation is, and the next run takes it."""
    for source in (pair.database, pair.redis):
        record = counted(pair, source)
        mover = pair.mover(source)

        class Death(BaseException):
            pass

        def die(*args: Any) -> bool:
            raise Death

        with monkeypatch.context() as patch:
            patch.setattr(ConversationQuerySet, "move", die)
            with pytest.raises(Death):
                mover.move(record.id, Luggage())
        monkeypatch.setattr(indexed_generations, "SEAL_SECONDS", 0.05)
        for home in (pair.database, pair.redis):
            count(pair.following(home), record)
        assert total(pair, record) == 3
        assert mover.move(record.id, Luggage()) == "moved"
        assert total(pair, record) == 3
        row = Conversation.objects.using(pair.using).get(Q(pk=record.id))
        assert row.store == mover.target.keeper
        remote = pair.redis.remote.load(indexed_generations.place_of(row))
        assert remote is not None
        expected = None if mover.target is pair.redis else Moving(remote.moving.ticket, False)  # type: ignore[union-attr]
        assert remote.moving == expected
