"""Sessions: used, ended, and told what they may send, at whichever process."""

import itertools
from typing import Any

from tests.live.bad_inputs import SESSION_NOT_FOUND
from tests.live.failover.stage import Stage, begin, methods, new_name, progress, structured
from tests.live.wire import BATCHING, Caller
from tests.services import wait_until

CALLS = 20
MANY = 900
HEARD_SECONDS = 25.0
CONSENT = {"ask_consent": {"action": "accept", "content": {"ok": True}}}


def use_elsewhere(stage: Stage) -> None:
    for version in (BATCHING, "2025-06-18", "2025-11-25"):
        there = stage.session(version=version).at(stage.b.port)
        assert "test_simple_text" in {tool["name"] for tool in there.request("tools/list").result["tools"]}


def alternate(stage: Stage) -> None:
    pair = stage.pair()
    processes = [structured(pair[number % 2].call("process"))["process"] for number in range(CALLS)]
    assert set(processes[::2]) != set(processes[1::2])
    assert len(set(processes)) == 2


def terminate(stage: Stage) -> None:
    here, there = stage.pair()
    name = new_name()
    running, message = begin(here, "follow_once", name=name, upto=9)
    with here.listen() as listening, running:
        assert listening.next_event().data == ""
        stage.allow(name)
        progress(running, 1)
        assert there.terminate().status == 200
        refusals = [caller.call("test_simple_text") for caller in (here, there)]
        assert [refused.status for refused in refusals] == [404, 404]
        assert refusals[0].error["message"] == SESSION_NOT_FOUND
        listening.rest()
        assert [said for said in running.rest() if said.get("id") == message["id"]] == []
    stage.wait_for(name, "cancelled")


def finish_the_rounds(stage: Stage) -> None:
    note = new_name()
    caller = Caller(port=stage.a.port)
    state = caller.modern_call("write_entry", {"note": note}).result["requestState"]
    written = caller.at(stage.b.port).modern_call(
        "write_entry", {"note": note}, requestState=state, inputResponses=CONSENT
    )
    assert structured(written)["process"] == stage.process_of_b()


def set_level(stage: Stage) -> None:
    here, there = stage.pair()
    name = new_name()
    running, message = begin(here, "log_steps", name=name, upto=MANY)
    steps = itertools.count(1)

    def is_debugged() -> bool:
        """Tell whether the next step is logged for those who debug."""
        number = next(steps)
        stage.allow(name)
        said: list[dict[str, Any]] = []
        while not said or said[-1]["method"] != "notifications/progress":
            said.append(running.next_message())
        assert said[-1]["params"]["progress"] == number
        assert methods(said[:-1]) in ([], ["message"])
        return len(said) == 2

    with running:
        assert not is_debugged()
        assert there.request("logging/setLevel", {"level": "debug"}).status == 200
        wait_until(is_debugged, seconds=HEARD_SECONDS, what="the running call to log more")
        assert there.request("logging/setLevel", {"level": "error"}).status == 200
        wait_until(lambda: not is_debugged(), seconds=HEARD_SECONDS, what="the running call to log less")
        assert there.notify("notifications/cancelled", {"requestId": message["id"]}).status == 202
