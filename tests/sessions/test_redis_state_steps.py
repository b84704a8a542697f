"""Each step of the state store on Redis among others: nothing that was acknowledged is undone, and each test bites.

Every race is a function that returns what went wrong. It is run on the store as it is, where nothing may, and with one
step torn, where something must. A torn step runs on what was read of its keys before another was done: as if a read
and then a write stood in the place of the script.
"""

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import pytest
from django.utils import timezone
from pytest_django import Settings

from django_mcp.exceptions import ConversationNotFound, CorruptBlob, HeadMoved, LimitExceeded
from django_mcp.sessions.stores import indexed_state, redis_state
from django_mcp.sessions.stores.cache_state import CacheStateStore
from django_mcp.sessions.stores.indexed_generations import place_of, terms_of
from django_mcp.sessions.stores.redis_link import RedisLink
from django_mcp.sessions.stores.redis_state import RedisState
from django_mcp.sessions.stores.remote_state import Change, Place, Refused, RemoteHead, Terms
from django_mcp.sessions.stores.state import CallNote, ConversationRecord, Head
from django_mcp.testing.state_contract import references, sha256
from tests import services
from tests.databases import together
from tests.redis_stores import cache_on, make_state
from tests.sessions.test_log_races import Meeting
from tests.sessions.test_redis_state import CALLER, age_blobs, begin, client_of, commit, key, look_now
from tests.sessions.torn_steps import Turn, break_step

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]

Race = Callable[[CacheStateStore, Turn], list[object]]

THREADS: Final = 8
ROUNDS: Final = 4
FEW: Final = 4
LONGER: Final = timedelta(days=60)


@pytest.fixture
def store() -> Iterator[CacheStateStore]:
    with services.redis() as service, cache_on(service) as alias:
        yield make_state(alias)


# Any two changes of one conversation


def touch(store: CacheStateStore, record: ConversationRecord, number: int) -> datetime:
    at = record.created_at.replace(microsecond=0) + timedelta(seconds=1 + number)
    store.remote.touch(place_of(record), at, terms_of(record), is_foreseen=True)
    return at


def note(store: CacheStateStore, record: ConversationRecord, number: int) -> str:
    store.note(record, CallNote(name=f"note {number}"))
    return f"note {number}"


def adopt(store: CacheStateStore, record: ConversationRecord, number: int) -> None:
    store.remote.adopt(place_of(record), written_in=ANOTHER_EPOCH, epoch=present_epoch(store))


ANOTHER_EPOCH: Final = "another"
CHANGES: Final[dict[str, tuple[str, Callable[[CacheStateStore, ConversationRecord, int], object]]]] = {
    "commit": ("state_commit", lambda store, record, number: commit(store, record, 1, n=number)),
    "rewind": ("state_copy", lambda store, record, _: store.rewind(record, 1)),
    "revoke a token": (
        "state_copy",
        lambda store, record, number: store.revoke_tokens(record, fingerprint=str(number)),
    ),
    "touch": ("state_touch", touch),
    "note": ("state_note", note),
    "fork": ("state_fork", lambda store, record, _: store.fork(record)),
    "end": ("state_end", lambda store, record, _: store.revoke(record)),
    "adopt": ("state_adopt", adopt),
}
MAKES_ONE: Final = {"commit", "rewind", "revoke a token"}
UNSEEN: Final = {("end", "end"), ("end", "touch"), ("end", "note"), ("end", "fork")}
"""Of what has ended nobody asks for notes and uses; it ends once, and the index lets nobody fork it."""
ORDERED: Final = [
    *(
        pair
        for pair in itertools.product([change for change in CHANGES if change != "adopt"], repeat=2)
        if pair not in UNSEEN
    ),
    *(("adopt", change) for change in ("commit", "rewind", "revoke a token", "fork", "end")),
]


def two_changes(first: str, second: str) -> Race:
    """Return the race of two changes of a conversation, of which the first is under way when the second is made."""

    def race(store: CacheStateStore, turn: Turn) -> list[object]:
        record = begin(store)
        commit(store, record, 0, n=-1)
        if first == "adopt":
            client_of(store).hset(key(store, record, f"c:{record.id}"), "epoch", ANOTHER_EPOCH)
        makers = [CHANGES[change][1] for change in (first, second)]
        outcomes = turn.take(lambda: makers[0](store, record, 0), lambda: makers[1](store, record, 1))
        return undone(store, record, (first, second), outcomes)

    return race


