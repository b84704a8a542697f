"""Each rule finds nothing in a run that went well, and finds the one thing that is wrong in one that did not."""

from dataclasses import replace

import pytest

from tests.chaos.damages import (
    LATE,
    Damage,
    also,
    changed,
    conversation,
    kept,
    place,
    ran_too,
    stream,
    together,
    without,
)
from tests.chaos.good_run import (
    COUNT_LOG,
    NORTH,
    SOUTH,
    event,
    good_lines,
    good_truth,
    progress,
    result,
    updated,
)
from tests.chaos.history import (
    Broke,
    Deaf,
    Ended,
    Got,
    Heard,
    Line,
    Probed,
    Refused,
    Resumed,
    Sent,
)
from tests.chaos.judge import RULES, judge
from tests.chaos.test_losses import LOSSES
from tests.chaos.truth import KeptCall, KeptConversation, KeptRun, KeptStream

DAMAGES: list[tuple[str, str, Damage]] = [
    ("nobody hangs", "a client waits for ever", changed(Ended, {"outcome": "hung"}, op="c")),
    (
        "sessions stay",
        "a session is unknown that nobody ended",
        also(Refused(at=13, op="y", client=0, what="tools/call", status=404)),
    ),
    (
        "nothing is refused",
        "a stream expires that is young",
        also(Refused(at=13, op="y", client=0, what="resume", status=400, detail="event_expired")),
    ),
    (
        "nothing is refused",
        "a session serves after its end",
        changed(Refused, {"status": 200, "is_expected": False}, what="after the end"),
    ),
    ("nothing is refused", "a call is refused", changed(Ended, {"outcome": "refused"}, op="c")),
    (
        "calls end once",
        "a call ends twice, under two ids",
        together(
            also(event(30, "a", "s1", 5, COUNT_LOG[4])),
            stream("s1", last=5, events={**COUNT_LOG, 5: COUNT_LOG[4]}),
            kept(calls=()),
        ),
    ),
    (
        "calls end once",
        "a repeat in the modern era is answered twice",
        also(Got(at=30, op="d", attempt=2, body=result("d.2", key="d", label="own.0", total=9))),
    ),
    (
        "calls end once",
        "an accepted call never ends",
        together(without(Got, sequence=4), changed(Ended, {"outcome": "unanswered"}, op="a")),
    ),
    (
        "calls run once",
        "a body runs twice",
        ran_too(KeptRun(key="a", tool="count", process=8, has_ended=False)),
    ),
    (
        "calls run once",
        "a repeat by its key runs the body again",
        together(
            ran_too(*[KeptRun(key="d", tool="write", process=pid, has_ended=True) for pid in (1, 2)]),
        ),
    ),
    (
        "what was answered ran",
        "a result comes of nothing",
        kept(runs=tuple(run for run in good_truth().runs if run.key != "t")),
    ),
    (
        "keys keep their outcome",
        "a repeat has another result",
        changed(Ended, {"value": {"key": "d", "total": 9}}, op="e"),
    ),
    (
        "keys keep their outcome",
        "a repeat is told that the outcome is unknown",
        changed(Ended, {"outcome": "worker_lost", "value": None}, op="e"),
    ),
    ("events come in order", "an event is left out", without(Got, sequence=3)),
    ("events come in order", "the first event is left out", without(Got, sequence=1, op="a")),
    (
        "events come in order",
        "an event comes late",
        together(changed(Got, {"at": 1.0}), lambda lines, truth: (_swapped(lines), truth)),
    ),
    (
        "events come in order",
        "one id names two events",
        together(
            changed(Got, {"body": progress("a", "a.1", 3)}, 1, sequence=2, op="a"),
            kept(streams=()),
        ),
    ),
    (
        "events come in order",
        "a standalone stream leaves one out",
        together(
            also(Got(at=9.5, op="l", attempt=0, body=updated(NORTH), event_id="g.7.m", stream="g", sequence=7)),
            kept(streams=()),
        ),
    ),
    (
        "events are on the log",
        "the log has something else there",
        stream("s1", events={**COUNT_LOG, 2: progress("a", "a.1", 9)}),
    ),
    (
        "events are on the log",
        "the log has nothing there",
        stream("s1", last=3, events={number: COUNT_LOG[number] for number in (1, 2, 3)}),
    ),
    (
        "logs have no gaps",
        "a number is missing on the log",
        stream("s1", last=6, events={**COUNT_LOG, 6: progress("a", "a.1", 6)}),
    ),
    (
        "logs have no gaps",
        "the beginning of a call's stream is gone",
        stream("s2", first=2, last=1, events={}),
    ),
    (
        "calls end once on the log",
        "the log has two ends of one call",
        stream("s1", last=5, events={**COUNT_LOG, 5: COUNT_LOG[4]}),
    ),
    (
        "calls end once on the log",
        "a call has ended without its event",
        kept(calls=(KeptCall(id="2", state="interrupted", fence=2, request_id="w.1", stream="s2"),)),
    ),
    (
        "calls hear of themselves",
        "somebody else's progress comes",
        together(changed(Got, {"body": progress("b", "a.1", 1)}, sequence=1, op="a"), kept(streams=())),
    ),
    (
        "calls hear of themselves",
        "another request's progress comes",
        together(changed(Got, {"body": progress("a", "b.1", 1)}, sequence=1, op="a"), kept(streams=())),
    ),
    (
        "calls hear of themselves",
        "a stranger's answer counts",
        changed(Got, {"body": result("t.1", key="t", run=2, process=7, word="stolen")}, op="t"),
    ),
    (
        "calls hear of themselves",
        "another call's result comes",
        changed(Got, {"body": result("t.1", key="u", run=2, process=7, word="")}, op="t"),
    ),
    (
        "calls hear of themselves",
        "a listener hears of what it did not ask for",
        also(Got(at=9.5, op="l", attempt=0, body=updated("chaos://topics/east"))),
    ),
    (
        "progress grows",
        "progress goes back",
        together(
            changed(Got, {"body": progress("a", "a.1", 1)}, sequence=2, op="a"),
            changed(Got, {"body": progress("a", "a.1", 1)}, 1, sequence=2, op="a"),
            kept(streams=()),
        ),
    ),
    (
        "additions count once",
        "an acknowledged addition is lost",
        conversation(keys=("c", "d"), total=6, generation=2, generations=(1, 2), lengths=(1, 2)),
    ),
    (
        "additions count once",
        "a whole conversation is lost",
        kept(conversations=(), tallies={}),
    ),
    (
        "additions count once",
        "an addition counts twice",
        conversation(
            keys=("b", "b", "c", "d"), total=10, generation=4, generations=(1, 2, 3, 4), lengths=(1, 2, 3, 4)
        ),
    ),
    (
        "additions count once",
        "there is one that nobody asked for",
        conversation(keys=("b", "c", "x"), generation=3),
    ),
    ("additions count once", "the total is not the sum", conversation(total=9)),
    (
        "additions count once",
        "a conversation is begun twice",
        lambda lines, truth: (
            lines,
            replace(
                truth,
                conversations=(
                    *truth.conversations,
                    KeptConversation(
                        label="own.0", generation=0, total=0, keys=(), tallies=(), generations=(), lengths=()
                    ),
                ),
            ),
        ),
    ),
    ("generations form a chain", "a generation is missing", conversation(generations=(1, 3))),
    ("generations form a chain", "the head is missing", conversation(generation=4)),
    ("generations form a chain", "a generation is made of an older one", conversation(lengths=(1, 2, 2))),
    ("states never go back", "somebody sees an old state", also(replace(LATE, value={"total": 7}))),
    (
        "rows stand with states",
        "a row was rolled back and its state was not",
        kept(tallies={}),
    ),
    (
        "rows stand with states",
        "a state was rolled back and its row was not",
        kept(tallies={"own.0": ("d",), "own.1": ("x",)}),
    ),
    ("rows stand with states", "a row is there twice", kept(tallies={"own.0": ("d", "d")})),
    ("snapshots are whole", "a blob is missing", conversation(damages=("generation 2: blob f00 is missing",))),
    (
        "changes are heard",
        "a change is heard of too late",
        together(changed(Heard, {"at": 75.0}), changed(Deaf, {"at": 80.0})),
    ),
    ("changes are heard", "a change is never heard of", together(without(Heard), changed(Deaf, {"at": 80.0}))),
    (
        "changes are heard",
        "a change is not told to who comes back",
        together(
            without(Heard),
            also(
                Broke(at=8.1, op="l", by="server"),
                Resumed(at=30, op="l", after="g.5.mac"),
                Broke(at=70, op="l", by="server"),
                Resumed(at=80, op="l", after="g.5.mac"),
                Deaf(at=101, listener="l"),
            ),
            without(Deaf),
        ),
    ),
    (
        "changes are heard",
        "what is heard was before the change",
        together(changed(Heard, {"at": 7.0}), changed(Deaf, {"at": 80.0})),
    ),
    (
        "strangers learn nothing",
        "a stranger can tell that a session exists",
        changed(Probed, {"foreign": "403 not yours"}),
    ),
]


