"""Calls at A that are cancelled at B."""

import json
from concurrent.futures import ThreadPoolExecutor

from tests.live.failover.stage import Stage, begin, new_name, progress
from tests.live.wire import Caller, parse_events, tool_call

NOTICE = "notifications/cancelled"


def cancel(stage: Stage) -> None:
    _cancel(stage, "follow_once")


def cancel_in_a_thread(stage: Stage) -> None:
    _cancel(stage, "follow_in_thread")


def cancel_in_silence(stage: Stage) -> None:
    """Within the first second of a call that has sent nothing yet."""
    here, there = stage.pair()
    name = new_name()
    message = tool_call("follow_silently", {"name": name})
    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(here.post, message)
        stage.wait_for(name, "run")
        assert there.notify(NOTICE, {"requestId": message["id"]}).status == 202
        stage.wait_for(name, "cancelled")
        assert message["id"] not in _responses(answering.result().body)
    assert stage.count(name, "run") == 1


def cancel_what_is_not_ours(stage: Stage) -> None:
    """The id of a request means something in its own session alone."""
    here, _ = stage.pair()
    stranger = stage.session().at(stage.b.port)
    name = new_name()
    running, message = begin(here, "follow_once", name=name, upto=1)
    stage.allow(name)
    with running:
        progress(running, 1)
        for request_id in (message["id"], 0, "nothing", None, True, {"a": 1}):
            assert stranger.notify(NOTICE, {"requestId": request_id}).status == 202
        stage.allow(name)
        assert "result" in running.next_response(message)
    assert stage.count(name, "cancelled") == 0


def _cancel(stage: Stage, tool: str) -> None:
    here, there = stage.pair()
    name = new_name()
    running, message = begin(here, tool, name=name, upto=9)
    with running:
        stage.allow(name)
        progress(running, 1)
        assert _cancelled(there, message["id"])
        # A cancelled request gets no response (basic/utilities/cancellation).
        assert [said for said in running.rest() if said.get("id") == message["id"]] == []
    stage.wait_for(name, "cancelled")


def _cancelled(there: Caller, request_id: int) -> bool:
    return there.notify(NOTICE, {"requestId": request_id, "reason": "enough"}).status == 202


def _responses(body: bytes) -> list[int]:
    """Return the ids of the responses in a body: JSON, events, or nothing at all."""
    texts = [body.decode()] if body[:1] in b"[{" else [event.data for event in parse_events(body.decode().split("\n"))]
    messages = [json.loads(text) for text in texts if text.strip()]
    return [message["id"] for message in messages if isinstance(message, dict) and "method" not in message]
