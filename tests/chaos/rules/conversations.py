"""Conversations lose nothing that was acknowledged, gain nothing that nobody did, and never go back.

One that its store lost is over: what was acknowledged of it is gone, for good and for everybody.
"""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import accumulate
from typing import Final

from tests.chaos.history import Ended, Line, Sent, grouped, of_type
from tests.chaos.jobs import REFUSED
from tests.chaos.rules.broken import Broken
from tests.chaos.rules.losses import TAIL_SECONDS, between, losses
from tests.chaos.truth import KeptConversation, Truth

IN_USE_SECONDS: Final = 60.0 + 5.0 + 1.0
"""A conversation that was not used for so long goes on after a loss of the newest writes: the interval in which a use
is recorded, by how much a clock may go back, and the beat that was lost too."""
ADDS: Final = frozenset({"add", "add_async", "add_row"})


def additions_count_once(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """What was acknowledged is in the state, what is there was attempted, each once; the total is their sum."""
    kept = _by_label(truth)
    # Whether they may be lost is for another rule.
    over = _lost_labels(lines, truth)
    sent = [line for line in of_type(lines, Sent) if line.tool in ADDS]
    amounts = {line.key: line.amount for line in sent}
    attempted = grouped(sent, lambda line: line.conversation)
    done = [line for line in of_type(lines, Ended) if line.tool in ADDS and line.outcome == "answered"]
    acknowledged = grouped(done, lambda line: line.conversation)
    for label, requests in attempted.items():
        found = kept.get(label, [])
        answers = acknowledged.get(label, [])
        if len(found) > 1:
            yield Broken.of("additions count once", f"{len(found)} conversations are {label}", requests)
        keys = [key for one in found for key in one.keys]
        lost = [line for line in answers if line.key not in keys and label not in over]
        if lost:
            yield Broken.of("additions count once", f"{label}: {len(lost)} acknowledged additions are lost", lost)
        strange = sorted(set(keys) - {line.key for line in requests})
        if strange:
            yield Broken.of("additions count once", f"{label}: nobody asked for {strange[:5]}")
        if len(set(keys)) < len(keys):
            twice = sorted({key for key in keys if keys.count(key) > 1})
            yield Broken.of("additions count once", f"{label}: {twice[:5]} count twice", requests)
        total = sum(one.total for one in found)
        if not strange and total != sum(amounts[key] for key in keys):
            yield Broken.of("additions count once", f"{label}: the total {total} is not the sum", requests)


def answers_hold_what_was_acknowledged(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """A total holds all additions that were acknowledged before it was asked for, and none that was not sent."""
    sent = {line.key: line for line in reversed(of_type(lines, Sent)) if line.tool in ADDS}
    attempts = grouped(sent.values(), lambda line: line.conversation)
    for label, answers in grouped(_fresh(lines), lambda line: line.conversation).items():
        done = sorted((line for line in answers if line.tool in ADDS), key=lambda line: line.at)
        sums = [0, *accumulate(_amount(sent, line) for line in done)]
        times = [line.at for line in done]
        tried = sorted(attempts.get(label, ()), key=lambda line: line.at)
        most = [0, *accumulate(line.amount for line in tried)]
        sendings = [line.at for line in tried]
        for line in answers:
            own = _amount(sent, line) if line.tool in ADDS else 0
            least = sums[bisect_right(times, line.began)] + own
            if not least <= _total(line) <= most[bisect_right(sendings, line.at)]:
                text = f"{label} was {_total(line)} for {line.op}, and {least} was acknowledged before"
                yield Broken.of("answers hold what was acknowledged", text, [*done[-5:], line])


def conversations_stay(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """A conversation is not over unless Redis lost something of it: of its newest writes, where it lost no others."""
    found = losses(lines)
    used = grouped(of_type(lines, Sent), lambda line: line.conversation)
    refused = {line.conversation: line for line in reversed(_refusals(lines))}
    for label in sorted({*refused, *_lost_labels(lines, truth)} - {""}):
        line = refused.get(label)
        times = [sent.at for sent in used.get(label, ())]
        causes = between(found, min(times, default=0.0), math.inf if line is None else line.at)
        if not any(loss.is_all or _was_used(times, loss.at, loss.until) for loss in causes):
            yield Broken.of(
                "conversations stay", f"{label} is over, and nothing of it was lost", [line] if line else []
            )


def what_is_lost_stays_lost(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """Whose handle was refused once is never served again, as an older state of it would be."""
    refused = {line.conversation: line for line in reversed(_refusals(lines))}
    for line in _fresh(lines):
        before = refused.get(line.conversation)
        if before is not None and line.began > before.at:
            text = f"{line.conversation} was over for {before.op} and is there for {line.op}"
            yield Broken.of("what is lost stays lost", text, [before, line])


def generations_form_a_chain(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """The generations of a conversation run from 1 to its head, and each has one addition more than the one before."""
    for one in truth.conversations:
        expected = tuple(range(1, one.generation + 1))
        if one.generations != expected or one.lengths != expected:
            text = f"{one.label} at {one.generation}: generations {one.generations}, lengths {one.lengths}"
            yield Broken.of("generations form a chain", text[:500])


def states_never_go_back(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """Whoever begins after an answer sees at least what that answer had."""
    for label, answers in grouped(_fresh(lines), lambda line: line.conversation).items():
        running: list[tuple[float, int, Ended]] = []
        highest: Ended | None = None
        for number, line in enumerate(sorted(answers, key=lambda line: line.began)):
            while running and running[0][0] <= line.began:
                ended = heappop(running)[2]
                if highest is None or _total(ended) > _total(highest):
                    highest = ended
            if highest is not None and _total(line) < _total(highest):
                text = f"{label} was {_total(highest)} and is {_total(line)} for {line.op}"
                yield Broken.of("states never go back", text, [highest, line])
            heappush(running, (line.at, number, line))


def rows_stand_with_states(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """A row that was written with a state is there if and only if the state says so."""
    for label, found in _by_label(truth).items():
        stated = sorted(key for one in found for key in one.tallies)
        written = sorted(truth.tallies.get(label, ()))
        if stated != written:
            differing = sorted(set(stated) ^ set(written))[:5] or "some that are there twice"
            yield Broken.of("rows stand with states", f"{label}: rows and state differ in {differing}")
    orphans = sorted(truth.tallies.keys() - _by_label(truth).keys())
    if orphans:
        yield Broken.of("rows stand with states", f"rows of {orphans[:5]} belong to no conversation")


def snapshots_are_whole(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """The blobs of every snapshot are there and hash to their names."""
    for one in truth.conversations:
        if one.damages:
            yield Broken.of("snapshots are whole", f"{one.label}: {'; '.join(one.damages[:5])}")


def _by_label(truth: Truth) -> dict[str, list[KeptConversation]]:
    """Return the conversations that anybody ever committed to."""
    found: dict[str, list[KeptConversation]] = {}
    for one in truth.conversations:
        if one.label:
            found.setdefault(one.label, []).append(one)
    return found


def _fresh(lines: Sequence[Line]) -> list[Ended]:
    """Return what was seen of totals; a repeat under a key is told what was true when the call ran."""
    seen = [line for line in of_type(lines, Ended) if line.value is not None and "total" in line.value]
    return [line for line in seen if line.key == line.op]


def _refusals(lines: Sequence[Line]) -> list[Ended]:
    """Return the calls whose handle was refused."""
    return [line for line in of_type(lines, Ended) if line.outcome == "failed" and line.detail.startswith(REFUSED)]


def _lost_labels(lines: Sequence[Line], truth: Truth) -> set[str]:
    """Return the labels of the conversations that the store has ended because it lost something of them."""
    lost = set(truth.lost)
    handles = {(line.conversation, line.value.get("handle")) for line in of_type(lines, Ended) if line.value}
    return {label for label, handle in handles if handle and hashlib.sha256(handle.encode()).hexdigest() in lost}


def _was_used(times: Sequence[float], at: float, until: float) -> bool:
    return any(at - TAIL_SECONDS - IN_USE_SECONDS <= time <= until for time in times)


def _amount(sent: Mapping[str, Sent], line: Ended) -> int:
    return sent[line.key].amount if line.key in sent else 0


def _total(line: Ended) -> int:
    return int((line.value or {})["total"])
