"""A small run by hand in which all is well: what a rule has to find is one thing changed in it."""

import json
from typing import Any

from tests.chaos.app.topics import uri_of
from tests.chaos.history import (
    Accepted,
    Asked,
    Broke,
    Cancelled,
    Deaf,
    Ended,
    Epoch,
    Got,
    Heard,
    Line,
    Listening,
    Probed,
    Refused,
    Resumed,
    Returned,
    Sent,
    Struck,
)
from tests.chaos.truth import KeptCall, KeptConversation, KeptRun, KeptStream, Truth

NORTH, SOUTH = uri_of("north"), uri_of("south")


def progress(key: str, request_id: str, number: int) -> str:
    params = {"progressToken": request_id, "progress": number, "message": f"{key} {number} "}
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})


def result(request_id: str, **value: Any) -> str:
    answer = {"content": [], "structuredContent": value, "isError": False}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "result": answer})


def question(key: str, number: int) -> str:
    params = {"message": f"{key}?", "requestedSchema": {}}
    return json.dumps({"jsonrpc": "2.0", "id": f"q{number}", "method": "elicitation/create", "params": params})


def updated(uri: str) -> str:
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}})


def event(at: float, op: str, stream: str, sequence: int, body: str) -> Got:
    """Return an event of the first attempt of `op`."""
    event_id = f"{stream}.{sequence}.mac"
    return Got(at=at, op=op, attempt=1, body=body, event_id=event_id, stream=stream, sequence=sequence)


def sent(at: float, op: str, tool: str, attempt: int = 1, **fields: Any) -> Sent:
    given = {"key": op, "client": 0, "principal": "user-0", "era": "handshake", **fields}
    return Sent(at=at, op=op, attempt=attempt, tool=tool, **given)


def ended(at: float, op: str, tool: str, **fields: Any) -> Ended:
    given = {"key": op, "client": 0, "began": at - 1, "outcome": "answered", **fields}
    return Ended(at=at, op=op, tool=tool, **given)


COUNT_LOG = {
    1: progress("a", "a.1", 1),
    2: progress("a", "a.1", 2),
    3: question("a", 1),
    4: result("a.1", key="a", run=1, process=7, word="a"),
}