def undone(
    store: CacheStateStore, record: ConversationRecord, changes: Sequence[str], outcomes: Sequence[object]
) -> list[object]:
    """Return what of the outcomes is not so, after all changes were answered."""
    found = store.remote.load(place_of(record))
    assert found is not None
    done = list(zip(changes, outcomes, strict=True))
    made = sorted(head.generation for change, head in done if change in MAKES_ONE and isinstance(head, Head))
    numbers = [line.number for line in store.history(record)]
    wrong: list[object] = []
    if made != list(range(2, 2 + len(made))) or numbers != list(range(1 + len(made), 0, -1)):
        wrong.append(("generations", made, numbers))
    if found.generation != 1 + len(made):
        wrong.append(("head", made, found.generation))
    if "adopt" in changes and found.is_doubtful:
        wrong.append("still in doubt")
    for number, (change, outcome) in enumerate(done):
        if isinstance(outcome, HeadMoved) and change == "commit" and made:
            continue
        if isinstance(outcome, ConversationNotFound) and change != "end" and found.is_ended:
            continue
        if isinstance(outcome, BaseException) or not is_there(store, found, change, outcome, number):
            wrong.append((change, outcome))
    return wrong


def is_there(store: CacheStateStore, found: RemoteHead, change: str, outcome: Any, number: int) -> bool:
    place = found.identity.place
    match change:
        case "revoke a token":
            return str(number) in found.revoked_tokens
        case "fork":
            return outcome.conversation.id in members_of(store, place)
        case "end":
            return found.is_ended
        case "touch":
            return found.is_ended or (found.touched_at >= outcome and found.is_foreseen)
        case "note":
            return found.is_ended or outcome in {one.call.name for one in store.remote.notes(place, 10)}
    return True


def members_of(store: CacheStateStore, place: Place) -> set[str]:
    found: Any = client_of(store).smembers(store.link.key(f"f:{place.family}", "members"))
    return {member.decode() for member in found}


def present_epoch(store: CacheStateStore) -> str:
    found = store.remote.load(place_of(begin(store)))
    assert found is not None
    return found.epoch