def _swapped(lines: list[Line]) -> list[Line]:
    first, second = (place(lines, Got, sequence=number, op="a") for number in (1, 2))
    lines[first], lines[second] = lines[second], lines[first]
    return lines


def test_a_run_that_went_well_breaks_no_rule() -> None:
    assert judge(good_lines(), good_truth()) == []


@pytest.mark.parametrize(("rule", "what", "damage"), DAMAGES, ids=[what for _, what, _ in DAMAGES])
def test_what_is_wrong_is_found(rule: str, what: str, damage: Damage) -> None:
    broken = judge(*damage(good_lines(), good_truth()))
    assert rule in {one.rule for one in broken}


def test_every_rule_is_proven_to_bite() -> None:
    assert {rule for rule, _, _ in (*DAMAGES, *LOSSES)} == {rule.__name__.replace("_", " ") for rule in RULES}


def test_what_may_happen_is_no_fault() -> None:
    allowed = together(
        # A tool that may be repeated ran twice, and told of its progress from the beginning of its second run.
        changed(Sent, {"is_repeatable": True, "tool": "count_again"}, op="a"),
        ran_too(KeptRun(key="a", tool="count_again", process=9, has_ended=True)),
        # Nobody knows of the addition whose answer was lost: this time it was not made.
        conversation(keys=("b", "d"), total=3, generation=2, generations=(1, 2), lengths=(1, 2)),
        changed(Ended, {"value": {"key": "d", "total": 3}}, op="d"),
        changed(Ended, {"value": {"key": "d", "total": 3}}, op="e"),
        changed(Got, {"body": result("d.2", key="d", total=3)}, op="d"),
        changed(Got, {"body": result("e.1", key="d", total=3)}, op="e"),
        # It is not told of a topic to which it did not listen, nor of a change just before it left.
        also(
            Ended(at=40, op="u", key="u", client=0, tool="touch", began=39, outcome="failed", uri=SOUTH),
            Ended(at=59, op="v", key="v", client=0, tool="touch", began=58, outcome="failed", uri=SOUTH),
        ),
    )
    assert judge(*allowed(good_lines(), good_truth())) == []


def test_what_was_unknown_may_be_known_later() -> None:
    lines, truth = changed(Ended, {"outcome": "worker_lost", "value": None}, op="d")(good_lines(), good_truth())
    assert judge(lines, truth) == []


def test_who_is_not_connected_need_not_hear() -> None:
    lines, truth = good_lines(), good_truth()
    del lines[place(lines, Heard)]
    lines.insert(place(lines, Sent, op="w"), Broke(at=9.5, op="l", by="client"))
    assert judge(lines, truth) == []
    lines.insert(place(lines, Deaf), Resumed(at=50, op="l", after="g.5.mac"))
    assert judge(lines, truth) == []


def test_a_stream_that_is_no_longer_kept_is_not_compared() -> None:
    lines, truth = good_lines(), good_truth()
    assert judge(lines, replace(truth, streams=tuple(one for one in truth.streams if one.name != "s1"))) == []
    assert judge(lines, replace(truth, streams=(*truth.streams, _empty("s9")))) == []


def _empty(name: str) -> KeptStream:
    return KeptStream(name=name, kind="post", first=1, last=0, is_open=True, events={})