def good_lines() -> list[Line]:
    """Return a history of six calls, a listener, a stranger, a kill and an outage."""
    return [
        Epoch(at=0.1, name="e1"),
        Listening(at=0.5, listener="l", uris=(NORTH, SOUTH), can_resume=True),
        # A call of the handshake era, cut in the middle; what it was told last comes twice.
        sent(1, "a", "count"),
        event(1.1, "a", "s1", 1, COUNT_LOG[1]),
        event(1.2, "a", "s1", 2, COUNT_LOG[2]),
        Accepted(at=1.25, op="a", attempt=1),
        Struck(at=1.3, kind="kill", target="daphne:1"),
        Broke(at=1.3, op="a", by="server"),
        Resumed(at=1.6, op="a", after="s1.1.mac"),
        event(1.8, "a", "s1", 2, COUNT_LOG[2]),
        event(1.9, "a", "s1", 3, COUNT_LOG[3]),
        event(2.0, "a", "s1", 4, COUNT_LOG[4]),
        ended(2, "a", "count", value={"key": "a", "run": 1, "process": 7, "word": "a"}),
        # Additions to one conversation: one that begins it, one whose answer was lost, one repeated by its key.
        sent(3, "b", "add", conversation="own.0", amount=2, era="modern"),
        Got(at=3.5, op="b", attempt=1, body=result("b.1", key="b", label="own.0", total=2)),
        ended(3.5, "b", "add", conversation="own.0", value={"key": "b", "total": 2, "handle": "h"}, began=3),
        sent(4, "c", "add", conversation="own.0", amount=5, era="modern"),
        ended(4.5, "c", "add", conversation="own.0", outcome="unanswered", began=4),
        sent(5, "d", "add_row", conversation="own.0", amount=1, idempotency="k", era="modern"),
        sent(5.5, "d", "add_row", attempt=2, conversation="own.0", amount=1, idempotency="k", era="modern"),
        Got(at=6, op="d", attempt=2, body=result("d.2", key="d", label="own.0", total=8)),
        ended(
            *(6, "d", "add_row"),
            conversation="own.0",
            idempotency="k",
            value={"key": "d", "total": 8},
            began=5,
        ),
        sent(6.5, "e", "add_row", key="d", conversation="own.0", amount=1, idempotency="k"),
        Got(at=7, op="e", attempt=1, body=result("e.1", key="d", label="own.0", total=8)),
        ended(
            *(7, "e", "add_row"),
            key="d",
            conversation="own.0",
            idempotency="k",
            value={"key": "d", "total": 8},
            began=6.5,
        ),
        # A change, and who hears of it.
        sent(8, "t", "touch"),
        Got(at=8.2, op="t", attempt=1, body=result("t.1", key="t", run=2, process=7, word="")),
        ended(8.2, "t", "touch", uri=NORTH, value={"key": "t", "run": 2}, began=8),
        Got(at=9, op="l", attempt=0, body=updated(NORTH), event_id="g.5.mac", stream="g", sequence=5),
        Heard(at=9, listener="l", uri=NORTH),
        # A call that was cancelled has no answer.
        sent(10, "w", "wait"),
        event(10.1, "w", "s2", 1, progress("w", "w.1", 1)),
        Accepted(at=10.2, op="w", attempt=1),
        Cancelled(at=10.3, op="w"),
        ended(10.4, "w", "wait", outcome="cancelled"),
        Probed(at=11, what="session", victim="user-0", stranger="user-1", foreign="404 gone", unknown="404 gone"),
        Refused(at=12, op="z", client=0, what="after the end", status=404, is_expected=True),
        Refused(at=12, op="z", client=0, what="resume", status=502, is_expected=True),
        # Redis was down for a moment, and had lost nothing.
        Struck(at=13, kind="restart of Redis", lasted=1),
        Asked(at=13.5, server="daphne:1", what="a stream", status=503, retry_after="5"),
        Refused(at=13.6, op="z", client=0, what="tools/call", status=503, retry_after="5", is_expected=True),
        Returned(at=14.2, server="daphne:1", seconds=0.2),
        Deaf(at=60, listener="l"),
    ]


def good_truth() -> Truth:
    """Return what the database holds after the good run."""
    return Truth(
        runs=(
            KeptRun(key="a", tool="count", process=7, has_ended=True),
            KeptRun(key="b", tool="add", process=7, has_ended=True),
            KeptRun(key="c", tool="add", process=8, has_ended=True),
            KeptRun(key="t", tool="touch", process=7, has_ended=True),
            KeptRun(key="w", tool="wait", process=7, has_ended=False),
        ),
        streams=(
            KeptStream(name="s1", kind="post", first=1, last=4, is_open=False, events=dict(COUNT_LOG)),
            KeptStream(name="s2", kind="post", first=1, last=1, is_open=False, events={1: progress("w", "w.1", 1)}),
            KeptStream(name="g", kind="standalone", first=5, last=5, is_open=True, events={5: updated(NORTH)}),
        ),
        calls=(
            KeptCall(id="1", state="succeeded", fence=2, request_id="a.1", stream="s1"),
            KeptCall(id="2", state="cancelled", fence=1, request_id="w.1", stream="s2"),
        ),
        conversations=(
            KeptConversation(
                label="own.0",
                generation=3,
                total=8,
                keys=("b", "c", "d"),
                tallies=("d",),
                generations=(1, 2, 3),
                lengths=(1, 2, 3),
            ),
            # Begun by somebody who was killed before the first commit.
            KeptConversation(label="", generation=0, total=0, keys=(), tallies=(), generations=(), lengths=()),
        ),
        tallies={"own.0": ("d",)},
    )