@pytest.fixture
def nothing_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what was written in another epoch be sound."""
    monkeypatch.setattr(RedisState, "survived_until", lambda *_: timezone.now() + timedelta(days=1))


@pytest.mark.usefixtures("nothing_lost")
@pytest.mark.parametrize(("first", "second"), ORDERED)
def test_of_two_changes_at_once_neither_undoes_the_other(store: CacheStateStore, first: str, second: str) -> None:
    for _ in range(ROUNDS):
        assert two_changes(first, second)(store, Turn(is_open=True)) == []


@pytest.mark.usefixtures("nothing_lost")
@pytest.mark.parametrize(("first", "second"), ORDERED)
def test_a_change_that_reads_and_then_writes_undoes_another(
    store: CacheStateStore, first: str, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = Turn()
    break_step(monkeypatch, CHANGES[first][0], turn.wait)
    assert two_changes(first, second)(store, turn) != []


# What each step decides besides


def begun_once(store: CacheStateStore, turn: Turn) -> list[object]:
    record = begin(store)
    client_of(store).delete(key(store, record, f"c:{record.id}"))

    def use() -> Head:
        head = store.find(record.id, **CALLER)
        return commit(store, record, head.generation, n=1)

    _, made = turn.take(lambda: store.find(record.id, **CALLER), use)
    return still(store, record, made)


def still(store: CacheStateStore, record: ConversationRecord, made: object) -> list[object]:
    """Return nothing if what was made is the head."""
    found = store.find(record.id, **CALLER)
    is_right = isinstance(made, Head) and (found.generation, found.manifest) == (made.generation, made.manifest)
    return [] if is_right else [made, found]


def one_winner(store: CacheStateStore, _: Turn) -> list[object]:
    record = begin(store)
    commit(store, record, 0, n=-1)
    outcomes = together(THREADS, lambda number: commit(store, record, 1, n=number))
    winners = [outcome for outcome in outcomes if isinstance(outcome, Head)]
    losers = [outcome for outcome in outcomes if isinstance(outcome, HeadMoved)]
    if (len(winners), len(losers)) != (1, THREADS - 1):
        return list(outcomes)
    return still(store, record, winners[0])


def rewinds(store: CacheStateStore, _: Turn) -> list[object]:
    record = begin(store)
    commit(store, record, 0, n=-1)
    outcomes = together(THREADS, lambda _: store.rewind(record, 1))
    return undone(store, record, ["rewind"] * THREADS, outcomes)


def revoked_tokens(store: CacheStateStore, _: Turn) -> list[object]:
    record = begin(store)
    commit(store, record, 0, n=-1)
    outcomes = together(THREADS, lambda number: store.revoke_tokens(record, fingerprint=str(number)))
    kept = {str(number) for number, outcome in enumerate(outcomes) if isinstance(outcome, Head)}
    refused = sum(isinstance(outcome, LimitExceeded) for outcome in outcomes)
    found = store.remote.load(place_of(record))
    known = set(found.revoked_tokens) if found is not None else None
    return [] if (len(kept), refused, known) == (FEW, THREADS - FEW, kept) else [*outcomes, known]


def notes(store: CacheStateStore, _: Turn) -> list[object]:
    record = begin(store)
    together(THREADS, lambda number: store.note(record, CallNote(name=str(number))))
    kept = store.remote.notes(place_of(record), THREADS)
    orders = [one.order for one in kept]
    return [] if orders == list(range(THREADS, THREADS - FEW, -1)) else list(kept)


def forgotten_once(store: CacheStateStore, _: Turn) -> list[object]:
    record = begin(store)
    commit(store, record, 0, n=0)
    commit(store, record, 1, n=1)
    store.revoke(record)
    counts = together(THREADS, lambda _: store.remote.forget(place_of(record)))
    return [] if sorted(map(str, counts)) == [*"0" * (THREADS - 1), "2"] else list(counts)


def members(store: CacheStateStore, turn: Turn, *, is_fork_first: bool = False) -> list[object]:
    """Forget what has ended of a family while another of it is forked."""
    record = begin(store)
    commit(store, record, 0, n=0)
    over = store.fork(record).conversation
    store.revoke(over)
    acts: list[Callable[[], object]] = [lambda: store.remote.forget(place_of(over)), lambda: store.fork(record)]
    outcomes = turn.take(acts[is_fork_first], acts[not is_fork_first])
    forks = {outcome.conversation.id for outcome in outcomes if isinstance(outcome, Head)}
    found = members_of(store, place_of(record))
    return [] if forks and found == {record.id, *forks} else [*outcomes, found]


def members_beside_a_fork(store: CacheStateStore, turn: Turn) -> list[object]:
    return members(store, turn, is_fork_first=True)


def fork_of_what_is_trimmed(store: CacheStateStore, turn: Turn) -> list[object]:
    """Fork a generation while it is cut from the history and its blobs are collected; one generation is kept."""
    record = begin(store)
    commit(store, record, 0, b"a large value")
    outcomes = turn.take(lambda: store.fork(record), lambda: give_up(store, record))
    return unreadable(store, [outcomes[0], store.find(record.id, **CALLER)])


def give_up(store: CacheStateStore, record: ConversationRecord) -> Head:
    """Cut the only generation that needs a blob, and collect."""
    made = commit(store, record, 1, n=1)
    age_blobs(store, record)
    look_now()
    store.collect(references)
    return made


def unreadable(store: CacheStateStore, heads: Collection[object]) -> list[object]:
    """Return the heads of which a blob is not there, and what is no head."""
    wrong: list[object] = []
    for head in heads:
        if not isinstance(head, Head):
            wrong.append(head)
            continue
        try:
            store.blobs(head.conversation, references(head.manifest, lambda _: b""))
        except CorruptBlob as error:
            wrong.append(error)
    return wrong


def collected_and_taken_up(store: CacheStateStore, turn: Turn) -> list[object]:
    """Collect a blob while a commit has it along again."""
    record = begin(store)
    commit(store, record, 0, b"a large value")
    commit(store, record, 1, n=1)
    age_blobs(store, record)
    look_now()
    outcomes = turn.take(lambda: store.collect(references), lambda: commit(store, record, 2, b"a large value"))
    return unreadable(store, outcomes[1:])


def taken_up_and_collected(store: CacheStateStore, turn: Turn) -> list[object]:
    record = begin(store)
    commit(store, record, 0, b"a large value")
    commit(store, record, 1, n=1)
    age_blobs(store, record)
    look_now()
    outcomes = turn.take(lambda: commit(store, record, 2, b"a large value"), lambda: store.collect(references))
    return unreadable(store, outcomes[:1])


def listed_and_forked(store: CacheStateStore, turn: Turn) -> list[object]:
    """Collect while a generation moves: it is forked, and then cut from the history it came from."""
    record = begin(store)
    commit(store, record, 0, b"a large value")
    age_blobs(store, record)
    look_now()

    def move() -> Head:
        fork = store.fork(record)
        commit(store, record, 1, n=1)
        return fork

    outcomes = turn.take(lambda: store.collect(references), move)
    return unreadable(store, [outcomes[1], store.find(record.id, **CALLER)])


def read_and_cut(store: CacheStateStore, turn: Turn) -> list[object]:
    """Read a head while it is cut from the history."""
    record = begin(store)
    commit(store, record, 0, n=0)
    outcomes = turn.take(lambda: store.find(record.id, **CALLER), lambda: commit(store, record, 1, n=1))
    return [outcome for outcome in outcomes if not isinstance(outcome, Head)]


# How long blobs live


def prolong(store: CacheStateStore, record: ConversationRecord, life: timedelta) -> None:
    terms = replace(terms_of(record), blob_seconds=life.total_seconds())
    store.remote.touch(place_of(record), timezone.now(), terms, is_foreseen=True)


def short_lived(store: CacheStateStore, record: ConversationRecord, life: timedelta) -> list[object]:
    """Return the blobs of the family that end before their time, and what is listed of them."""
    least = (life - timedelta(minutes=1)) / timedelta(milliseconds=1)
    listed = [blob.digest for blob in store.remote.kept_blobs(record.family)[1]]
    lives: dict[str, Any] = {
        name: client_of(store).pttl(key(store, record, name))
        for name in ("blobs", "span", *(f"b:{digest}" for digest in listed))
    }
    missing = {sha256(body) for body in (b"first", b"second")} - set(listed)
    return [*((name, left) for name, left in lives.items() if left < least), *missing]


def prolonged_and_committed(store: CacheStateStore, turn: Turn, *, is_commit_first: bool = False) -> list[object]:
    record = begin(store)
    commit(store, record, 0, b"first")
    acts: list[Callable[[], object]] = [
        lambda: prolong(store, record, LONGER),
        lambda: commit(store, record, 1, b"second"),
    ]
    outcomes = turn.take(acts[is_commit_first], acts[not is_commit_first])
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    return [*failed, *short_lived(store, record, LONGER)]


def committed_and_prolonged(store: CacheStateStore, turn: Turn) -> list[object]:
    return prolonged_and_committed(store, turn, is_commit_first=True)


def prolonged_twice(store: CacheStateStore, turn: Turn) -> list[object]:
    record = begin(store)
    commit(store, record, 0, b"first", b"second")
    outcomes = turn.take(lambda: prolong(store, record, LONGER / 1.5), lambda: prolong(store, record, LONGER))
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    return [*failed, *short_lived(store, record, LONGER)]


RACES: Final[list[Race]] = [
    begun_once,
    one_winner,
    rewinds,
    revoked_tokens,
    notes,
    forgotten_once,
    members,
    members_beside_a_fork,
    fork_of_what_is_trimmed,
    collected_and_taken_up,
    taken_up_and_collected,
    listed_and_forked,
    read_and_cut,
    prolonged_and_committed,
    committed_and_prolonged,
    prolonged_twice,
]
CUTTING: Final = {
    fork_of_what_is_trimmed,
    collected_and_taken_up,
    taken_up_and_collected,
    listed_and_forked,
    read_and_cut,
}
BROKEN: Final[list[tuple[Race, str, int]]] = [
    (one_winner, "state_commit", THREADS),
    (rewinds, "state_copy", THREADS),
    (revoked_tokens, "state_copy", THREADS),
    (notes, "state_note", THREADS),
    (forgotten_once, "state_forget", THREADS),
    (begun_once, "state_begin", 2),
    (members, "state_forget", 2),
    (members_beside_a_fork, "state_fork", 2),
    (fork_of_what_is_trimmed, "state_fork", 2),
    (collected_and_taken_up, "state_drop", 2),
    (prolonged_and_committed, "state_span", 2),
    (committed_and_prolonged, "state_commit", 2),
    (prolonged_twice, "state_span", 2),
    (prolonged_twice, "state_prolong", 2),
]


@pytest.fixture(autouse=True)
def caps(monkeypatch: pytest.MonkeyPatch, settings: Settings, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(indexed_state, "MAX_REVOKED_TOKENS", FEW)
    race = getattr(request.node, "callspec", None) and request.node.callspec.params.get("race")
    settings.DJANGO_MCP = {"STATE_HISTORY": 1} if race in CUTTING else {}
    settings.DJANGO_MCP |= {"CALL_NOTES": FEW}


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.__name__)
def test_a_race_is_settled(race: Race, store: CacheStateStore) -> None:
    for _ in range(ROUNDS):
        assert race(store, Turn(is_open=True)) == []


@pytest.mark.parametrize(
    ("race", "step", "count"), BROKEN, ids=[f"{race.__name__}-{step}" for race, step, _ in BROKEN]
)
def test_a_read_and_then_a_write_is_caught(
    race: Race, step: str, count: int, store: CacheStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = Turn(is_open=count > 2)
    break_step(monkeypatch, step, turn.wait if count == 2 else Meeting(count).wait)
    assert race(store, turn) != []


# Steps that are torn in a way of their own


class CommitOfWhatIsMissing(RedisState):
    """Looks which blobs are there, and then commits with the others."""

    def __init__(self, link: RedisLink, turn: Turn) -> None:
        super().__init__(link)
        self._turn = turn

    def commit(self, place: Place, base_generation: int, change: Change, terms: Terms) -> Refused | None:
        found = self.blobs(place.family, list(change.blobs))
        self._turn.wait()
        missing = {digest: body for digest, body in change.blobs.items() if digest not in found}
        return super().commit(place, base_generation, replace(change, blobs=missing), terms)


class MembersOneByOne(RedisState):
    """Looks who belongs to a family, and then at the history of each."""

    def __init__(self, link: RedisLink, turn: Turn) -> None:
        super().__init__(link)
        self._turn = turn

    def snapshots(self, family: str) -> dict[str, tuple[Place, int]] | None:
        members: Any = self.link.client.smembers(self.link.key(f"f:{family}", "members"))
        self._turn.wait()
        places = [Place(family=family, id=member.decode()) for member in members]
        return {line.line.snapshot: (place, line.line.number) for place in places for line in self.history(place, 50)}


class HeadByNumber(RedisState):
    """Looks which generation is the head, and then reads that one."""

    def __init__(self, link: RedisLink, turn: Turn) -> None:
        super().__init__(link)
        self._turn = turn

    def load(self, place: Place, generation: int | None = None) -> RemoteHead | None:
        found = super().load(place, generation)
        self._turn.wait()
        return found and super().load(place, found.chosen)


@pytest.mark.parametrize(
    ("race", "torn"),
    [
        (taken_up_and_collected, CommitOfWhatIsMissing),
        (listed_and_forked, MembersOneByOne),
        (read_and_cut, HeadByNumber),
    ],
    ids=lambda value: value.__name__,
)
def test_what_looks_first_is_caught(
    race: Race, torn: Callable[[RedisLink, Turn], RedisState], store: CacheStateStore
) -> None:
    turn = Turn()
    store.remote = torn(store.link, turn)
    assert race(store, turn) != []


def test_a_prolongation_on_its_way_does_not_shorten_what_another_prolonged(
    store: CacheStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prolongation is two steps: when it ends is decided by the first, and the second may come late."""
    turn, run = Turn(), RedisLink.run

    def run_late(self: RedisLink, step: Any, *args: Any) -> Any:
        if step is redis_state.PROLONG:
            turn.wait()
        return run(self, step, *args)

    monkeypatch.setattr(RedisLink, "run", run_late)
    assert prolonged_twice(store, turn) == []
