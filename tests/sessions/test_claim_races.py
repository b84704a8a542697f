"""Races of claims on real databases, and proof that each of these tests bites, as in `test_log_races`.

A single use is claimed without a digest; an idempotency key with the digest of its request, of which there are two.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from django.db import IntegrityError

from django_mcp.core.principal import Principal, scope_digest
from django_mcp.models import Claim
from django_mcp.models.claim import ClaimState
from django_mcp.models.transactions import transact
from django_mcp.sessions.stores import Claimed, Done, Interrupted, LogStore, Mismatched, Running
from django_mcp.sessions.stores.database import DatabaseStore, _digest
from tests.databases import together
from tests.sessions.test_log_races import ROUNDS, THREADS, Meeting, make

SCOPE = scope_digest("", Principal(kind="user", id="1"))
BOUND_SECONDS = 30
DIGESTS = ("a" * 64, "b" * 64)

Race = Callable[[LogStore], list[object]]


Name = tuple[str, str, str]


def fresh() -> Name:
    """Return the name of a key that nobody has claimed."""
    return "s", SCOPE, secrets.token_hex(8)


def lose(store: LogStore, digest: str = "") -> Name:
    """Claim a key with a lease that is over."""
    name = fresh()
    store.claim(*name, lease_seconds=0, lifetime_seconds=60, digest=digest)
    return name


def run_once(store: LogStore, name: Name, digests: tuple[str, ...], *, takeover: bool = False) -> list[object]:
    """Let every thread do as a call does: claim, run and settle, or wait for whoever runs. Return what went wrong."""
    runs: list[tuple[int, str]] = []

    def work(number: int) -> object:
        digest = digests[number % len(digests)]
        give_up_at = time.monotonic() + BOUND_SECONDS
        while time.monotonic() < give_up_at:
            claim = store.claim(*name, lease_seconds=30, lifetime_seconds=60, takeover=takeover, digest=digest)
            if isinstance(claim, Claimed):
                runs.append((number, digest))
                assert store.settle(*name, claim.fence, number), "the outcome of a run was refused"
                return Done(outcome=number)
            if not isinstance(claim, Running):
                return claim
        return "never done"

    outcomes = together(THREADS, work)
    if len(runs) != 1:
        return [("runs", runs)]
    ((winner, won),) = runs
    expected = [
        Done(outcome=winner) if digests[number % len(digests)] == won else Mismatched() for number in range(THREADS)
    ]
    return [] if outcomes == expected else [outcomes]


# The races. Each returns what went wrong.


def single_use(store: LogStore) -> list[object]:
    return run_once(store, fresh(), ("",))


def idempotency_key(store: LogStore) -> list[object]:
    return run_once(store, fresh(), DIGESTS)


def released_key(store: LogStore) -> list[object]:
    """The key was given back, and is free for either request."""
    name = fresh()
    claimed = store.claim(*name, lease_seconds=30, lifetime_seconds=60, digest="c" * 64)
    assert isinstance(claimed, Claimed)
    assert store.release(*name, claimed.fence)
    return run_once(store, name, DIGESTS)


def lost_owner(store: LogStore) -> list[object]:
    """A repeatable call is taken over, by one of those that ask for the same."""
    name = lose(store, DIGESTS[0])
    wrong = run_once(store, name, DIGESTS, takeover=True)
    found = store.peek(*name, digest=DIGESTS[0])
    return wrong if isinstance(found, Done) else [*wrong, found]


def lost_effects(store: LogStore) -> list[object]:
    """A call that may not run again is not taken over by anybody."""
    name = lose(store, DIGESTS[0])
    outcomes = together(
        THREADS,
        lambda number: store.claim(*name, lease_seconds=30, lifetime_seconds=60, digest=DIGESTS[number % 2]),
    )
    return [] if outcomes == [Interrupted(), Mismatched()] * (THREADS // 2) else list(outcomes)


def one_outcome(store: LogStore) -> list[object]:
    name = fresh()
    claimed = store.claim(*name, lease_seconds=30, lifetime_seconds=60)
    assert isinstance(claimed, Claimed)
    won = together(THREADS, lambda number: store.settle(*name, claimed.fence, number))
    if won.count(True) != 1 or won.count(False) != THREADS - 1:
        return list(won)
    found = store.peek(*name)
    return [] if found == Done(outcome=won.index(True)) else [found]


# The store, broken in one place at a time: a read, then a write that does not ask again.


def claim_after_a_read(meeting: Meeting) -> Callable[..., int | None]:
    def first_claim(self: DatabaseStore, server: str, scope: str, key: str, terms: Mapping[str, Any]) -> int | None:
        rows = Claim.objects.using(self.write_alias).filter(server=server, scope=scope, key_digest=_digest(key))
        found = rows.exists()
        meeting.wait()
        if found:
            return None
        fence = 7

        def insert() -> None:
            rows.create(server=server, scope=scope, key_digest=_digest(key), fence=fence, **terms)

        try:
            transact(insert, using=self.write_alias)
        except IntegrityError:
            rows.update(fence=fence, **terms)
        return fence

    return first_claim


def next_claim_after_a_read(meeting: Meeting) -> Callable[..., int | None]:
    def next_claim(self: DatabaseStore, found: Claim, terms: Mapping[str, Any]) -> int | None:
        rows = Claim.objects.using(self.write_alias).filter(pk=found.pk)
        seen = rows.get()
        meeting.wait()
        if (seen.fence, seen.state) != (found.fence, found.state):
            return None
        rows.update(fence=found.fence + 1, outcome="", **terms)
        return found.fence + 1

    return next_claim


def outcome_after_a_read(meeting: Meeting) -> Callable[..., bool]:
    def settle(self: DatabaseStore, server: str, scope: str, key: str, fence: int, outcome: Any) -> bool:
        rows = Claim.objects.using(self.write_alias).filter(server=server, scope=scope, key_digest=_digest(key))
        is_mine = rows.filter(fence=fence, state=ClaimState.RUNNING).exists()
        meeting.wait()
        return is_mine and rows.update(state=ClaimState.DONE, outcome=str(outcome)) == 1

    return settle


RACES = [single_use, idempotency_key, released_key, lost_owner, lost_effects, one_outcome]
BROKEN = [
    (single_use, "_first_claim", claim_after_a_read),
    (idempotency_key, "_first_claim", claim_after_a_read),
    (released_key, "_next_claim", next_claim_after_a_read),
    (lost_owner, "_next_claim", next_claim_after_a_read),
    (one_outcome, "settle", outcome_after_a_read),
]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("race", RACES)
def test_a_race_is_settled_on_sqlite(race: Race) -> None:
    assert race(make("default")) == []


@pytest.mark.parametrize("race", RACES)
def test_a_race_is_settled_on_a_server(race: Race, concurrent_database: str) -> None:
    for _ in range(ROUNDS):
        assert race(make(concurrent_database)) == []


@pytest.mark.parametrize(
    ("race", "name", "broken"), BROKEN, ids=[f"{race.__name__}-{name}" for race, name, _ in BROKEN]
)
def test_a_read_and_then_a_write_is_caught(
    race: Race,
    name: str,
    broken: Callable[[Meeting], Any],
    concurrent_database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Half of the threads ask for another request than the one that was lost, and are turned away before they write.
    count = THREADS // 2 if race is lost_owner else THREADS
    monkeypatch.setattr(DatabaseStore, name, broken(Meeting(count)))
    assert race(make(concurrent_database)) != []
