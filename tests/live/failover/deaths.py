"""Calls, questions and streams whose process is killed.

Each step yields where A dies, and again where the time of its leases is over.
"""

from collections.abc import Iterator

from tests.live.failover.stage import COLOUR, Stage, begin, methods, new_name, progress, resume, succeeded
from tests.live.wire import Caller

LOST = {"reason": "worker_lost"}


def lose_a_repeatable_call(stage: Stage) -> Iterator[None]:
    here, there = stage.pair()
    name = new_name()
    running, message = begin(here, "follow", name=name, upto=6)
    stage.allow(name, 3)
    assert progress(running, 3) == [1, 2, 3]
    yield
    yield
    running.close()
    stage.allow(name, 4)
    with resume(there, running.last_event_id) as resumed:
        assert progress(resumed, 6) == [4, 5, 6]
        assert succeeded(resumed.next_response(message))["process"] == stage.process_of_b()
        assert resumed.rest() == []
    assert stage.count(name, "run") == 2


def lose_a_repeatable_call_behind_its_client(stage: Stage) -> Iterator[None]:
    """The client has not read what the dead process had sent; nothing of it is lost or sent twice."""
    here, there = stage.pair()
    name = new_name()
    running, message = begin(here, "follow", name=name, upto=6)
    stage.allow(name)
    assert progress(running, 1) == [1]
    place = running.last_event_id
    stage.allow(name, 2)
    assert progress(running, 3) == [2, 3]
    yield
    yield
    running.close()
    stage.allow(name, 4)
    with resume(there, place) as resumed:
        assert progress(resumed, 6) == [2, 3, 4, 5, 6]
        succeeded(resumed.next_response(message))


def lose_a_call_that_runs_once(stage: Stage) -> Iterator[None]:
    yield from _lose(stage, "follow_once")


def lose_a_call_in_a_thread(stage: Stage) -> Iterator[None]:
    yield from _lose(stage, "follow_in_thread")


def lose_a_call_before_its_body(stage: Stage) -> Iterator[None]:
    """Asked at A, answered at B after A died: the body runs at B."""
    here, there = stage.pair()
    name = new_name()
    running, message = begin(here, "paint", name=name)
    question = running.next_message("elicitation/create")
    yield
    yield
    running.close()
    assert there.reply(question, COLOUR).status == 202
    with resume(there, running.last_event_id) as resumed:
        done = succeeded(resumed.next_response(message))
        assert (done["said"], done["process"]) == ("green", stage.process_of_b())
    assert stage.count(name, "run") == 1


def lose_a_call_that_was_answered(stage: Stage) -> Iterator[None]:
    """Resumed at B before the answer comes: the question is not put a second time."""
    here, there = stage.pair()
    name = new_name()
    running, message = begin(here, "paint", name=name)
    question = running.next_message("elicitation/create")
    yield
    yield
    running.close()
    with resume(there, running.last_event_id) as resumed:
        assert there.reply(question, COLOUR).status == 202
        done = resumed.next_message()
        assert done["id"] == message["id"], done
        assert succeeded(done)["said"] == "green"


def lose_a_body_that_asks(stage: Stage) -> Iterator[None]:
    here, there = stage.pair()
    name = new_name()
    running, message = begin(here, "paint_while_asking", name=name)
    question = running.next_message("elicitation/create")
    yield
    yield
    running.close()
    assert there.reply(question, COLOUR).status == 202
    _is_lost(there, running.last_event_id, message["id"])
    assert stage.count(name, "run") == 1


def lose_a_cancelled_call(stage: Stage) -> Iterator[None]:
    """Cancelled at B when A is dead already: it does not begin again."""
    here, there = stage.pair()
    name = new_name()
    running, message = begin(here, "follow", name=name, upto=3)
    stage.allow(name)
    progress(running, 1)
    yield
    running.close()
    assert there.notify("notifications/cancelled", {"requestId": message["id"]}).status == 202
    yield
    with there.listen(running.last_event_id) as resumed:
        # Over by now, or soon.
        assert resumed.status in {200, 405}
        if resumed.status == 200:
            assert [said for said in resumed.rest() if said.get("id") == message["id"]] == []
    assert stage.count(name, "run") == 1


def lose_a_standalone_stream(stage: Stage) -> Iterator[None]:
    here, there = stage.pair()
    uri = f"ledger://watched/{new_name()}"
    assert here.request("resources/subscribe", {"uri": uri}).status == 200
    with here.listen() as stream:
        assert stream.next_event().data == ""
        there.call("tell", {"uri": uri})
        assert methods([stream.next_message("notifications/resources/updated")]) == ["resources/updated"]
        yield
        yield
    there.call("tell", {"uri": uri})
    with there.listen(stream.last_event_id) as resumed:
        assert resumed.status == 200
        assert resumed.next_message("notifications/resources/updated")["params"]["uri"] == uri


def keep_what_runs_at_b(stage: Stage) -> Iterator[None]:
    """The death of A is nothing to a call that B runs."""
    _, there = stage.pair()
    name = new_name()
    running, message = begin(there, "follow_once", name=name, upto=2)
    with running:
        stage.allow(name)
        progress(running, 1)
        yield
        yield
        stage.allow(name, 2)
        assert progress(running, 2) == [2]
        succeeded(running.next_response(message))


def _lose(stage: Stage, tool: str) -> Iterator[None]:
    here, there = stage.pair()
    name = new_name()
    running, message = begin(here, tool, name=name, upto=6)
    stage.allow(name, 2)
    assert progress(running, 2) == [1, 2]
    yield
    yield
    running.close()
    _is_lost(there, running.last_event_id, message["id"])
    stage.allow(name, 5)
    assert stage.count(name, "run") == 1


def _is_lost(there: Caller, last_event_id: str | None, request_id: int) -> None:
    """Check that the next and last thing a stream says is that the call's process is lost."""
    with resume(there, last_event_id) as resumed:
        last = resumed.next_message()
        assert last["id"] == request_id, last
        assert (last["error"]["code"], last["error"].get("data")) == (-32603, LOST)
        assert resumed.rest() == []
