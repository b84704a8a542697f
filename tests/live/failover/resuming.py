"""Streams that are cut at A and resumed at B, and ids of events that resume nothing."""

from tests.live.failover.stage import Stage, begin, new_name, progress, resume, succeeded
from tests.live.wire import Answer, Caller, Streaming, exchange

LAST_EVENT = "Last-Event-ID"


def resume_a_call_that_runs(stage: Stage) -> None:
    here, there = stage.pair()
    name = new_name()
    running, message = begin(here, "follow", name=name, upto=6)
    stage.allow(name, 2)
    assert progress(running, 2) == [1, 2]
    running.close()
    stage.allow(name, 2)
    with resume(there, running.last_event_id) as resumed:
        assert progress(resumed, 4) == [3, 4]
        for number in (5, 6):
            stage.allow(name)
            assert progress(resumed, number) == [number]
        stage.allow(name)
        assert succeeded(resumed.next_response(message))["process"] != stage.process_of_b()
        assert resumed.rest() == []
    assert stage.count(name, "run") == 1


def resume_a_call_that_has_ended(stage: Stage) -> None:
    here, there = stage.pair()
    name = new_name()
    running, message = begin(here, "follow", name=name, upto=3)
    stage.allow(name)
    progress(running, 1)
    place = running.last_event_id
    stage.allow(name, 3)
    last = running.rest()[-1]
    end = running.last_event_id
    for caller in (there, here, there):
        with resume(caller, place) as resumed:
            assert progress(resumed, 3) == [2, 3]
            assert resumed.next_response(message) == last
            assert resumed.last_event_id == end
            assert resumed.rest() == []
    for caller in (there, here):
        delivered = get(caller, str(end))
        assert delivered.status == 405
        assert "GET" not in delivered.headers["allow"]


def resume_from_the_beginning(stage: Stage) -> None:
    here, there = stage.pair()
    name = new_name()
    running, message = begin(here, "follow", name=name, upto=2)
    stage.allow(name)
    priming = running.next_event()
    assert priming.data == ""
    running.close()
    stage.allow(name, 2)
    with resume(there, priming.id) as resumed:
        assert progress(resumed, 2) == [1, 2]
        succeeded(resumed.next_response(message))


def resume_twice(stage: Stage) -> None:
    """The newest reader of a stream is the only one; the older ends cleanly."""
    here, there = stage.pair()
    name = new_name()
    running, message = begin(here, "follow", name=name, upto=2)
    stage.allow(name)
    progress(running, 1)
    place = running.last_event_id
    with running, resume(there, place) as newer:
        assert running.rest() == []
        with resume(here, place) as newest:
            assert newer.rest() == []
            stage.allow(name, 2)
            assert progress(newest, 2) == [2]
            succeeded(newest.next_response(message))


def refuse_bad_ids(stage: Stage) -> None:
    owner, thief = stage.session("alice"), stage.session("bob")
    names = [new_name() for _ in range(3)]
    begun = [
        _cut(stage, caller, name) for caller, name in zip((owner, thief, stage.session("alice")), names, strict=True)
    ]
    mine, of_bob, of_another_session = (str(stream.last_event_id) for stream in begun)
    stream, number, mac = mine.split(".")
    bad = [
        "nonsense",
        "..",
        f"{stream}.{number}",
        f"{stream}.{int(number) + 1}.{mac}",
        f"{stream}.{number}.{mac[::-1]}",
        f"{'p' + '0' * 16}.{number}.{mac}",
        f"{mine}.{mac}",
        "x" * 2_000,
        "p' OR 1=1",
        of_bob,
        of_another_session,
    ]
    refusals = [get(owner.at(port), one) for one in bad for port in (stage.a.port, stage.b.port)]
    refusals.append(get(thief.at(stage.b.port), mine))
    assert {refused.status for refused in refusals} == {400}
    assert len({refused.body for refused in refusals}) == 1
    told = [{name: value for name, value in refused.headers.items() if name != "date"} for refused in refusals]
    assert told == [told[0]] * len(told)
    assert refusals[0].error["code"] == -32602
    assert refusals[0].error["data"] == {"reason": "bad_event_id"}
    # They were refused for themselves: the same caller resumes where it was.
    for name in names:
        stage.allow(name)
    with resume(owner.at(stage.b.port), mine) as resumed:
        assert "result" in resumed.next_message()


def refuse_expired_ids(stage: Stage) -> None:
    here, there = stage.pair()
    name = new_name()
    running, _ = begin(here, "follow", name=name, upto=1)
    stage.allow(name)
    progress(running, 1)
    place = str(running.last_event_id)
    stage.allow(name)
    assert len(running.rest()) == 1
    assert there.call("forget_stream", {"stream": place.partition(".")[0]}).text == "1"
    for caller in (here, there):
        refused = get(caller, place)
        assert (refused.status, refused.error["code"]) == (400, -32602)
        assert refused.error["data"] == {"reason": "event_expired"}


def get(caller: Caller, last_event_id: str) -> Answer:
    """Ask for the rest of a stream that is not there."""
    headers = [("Accept", "text/event-stream"), *caller.session_headers(), (LAST_EVENT, last_event_id)]
    return exchange(caller.port, "GET", caller.path, headers)


def _cut(stage: Stage, caller: Caller, name: str) -> Streaming:
    """Leave a call with an id in hand."""
    running, _ = begin(caller, "follow", name=name, upto=1)
    stage.allow(name)
    progress(running, 1)
    running.close()
    return running
