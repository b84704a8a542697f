"""What a Redis that forgets, or is down, excuses, and all that it does not: each is found in a run that has it."""

import hashlib
from dataclasses import replace

import pytest

from tests.chaos.damages import LATE, Damage, also, changed, conversation, kept, ran_too, together, without
from tests.chaos.good_run import COUNT_LOG, event, good_lines, good_truth, sent
from tests.chaos.history import Asked, Ended, Epoch, Forgotten, Got, Refused, Returned, Struck
from tests.chaos.judge import judge
from tests.chaos.truth import KeptRun

REFUSAL = "The handle is not valid: the conversation is unknown or has ended."
REFUSED = replace(LATE, op="g", key="g", at=31, began=30, outcome="failed", detail=REFUSAL)
EXPIRED = Refused(at=30, op="a", client=0, what="resume", status=400, detail='{"reason":"event_expired"}')
LOST = kept(conversations=(), tallies={}, lost=(hashlib.sha256(b"h").hexdigest(),))


def lost(at: float, forgets: Forgotten = "all") -> Damage:
    """Return a loss that Redis noticed."""
    return also(
        Struck(at=at, kind="restart of Redis", lasted=1, forgets=forgets), Epoch(at=at + 1, name=f"after {at:g}")
    )


LOSSES: list[tuple[str, str, Damage]] = [
    (
        "answers hold what was acknowledged",
        "an addition is missing for a while",
        changed(Ended, {"value": {"key": "d", "total": 2}}, op="d"),
    ),
    (
        "answers hold what was acknowledged",
        "an addition is missing of a conversation that is lost in the end",
        together(
            also(replace(LATE, value={"total": 1})), lost(40), LOST, without(Ended, op="d"), without(Ended, op="e")
        ),
    ),
    (
        "answers hold what was acknowledged",
        "an addition counts before it is sent",
        changed(Ended, {"value": {"key": "b", "total": 3}}, op="b"),
    ),
    ("conversations stay", "a conversation is over without a reason", also(REFUSED)),
    (
        "conversations stay",
        "a conversation is over because of a loss that comes later",
        together(also(REFUSED), lost(40)),
    ),
    (
        "conversations stay",
        "a conversation is over because of a loss before it began",
        together(also(REFUSED), lost(-20)),
    ),
    (
        "conversations stay",
        "a conversation is over that was idle when the newest was lost",
        together(also(replace(REFUSED, at=101, began=100)), lost(90, "the newest")),
    ),
    ("conversations stay", "the store says that it lost what nothing took", LOST),
    (
        "what is lost stays lost",
        "an older state comes back",
        together(also(REFUSED, replace(LATE, at=33, began=32, value={"total": 8})), lost(25)),
    ),
    (
        "additions count once",
        "a loss takes one addition, and its conversation goes on",
        together(lost(25, "the newest"), conversation(keys=("c", "d"), total=6, generations=(1, 2), lengths=(1, 2))),
    ),
    (
        "generations form a chain",
        "a loss takes a generation out of the middle",
        together(lost(25, "the newest"), conversation(generations=(1, 3))),
    ),
    (
        "states never go back",
        "a loss brings an older state",
        together(lost(18, "the newest"), also(replace(LATE, value={"total": 7}))),
    ),
    (
        "sessions stay",
        "a loss takes a session, which the database has",
        together(lost(10), also(replace(EXPIRED, status=404))),
    ),
    (
        "nothing is refused",
        "a stream expires because of a loss before it",
        together(also(EXPIRED), lost(-20)),
    ),
    (
        "nothing is refused",
        "a stream expires because of a loss after it",
        together(also(EXPIRED), lost(40)),
    ),
    (
        "events come in order",
        "a loss takes an event out of the middle",
        together(lost(1.3), without(Got, sequence=3)),
    ),
    (
        "calls end once",
        "an end comes twice, once before a loss and once after",
        together(lost(25), also(event(30, "a", "s9", 4, COUNT_LOG[4]))),
    ),
    (
        "calls run once",
        "a body runs a second time for which no key was forgotten",
        together(lost(-10), ran_too(*[KeptRun(key="d", tool="write", process=pid, has_ended=True) for pid in (1, 2)])),
    ),
    (
        "calls run once",
        "a body runs twice for the one time that its key was forgotten",
        together(
            lost(5.2),
            ran_too(*[KeptRun(key="d", tool="write", process=pid, has_ended=True) for pid in (1, 2, 3)]),
        ),
    ),
    (
        "calls run once",
        "a body runs a second time whose outcome was told long before the newest was lost",
        together(
            lost(20, "the newest"),
            also(sent(30, "h", "write", key="d", idempotency="k")),
            ran_too(*[KeptRun(key="d", tool="write", process=pid, has_ended=True) for pid in (1, 2)]),
        ),
    ),
    (
        "calls run once",
        "a body runs twice that was sent once, beside a loss",
        together(lost(1.5), ran_too(KeptRun(key="a", tool="count", process=8, has_ended=False))),
    ),
    (
        "keys keep their outcome",
        "a repeat has another result before anything is lost",
        together(lost(20), changed(Ended, {"value": {"key": "d", "total": 9}}, op="e")),
    ),
    (
        "losses are noticed",
        "Redis goes on in its epoch after a loss",
        also(Struck(at=30, kind="flush", forgets="all")),
    ),
    (
        "losses are noticed",
        "Redis goes back to an epoch that it was in",
        together(lost(20), also(Struck(at=30, kind="flush", forgets="all"), Epoch(at=31, name="e1"))),
    ),
    ("what lasts is not doubted", "Redis begins an epoch without a loss", also(Epoch(at=14, name="e2"))),
    (
        "outages are told",
        "a stream begins without Redis",
        changed(Asked, {"status": 200, "retry_after": ""}),
    ),
    ("outages are told", "nobody says when to come back", changed(Asked, {"retry_after": ""})),
    ("outages are told", "a call is not told when to come back", changed(Refused, {"retry_after": ""}, status=503)),
    ("service returns", "a server comes back late", changed(Returned, {"seconds": 5.1})),
    ("service returns", "a server never comes back", changed(Returned, {"has_returned": False})),
]

