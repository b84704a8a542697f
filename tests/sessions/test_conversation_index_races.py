"""The index of conversations among many processes: what it decides it decides once, and each test bites.

Every race is a function that returns what went wrong. It is run on the index as it is, where nothing may, and on one
that reads a row, decides in Python and then writes, where something must.
"""

import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

import pytest
from django.db import IntegrityError
from django.utils import timezone
from pytest_django import Settings

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import Overloaded
from django_mcp.models import Conversation
from django_mcp.models.conversation import ConversationState
from django_mcp.sessions.stores.cache_state import CacheStateStore
from django_mcp.sessions.stores.conversation_index import ConversationIndex
from django_mcp.sessions.stores.state import Head
from tests import services
from tests.databases import together
from tests.redis_stores import cache_on, make_state
from tests.sessions.test_log_races import Meeting
from tests.sessions.test_redis_state import ALICE
from tests.sessions.torn_steps import Turn

pytestmark = pytest.mark.services

Make = Callable[[], CacheStateStore]
Race = Callable[[Make, Turn], list[object]]

THREADS: Final = 12
CAP: Final = 4
ROUNDS: Final = 3


class TornIndex(ConversationIndex):
    """Reads, decides, waits, and then writes what it decided."""

    def __init__(self, index: ConversationIndex, wait: Callable[[], object]) -> None:
        super().__init__(index.alias, index.using, limit=1_000)
        self._wait = wait

    def insert(self, made: Conversation, *, origin: str | None = None) -> list[Conversation]:
        rows = self.rows().active()
        is_taken = made.name_digest is not None and rows.filter(name_digest=made.name_digest).exists()
        count = rows.filter(owner_digest=made.owner_digest, kind="conversation").count()
        self._wait()
        if is_taken:
            raise IntegrityError
        if count >= mcp_settings.MAX_CONVERSATIONS_PER_PRINCIPAL:
            raise Overloaded(1, "principal")
        made.name_digest = None
        made.save(using=self.using, force_insert=True)
        return []

    def _use(self, conversation: str, at: Any, generation: int = 0) -> bool:
        row = self.rows().get(pk=conversation)
        if row.state != ConversationState.ACTIVE:
            return False
        self._wait()
        row.last_used_at, row.generation = max(row.last_used_at, at), max(row.generation, generation)
        row.save()
        return True

    def end(self, conversation: str, state: ConversationState) -> bool:
        row = self.rows().get(pk=conversation)
        return self._ended(row, row.state == ConversationState.ACTIVE)

    def lose(self, conversation: str) -> bool:
        return self.end(conversation, ConversationState.EXPIRED)

    def end_due(self, conversation: str) -> bool:
        row = self.rows().get(pk=conversation)
        return self._ended(row, row.is_due(timezone.now()))

    def _ended(self, row: Conversation, is_decided: bool) -> bool:
        self._wait()
        if is_decided:
            self.rows().filter(pk=row.pk).update(state=ConversationState.EXPIRED, ended_at=timezone.now())
        return is_decided


# The races


def user_state(make: Make, _: Turn) -> list[object]:
    return begun_as_one(make, kind="user")


def name(make: Make, _: Turn) -> list[object]:
    return begun_as_one(make, name="session")


def somebody() -> dict[str, Any]:
    """Return a caller whom no other race knows."""
    return {"server": secrets.token_hex(6), "tenant": "", "principal": ALICE}


def begun_as_one(make: Make, **terms: Any) -> list[object]:
    caller = somebody()
    outcomes = together(THREADS, lambda _: make().begin(**caller, **terms).conversation.id)
    known = set(make().index.rows().active().filter(server=caller["server"]).values_list("pk", flat=True))
    return [] if len(known) == 1 and set(outcomes) == known else list(outcomes)


def cap(make: Make, _: Turn) -> list[object]:
    store = make()
    caller = somebody()
    origin = store.begin(**caller).conversation
    outcomes = together(THREADS, lambda number: store.fork(origin) if number % 2 else store.begin(**caller))
    kept = sum(isinstance(outcome, Head) for outcome in outcomes)
    refused = sum(isinstance(outcome, Overloaded) for outcome in outcomes)
    active = store.index.rows().active().filter(server=caller["server"]).count()
    return [] if (kept, refused, active) == (CAP - 1, THREADS - CAP + 1, CAP) else [*outcomes, active]


