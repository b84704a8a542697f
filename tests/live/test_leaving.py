"""A body that runs once, when its client goes away in the middle of it, and when its server does."""

from pathlib import Path
from typing import Any

import pytest

from tests.live.server import CONSUMERS, Kind, Served
from tests.live.wire import Caller
from tests.services import wait_until

pytestmark = pytest.mark.live

CONSENT = {"ask_consent": {"action": "accept", "content": {"ok": True}}}


@pytest.mark.parametrize("kind", [*CONSUMERS, Kind.VIEW_ASGI, Kind.VIEW_WSGI])
def test_the_outcome_of_a_body_whose_client_left_is_for_the_repeat(kind: Kind, tmp_path: Path) -> None:
    with Served(kind, tmp_path, mcp={"TENANT": None}) as served:
        caller = Caller(port=served.port)

        last_round = begin_round(caller)
        with caller.leave_open("tools/call", last_round):
            wait_until(lambda: count(caller) == 1, seconds=20, what="the body to begin")
        if kind != Kind.VIEW_WSGI:  # which is never told
            wait_until(
                lambda: count(caller, "left: alone") == 1, seconds=20, what="the body to learn that it is alone"
            )
        assert caller.modern_call("let_go").text == "let go"
        wait_until(lambda: count(caller) == 2, seconds=20, what="the body to end")
        repeated = caller.modern("tools/call", last_round)
        assert repeated.status == 200, repeated
        assert repeated.result["isError"] is False, repeated
        assert len(repeated.result["structuredContent"]["entries"]) == 2
        assert count(caller) == 2
        assert "Traceback" not in served.log


def test_a_body_whose_server_was_killed_is_not_run_again(tmp_path: Path) -> None:
    with (
        Served(Kind.UVICORN, tmp_path, mcp={"TENANT": None}) as first,
        Served(Kind.DAPHNE, tmp_path, mcp={"TENANT": None}) as second,
    ):
        caller = Caller(port=first.port)
        last_round = begin_round(caller)
        with caller.leave_open("tools/call", last_round):
            wait_until(lambda: count(caller) == 1, seconds=20, what="the body to begin")
            first.kill()
        there = caller.at(second.port)
        assert int(second.run("tests.live.leases")) == 1
        for _ in range(2):
            repeated = there.modern("tools/call", last_round)
            assert repeated.status == 200
            assert repeated.error["code"] == -32603
            assert repeated.error["data"] == {"reason": "worker_lost"}
        assert count(there) == 1


def begin_round(caller: Caller) -> dict[str, Any]:
    """Call the slow tool, and return the parameters of its last round."""
    state = caller.modern_call("write_slowly", {"note": "left"}).result["requestState"]
    return {
        "name": "write_slowly",
        "arguments": {"note": "left"},
        "requestState": state,
        "inputResponses": CONSENT,
    }


def count(caller: Caller, note: str = "left") -> int:
    counted = caller.modern_call("count_entries", {"note": note}).result
    return int(counted["structuredContent"]["result"])