FORGOTTEN: dict[str, Damage] = {
    "a conversation is over after a flush, and its handle is refused": together(lost(25), LOST, also(REFUSED)),
    "a conversation that was in use is over": together(lost(25, "the newest"), LOST, also(REFUSED)),
    "a conversation is over that nobody called again": together(lost(25), LOST),
    "the rest of a stream is gone, and with it the end of its call": together(
        lost(1.4),
        without(Got, sequence=4),
        changed(Ended, {"outcome": "unanswered", "value": None}, op="a"),
        also(EXPIRED),
        kept(streams=tuple(one for one in good_truth().streams if one.name != "s1")),
    ),
    "a key is used once more": together(
        lost(5.2), ran_too(*[KeptRun(key="d", tool="write", process=pid, has_ended=True) for pid in (1, 2)])
    ),
    "a key has another outcome": together(lost(6.2), changed(Ended, {"value": {"key": "d", "total": 9}}, op="e")),
    "the outcome of a key is in doubt": together(
        lost(6.2, "the newest"), changed(Ended, {"outcome": "worker_lost", "value": None}, op="e")
    ),
}


@pytest.mark.parametrize("damage", FORGOTTEN.values(), ids=FORGOTTEN)
def test_what_redis_forgot_is_excused(damage: Damage) -> None:
    assert judge(*damage(good_lines(), good_truth())) == []


@pytest.mark.parametrize(("rule", "what", "damage"), LOSSES, ids=[what for _, what, _ in LOSSES])
def test_what_nothing_excuses_is_found(rule: str, what: str, damage: Damage) -> None:
    broken = judge(*damage(good_lines(), good_truth()))
    assert rule in {one.rule for one in broken}