def revoked_once(make: Make, _: Turn) -> list[object]:
    record = make().begin(**somebody()).conversation
    return once(together(THREADS, lambda _: make().revoke(record)))


def lost_once(make: Make, _: Turn) -> list[object]:
    record = make().begin(**somebody()).conversation
    return once(together(THREADS, lambda _: make().index.lose(record.id)))


def once(outcomes: list[Any]) -> list[object]:
    return [] if sorted(map(str, outcomes)) == ["False"] * (THREADS - 1) + ["True"] else outcomes


def latest_use(make: Make, turn: Turn) -> list[object]:
    store = make()
    record = store.begin(**somebody()).conversation
    later = [record.created_at + timedelta(hours=hours) for hours in (1, 2)]
    outcomes = turn.take(
        lambda: store.index.use(record.id, later[0], generation=1, has_garbage=True),
        lambda: store.index.use(record.id, later[1], generation=2, has_garbage=False),
    )
    row = store.index.rows().get(pk=record.id)
    is_right = (row.generation, row.last_used_at) == (2, later[1]) and row.garbage_at is not None
    return [] if outcomes == [True, True] and is_right else [*outcomes, row.generation, row.last_used_at]


def use_of_what_ends(make: Make, turn: Turn) -> list[object]:
    store, other = make(), make()
    record = store.begin(**somebody()).conversation
    outcomes = turn.take(
        lambda: store.index.use(record.id, timezone.now(), generation=1, has_garbage=False),
        lambda: ConversationIndex.end(other.index, record.id, ConversationState.REVOKED),
    )
    state = store.index.rows().get(pk=record.id).state
    return [] if outcomes[1] is True and state == ConversationState.REVOKED else [*outcomes, state]


def end_of_what_is_used(make: Make, turn: Turn) -> list[object]:
    """Either it ended by the clock, or it was used before: never both."""
    store, other = make(), make()
    record = store.begin(**somebody()).conversation
    store.index.rows().filter(pk=record.id).update(last_used_at=record.created_at - timedelta(days=8))
    outcomes = turn.take(
        lambda: store.index.end_due(record.id),
        lambda: other.index.use(record.id, timezone.now(), generation=1, has_garbage=False),
    )
    is_active = store.index.rows().get(pk=record.id).state == ConversationState.ACTIVE
    return [] if outcomes in ([True, False], [False, True]) and outcomes[1] is is_active else [*outcomes, is_active]


MANY: Final[list[Race]] = [user_state, name, cap, revoked_once, lost_once]
TWO: Final[list[Race]] = [latest_use, use_of_what_ends, end_of_what_is_used]


@pytest.fixture
def make(concurrent_database: str, settings: Settings) -> Iterator[Make]:
    """Yield what makes a store of another process each time."""
    settings.DJANGO_MCP = {"MAX_CONVERSATIONS_PER_PRINCIPAL": CAP}
    with services.redis() as service, cache_on(service) as cache:
        yield lambda: make_state(cache, concurrent_database)


@pytest.mark.parametrize("race", [*MANY, *TWO], ids=lambda race: race.__name__)
def test_a_race_is_settled(race: Race, make: Make) -> None:
    for _ in range(ROUNDS):
        assert race(make, Turn(is_open=True)) == []


@pytest.mark.parametrize("race", [*MANY, *TWO], ids=lambda race: race.__name__)
def test_a_read_and_then_a_write_is_caught(race: Race, make: Make) -> None:
    turn = Turn(is_open=race in MANY)
    wait = Meeting(THREADS).wait if race in MANY else turn.wait

    def make_torn() -> CacheStateStore:
        store = make()
        store.index = TornIndex(store.index, wait)
        return store

    assert race(make_torn, turn) != []


def test_a_use_never_goes_back_whoever_comes_last(make: Make) -> None:
    store = make()
    record = store.begin(**somebody()).conversation
    rows = store.index.rows()
    began = rows.get().last_used_at

    def use(number: int) -> bool:
        at = began.replace(microsecond=0, year=began.year + 1 + number)
        return store.index.use(record.id, at, generation=number, has_garbage=bool(number % 2))

    assert together(8, use) == [True] * 8
    row = rows.get()
    assert (row.generation, row.last_used_at.year, row.garbage_at is None) == (7, began.year + 8, False)
