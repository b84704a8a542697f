"""The stage of the failover script: two processes of one service, and what every step does with them."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.live.server import Served
from tests.live.wire import HANDSHAKE, Answer, Caller, HeaderList, Streaming, tool_call
from tests.services import wait_until

WAIT_SECONDS = 25.0
COLOUR = {"action": "accept", "content": {"colour": "green"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Process A, which some steps lose, and process B, with the access tokens of two users."""

    a: Served
    b: Served
    tokens: Mapping[str, str]
    streams: list[Streaming] = field(default_factory=list)

    def close(self) -> None:
        """Close what steps have left open."""
        for stream in self.streams:
            stream.close()

    def session(self, user: str = "", version: str = HANDSHAKE) -> Caller:
        """Return a caller with a session that was begun at A."""
        headers: HeaderList = [("Authorization", f"Bearer {self.tokens[user]}")] if user else []
        caller = Caller(port=self.a.port, headers=headers, streams=self.streams)
        assert caller.initialize(version).status == 200
        return caller

    def pair(self) -> tuple[Caller, Caller]:
        """Return one session, as a client of A and as a client of B."""
        here = self.session()
        return here, here.at(self.b.port)

    def at_b(self) -> Caller:
        """Return somebody else, at B."""
        return Caller(port=self.b.port)

    def process_of_b(self) -> int:
        return int(structured(self.at_b().modern_call("process"))["process"])

    def allow(self, name: str, steps: int = 1) -> None:
        """Let the tool that was called with this name take so many more steps."""
        assert self.at_b().modern_call("allow", {"name": name, "steps": steps}).result["isError"] is False

    def count(self, name: str, what: str) -> int:
        """Return how many entries of a kind the tools that were called with this name have left."""
        note = {"note": f"{name}: {what}"}
        return int(structured(self.at_b().modern_call("count_entries", note))["result"])

    def end_leases(self, process: int) -> None:
        """Let the time of the leases run out that a dead process held."""
        structured(self.at_b().modern_call("end_leases", {"process": process}))

    def wait_for(self, name: str, what: str) -> None:
        wait_until(lambda: self.count(name, what) > 0, seconds=WAIT_SECONDS, what=f"the entry of {what!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that must hold.

    A step that `loses_a` yields where A is to be killed, and again where the time of A's leases is to be over. Steps
    run at once, but for those that tell everybody of a change: they come one after another, so that none hears of
    another's.
    """

    title: str
    play: Callable[[Stage], Iterator[None] | None]
    tells: bool = False
    loses_a: bool = False


def new_name() -> str:
    return secrets.token_hex(6)


def structured(answer: Answer) -> dict[str, Any]:
    assert not answer.result.get("isError"), answer.result
    return dict(answer.result["structuredContent"])


def begin(caller: Caller, tool: str, **arguments: Any) -> tuple[Streaming, dict[str, Any]]:
    """Call a tool and read its answer as it comes; return the message of the request too."""
    message = tool_call(tool, arguments)
    return caller.post_stream(message), message


def progress(stream: Streaming, upto: int) -> list[float]:
    """Return the progress that is reported next, up to some value."""
    values: list[float] = []
    while not values or values[-1] < upto:
        values.append(stream.next_message("notifications/progress")["params"]["progress"])
    return values


def resume(caller: Caller, last_event_id: str | None) -> Streaming:
    """Resume a stream; it begins by repeating the id that it was given."""
    assert last_event_id is not None
    stream = caller.listen(last_event_id)
    assert stream.status == 200, stream.status
    first = stream.next_event()
    assert (first.id, first.data) == (last_event_id, ""), first
    assert first.retry is not None
    return stream


def succeeded(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the structured result that a response carries."""
    assert "result" in message, message
    assert not message["result"].get("isError"), message
    return dict(message["result"]["structuredContent"])


def methods(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what notifications are of, without the words they all begin with."""
    return [str(message["method"]).removeprefix("notifications/") for message in messages]
