"""Calls end once and run once."""

import json
import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, Final

from tests.chaos.history import Accepted, Cancelled, Ended, Got, Line, Refused, Sent, grouped, of_type
from tests.chaos.rules.answers import is_expiry
from tests.chaos.rules.broken import Broken
from tests.chaos.rules.losses import Loss, between, losses
from tests.chaos.truth import Truth

_TOLD: Final = frozenset({"answered", "failed", "worker_lost"})
WITHOUT_RUN: Final = frozenset({"look", "add_row"})
"""Tools that leave no trace of a run: the one changes nothing, the other leaves its own in one transaction."""


def calls_end_once(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """An accepted call has exactly one terminal event, however often that is delivered; none if its stream is gone."""
    answers = grouped(of_type(lines, Got), lambda line: line.answers)
    cancelled = {line.op for line in of_type(lines, Cancelled)}
    accepted = {(line.op, line.attempt) for line in of_type(lines, Accepted)}
    hung = {line.op for line in of_type(lines, Ended) if line.outcome == "hung"}
    # Whether it may be gone is for another rule.
    gone = {line.op for line in of_type(lines, Refused) if is_expiry(line)}
    for sent in of_type(lines, Sent):
        mine = [line for line in answers.get(f"{sent.op}.{sent.attempt}", ()) if line.op == sent.op]
        distinct = {(line.event_id, line.body) for line in mine}
        if len(distinct) > 1:
            yield Broken.of("calls end once", f"{sent.op} ended {len(distinct)} times", [sent, *mine])
        if not mine and (sent.op, sent.attempt) in accepted and sent.op not in cancelled | hung | gone:
            yield Broken.of("calls end once", f"{sent.op} was accepted and never ended", [sent])


def calls_run_once(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """The body of a tool that may not be repeated runs at most once for a call, repeats of the call included.

    A Redis that forgot that a key or a state was used lets it be used once more, for each time that it forgot.
    """
    found = losses(lines)
    ends = grouped(of_type(lines, Ended), lambda line: line.key)
    sent = grouped(of_type(lines, Sent), lambda line: line.key)
    runs: dict[str, int] = {}
    for run in truth.runs:
        runs[run.key] = runs.get(run.key, 0) + 1
    for key, requests in sent.items():
        if (
            runs.get(key, 0) > 1 + _times_forgotten(found, requests, ends.get(key, ()))
            and not requests[0].is_repeatable
        ):
            yield Broken.of("calls run once", f"{key} ({requests[0].tool}) ran {runs[key]} times", requests)


def what_was_answered_ran(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """A call that succeeded has run, to its end: nobody was told of a run that left nothing behind."""
    ended = {run.key for run in truth.runs if run.has_ended}
    for line in of_type(lines, Ended):
        if line.outcome == "answered" and line.tool not in WITHOUT_RUN and line.key not in ended:
            yield Broken.of("what was answered ran", f"{line.op} ({line.tool}) left no run behind", [line])


def keys_keep_their_outcome(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """An idempotency key has one outcome, whoever asks, when and where.

    Who was told that it is unknown may be told it later; what was told once is never unknown again, unless Redis lost
    something in between.
    """
    found = losses(lines)
    told = [line for line in of_type(lines, Ended) if line.outcome in _TOLD]
    for key, outcomes in grouped(told, lambda line: line.idempotency).items():
        known = [line for line in outcomes if line.outcome != "worker_lost"]
        if not key or not known:
            continue
        for one, other in combinations(sorted(outcomes, key=lambda line: line.at), 2):
            if _differ(one, other) and not between(found, one.began, other.at):
                yield Broken.of("keys keep their outcome", f"{key} had different outcomes", outcomes)
                break


def _differ(one: Ended, other: Ended) -> bool:
    """Say whether somebody was told something else than somebody before."""
    if "worker_lost" not in {one.outcome, other.outcome}:
        return _outcome(one) != _outcome(other)
    return one.outcome != "worker_lost" and other.began > one.at


def _times_forgotten(found: Sequence[Loss], requests: Sequence[Sent], ends: Sequence[Ended]) -> int:
    """Return how many losses may have taken away what was known of a call between its requests."""
    if len(requests) < 2:
        return 0
    first, last = requests[0].at, max(line.at for line in (*requests, *ends))
    told = min((line.at for line in ends if line.outcome in _TOLD), default=math.inf)
    return sum(loss.may_have_forgotten(told) for loss in between(found, first, last))


def _outcome(line: Ended) -> tuple[Any, ...]:
    return line.outcome, json.dumps(line.value, sort_keys=True), line.detail
