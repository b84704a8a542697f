"""What a client got of a stream is the beginning of the log: all of it, in order, and nothing else."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

from tests.chaos.history import Got, Line, Listening, Sent, grouped, of_type
from tests.chaos.rules.broken import Broken
from tests.chaos.truth import KeptStream, Truth

POST: Final = "post"
UPDATED: Final = "notifications/resources/updated"
_ENDED: Final = frozenset({"succeeded", "failed", "interrupted"})


def events_come_in_order(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """Without what came twice, the numbers of a stream grow by one, and those of a call's stream begin at 1."""
    calls = {line.op for line in of_type(lines, Sent)}
    for (op, stream), events in grouped(of_type(lines, Got), lambda line: (line.op, line.stream)).items():
        if not stream:
            continue
        bodies: dict[str, Got] = {}
        numbers = []
        for event in events:
            known = bodies.setdefault(event.event_id, event)
            if known.body != event.body:
                yield Broken.of("events come in order", f"{op}: two events have one id", [known, event])
            elif known is event:
                numbers.append(event.sequence)
        first = 1 if op in calls else numbers[0]
        if numbers != list(range(first, first + len(numbers))):
            yield Broken.of("events come in order", f"{op}: stream {stream} came as {_shown(numbers)}", events)


def events_are_on_the_log(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """What a client got under a number is what the log has there, as far as the log is kept."""
    kept = {stream.name: stream for stream in truth.streams}
    for event in of_type(lines, Got):
        log = kept.get(event.stream)
        if log is None or event.sequence < log.first:
            continue
        if log.events.get(event.sequence) != event.body:
            here = log.events.get(event.sequence, "nothing")
            yield Broken.of("events are on the log", f"{event.op}: the log has {here[:200]} there", [event])


def logs_have_no_gaps(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """The numbers of a stream in the database run from its first to its last."""
    for stream in truth.streams:
        if sorted(stream.events) != list(range(stream.first, stream.last + 1)):
            yield Broken.of("logs have no gaps", f"{stream.name} has {_shown(sorted(stream.events))}")
        elif stream.kind == POST and stream.first != 1:
            yield Broken.of("logs have no gaps", f"{stream.name} begins at {stream.first}")


def calls_end_once_on_the_log(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """A call that has ended has one terminal event on its stream."""
    kept = {stream.name: _answers(stream) for stream in truth.streams}
    for call in truth.calls:
        if call.stream not in kept:
            continue
        found = kept[call.stream].count(call.request_id)
        if found > 1 or (call.state in _ENDED and found != 1):
            text = f"call {call.id} ({call.state}) has {found} terminal events on {call.stream}"
            yield Broken.of("calls end once on the log", text)


def calls_hear_of_themselves(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """Every message that comes for a call carries that call's names, and a listener hears of its own topics."""
    sent = {(line.op, line.attempt): line for line in of_type(lines, Sent)}
    topics = {line.listener: line.uris for line in of_type(lines, Listening)}
    for event in of_type(lines, Got):
        message = event.message
        call = sent.get((event.op, event.attempt))
        if call is not None and not _is_of(message, call):
            yield Broken.of("calls hear of themselves", f"{event.op} got what is not its own", [call, event])
        elif call is None and message.get("method") == UPDATED:
            uri = message["params"]["uri"]
            if uri not in topics.get(event.op, (uri,)):
                yield Broken.of("calls hear of themselves", f"{event.op} heard of {uri}", [event])


def progress_grows(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """Progress that a client is told of one call is always more than before."""
    for (op, _), events in grouped(of_type(lines, Got), lambda line: (line.op, line.attempt)).items():
        told: dict[str, float] = {}
        for number, event in enumerate(events):
            if event.message.get("method") == "notifications/progress":
                told.setdefault(event.event_id or str(number), event.message["params"]["progress"])
        values = list(told.values())
        if any(later <= earlier for earlier, later in pairwise(values)):
            yield Broken.of("progress grows", f"{op} was told {_shown(values)}", events)


def _is_of(message: dict[str, Any], call: Sent) -> bool:
    request_id = f"{call.op}.{call.attempt}"
    params = message.get("params", {})
    match message.get("method"):
        case "notifications/progress":
            says = str(params.get("message", "")).startswith(f"{call.key} ")
            return says and params.get("progressToken") == request_id
        case "notifications/message":
            return str(params.get("data", "")).startswith(f"{call.key} ")
        case "elicitation/create":
            return bool(params.get("message") == f"{call.key}?")
    if message.get("id") != request_id:
        return False
    value = message.get("result", {}).get("structuredContent") or {}
    return value.get("key", call.key) == call.key and value.get("word", "") in {"", call.key}


def _answers(stream: KeptStream) -> list[str]:
    found = (Got(at=0, op="", attempt=0, body=body).answers for body in stream.events.values())
    return [answer for answer in found if answer is not None]


def _shown(numbers: Sequence[float]) -> str:
    shown = ", ".join(f"{number:g}" for number in numbers[:30])
    return f"{shown}, …" if len(numbers) > 30 else shown or "nothing"
