"""What must hold of commits, each as a function that tries it on a store and returns what it found wrong.

The tests ask that of the real store, and of stores that were broken on purpose.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from django_mcp.exceptions import CorruptBlob, StateConflict
from django_mcp.sessions.stores.state import ConversationRecord, StateStore
from tests.databases import together
from tests.sessions.calls import ALICE, Call, Crash, crash_at, values_of
from tests.sessions.linearizability import INCREMENT, Operation, linearize

T = TypeVar("T")

MANY: Final = 10_000
KEYS: Final = ("a", "b", "c", "d")


def begin(store: StateStore) -> ConversationRecord:
    return store.begin(**ALICE.owner).conversation


def read(store: StateStore, record: ConversationRecord) -> Call:
    """Begin a call with what is there now."""
    return Call(store, store.find(record.id, **ALICE.owner))


def increment(value: int) -> int:
    return value + INCREMENT


def increments(store: StateStore, *, callers: int = 64, total: int = 1_000) -> list[str]:
    """So many callers at once, so many increments in all: each is one generation and none is lost."""
    record = begin(store)

    def work(number: int) -> None:
        for _ in range(total // callers + (number < total % callers)):
            call = read(store, record)
            call.state.update("count", increment, 0)
            call.commit()

    found = [f"an increment failed: {error!r}" for error in together(callers, work) if error is not None]
    states = generations(store, record)
    found += [f"generation {number} counts {state}" for number, state in states.items() if state != {"count": number}]
    if len(states) != total:
        found.append(f"{total} increments made {len(states)} generations")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """An assignment that its caller knows to be kept."""

    generation: int
    key: str
    saw: str | None
    wrote: str
    own: str
    step: int


def assignments(store: StateStore, *, callers: int, each: int, in_step: bool = False) -> list[str]:
    """Each assignment is kept, on what its caller had read, or its caller learns of a conflict.

    Args:
        in_step: nobody commits before all have read.
    """
    record = begin(store)
    meet = _meeting(callers if in_step else 0)
    found: list[str] = []

    def work(number: int) -> list[Assigned]:
        kept: list[Assigned] = []
        for step in range(each):
            call = read(store, record)
            key, own, wrote = KEYS[(number + step) % 3], f"own {number}", f"{number}/{step}"
            saw = call.state.get(key)
            call.state[key] = wrote
            call.state[own] = step
            meet()
            try:
                made = call.commit().generation
                kept.append(Assigned(generation=made, key=key, saw=saw, wrote=wrote, own=own, step=step))
            except StateConflict as conflict:
                if conflict.keys != (key,):
                    found.append(f"a conflict of {key!r} names {conflict.keys}")
            except Exception as error:
                found.append(f"an assignment failed: {error!r}")
            meet()
        return kept

    made: list[Assigned] = []
    for outcome in together(callers, work):
        made += _returned(outcome)
    if in_step and len(made) == callers * each:
        found.append("nobody met anybody")
    return found + _unexplained(generations(store, record), made)


def _unexplained(states: dict[int, dict[str, Any]], made: list[Assigned]) -> list[str]:
    """Return which generations are not what the one assignment that made them says."""
    found = []
    for number, count in (Counter(assigned.generation for assigned in made) - Counter(list(states))).items():
        found.append(f"generation {number} was acknowledged {count} times more than it is there")
    for assigned in made:
        before, after = states.get(assigned.generation - 1, {}), states.get(assigned.generation)
        if before.get(assigned.key) != assigned.saw:
            found.append(f"overwritten unseen: {assigned} on {before}")
        if after != {**before, assigned.key: assigned.wrote, assigned.own: assigned.step}:
            found.append(f"lost: {assigned} made {after} of {before}")
    if len(made) < len(states):
        found.append(f"{len(states)} generations of {len(made)} assignments")
    return found


def _meeting(callers: int) -> Callable[[], object]:
    """Return what each caller waits at until all are there; nobody waits for 0."""
    return partial(threading.Barrier(callers).wait, timeout=30) if callers else lambda: None


def _returned(outcome: T | BaseException) -> T:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def generations(store: StateStore, record: ConversationRecord) -> dict[int, dict[str, Any]]:
    """Return the state of each generation but 0. Raises AssertionError if they are no chain."""
    head = store.find(record.id, **ALICE.owner).generation
    numbers = [line.number for line in reversed(store.history(record, MANY))]
    assert numbers == list(range(1, head + 1)), f"the head is {head}, the history {numbers}"
    return {number: values_of(store, store.snapshot(record, number)) for number in numbers}


def one_order(store: StateStore, *, seed: int, callers: int = 6, each: int = 6) -> list[str]:
    """Some order explains what several callers read, assigned, deleted and incremented at once."""
    history = record_history(store, seed=seed, callers=callers, each=each, in_step=True)
    return [] if linearize(history) is not None else [f"no order explains {history}"]


def record_history(store: StateStore, *, seed: int, callers: int, each: int, in_step: bool = False) -> list[Operation]:
    record = begin(store)
    meet = _meeting(callers if in_step else 0)
    keys = KEYS[: 2 + seed % 3]

    def work(number: int) -> list[Operation]:
        choose = random.Random(f"{seed} {number}")
        done: list[Operation] = []
        for step in range(each):
            try:
                done.append(
                    _operate(store, record, choose.choice(keys), choose.random(), number * MANY + step * 100, meet)
                )
            except Exception as error:
                failed.append(error)
        return done

    history: list[Operation] = []
    failed: list[Exception] = []
    for outcome in together(callers, work):
        history += _returned(outcome)
    if failed:
        raise failed[0]
    return history


def _operate(
    store: StateStore,
    record: ConversationRecord,
    key: str,
    chance: float,
    wrote: int | None,
    meet: Callable[[], object],
) -> Operation:
    began = time.perf_counter_ns()
    call = read(store, record)
    saw = call.state.get(key)
    meet()
    done = partial(Operation, began=began, key=key)
    if chance < 0.3:
        call.state.update(key, increment, 0)
        kept = values_of(store, call.commit())
        return done(verb="increment", wrote=kept[key], ended=time.perf_counter_ns())
    if chance < 0.45 and saw is not None:
        wrote = None
        del call.state[key]
    elif chance < 0.75:
        call.state[key] = wrote
    else:
        return done(verb="read", saw=values_of(store, call.base.head), ended=time.perf_counter_ns())
    try:
        call.commit()
    except StateConflict:
        return done(verb="conflict", saw=saw, wrote=wrote, ended=time.perf_counter_ns())
    return done(verb="assign", saw=saw, wrote=wrote, ended=time.perf_counter_ns())


def crashes(store: StateStore) -> list[str]:
    """Whichever write of a commit the process dies at, the state stays, and the commit can be made anew."""
    record = begin(store)
    before = {"a": "large" * 100}
    call = read(store, record)
    call.state.update(before)
    call.commit()
    deaths = 0
    while True:
        call = read(store, record)
        call.state["a"] = "another" * 100
        try:
            with crash_at(deaths, store.write_alias):
                call.commit()
            break
        except Crash:
            deaths += 1
        try:
            head = store.find(record.id, **ALICE.owner)
            if (head.generation, values_of(store, head)) != (1, before):
                return [f"dead at write {deaths}, something was kept"]
        except CorruptBlob as error:
            return [f"dead at write {deaths}, the head cannot be read: {error}"]
    return [] if deaths >= 3 else [f"only {deaths} writes to die at"]
