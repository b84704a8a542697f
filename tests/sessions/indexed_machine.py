"""What the machines and the tests share of stores whose index is in the database and whose state is elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from hypothesis import seed, settings
from hypothesis.stateful import run_state_machine_as_test

from django_mcp.sessions.stores.remote_state import Change, Place, Refused, RemoteState, Terms
from tests.sessions.calls import Crash
from tests.sessions.state_machine import EVENTS, StateMachine

ROUNDS = 8
"""So many times there are other runs where those before left something out."""
NEEDED = {"committed", "merged", "conflict", "paged", "crashed", "collected", "forked", "rewound", "redeemed"}
ENDS = {"merged", "ended meanwhile", "revoked meanwhile", "refused", "base gone"}


class IndexedMachine(StateMachine):
    """Collection looks at what a use has told the index of."""

    writes: ClassVar[tuple[tuple[type, str], ...]]
    """The methods of which each may be what a process dies in place of, no later than when the head is written."""

    @contextmanager
    def _crash_at(self, write: int) -> Iterator[None]:
        left = write

        def dying(real: Callable[..., Any]) -> Callable[..., Any]:
            def do_or_die(*args: Any, **terms: Any) -> Any:
                nonlocal left
                if not left:
                    raise Crash
                left -= 1
                return real(*args, **terms)

            return do_or_die

        with pytest.MonkeyPatch.context() as patch:
            for owner, name in self.writes:
                patch.setattr(owner, name, dying(getattr(owner, name)))
            yield

    def _use_all(self) -> None:
        for of in self._live:
            self._found(of)


class UncheckedCommit(RemoteState):
    """Moves the head, whichever it is; put before what it is mixed into."""

    def commit(self, place: Place, base_generation: int, change: Change, terms: Terms) -> Refused | None:
        refused: Refused | None = super().commit(place, base_generation, change, terms)  # type: ignore[safe-super]
        if refused is None or refused.why != "moved" or refused.head is None:
            return refused
        return super().commit(place, refused.head.generation, change, terms)  # type: ignore[safe-super]


class ModelTests:
    """Subclass it and define the fixture `machine`."""

    runs: ClassVar[settings]
    few_runs: ClassVar[settings]
    broken: ClassVar[tuple[str, type[RemoteState]]]
    """Where the remote part is looked up, and what is put there for it: one whose commits are not checked."""

    @pytest.fixture
    def machine(self) -> type[StateMachine]:
        raise NotImplementedError("Define the fixture `machine` in the subclass.")

    def test_the_store_does_what_the_model_says(self, machine: type[StateMachine]) -> None:
        for number in range(ROUNDS):
            # The same runs each time the tests run, and others in each round.
            run_state_machine_as_test(seed(number)(machine), settings=self.runs)
            if machine.seen.keys() >= NEEDED:
                break
        assert machine.seen.keys() >= NEEDED, "the runs were too tame to prove anything"

    def test_a_call_ends_as_the_model_says_whatever_happens_to_its_conversation_meanwhile(
        self, machine: type[StateMachine]
    ) -> None:
        run = machine()
        try:
            for event in EVENTS:
                run.call_while_something_happens(0, [("assign", "a", event)], event)
                run.all_that_is_kept_reads_back()
        finally:
            run.teardown()
        assert machine.seen.keys() >= ENDS

    def test_a_commit_that_moves_any_head_does_not_do_what_the_model_says(
        self, machine: type[StateMachine], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(*self.broken)
        with pytest.raises(AssertionError):
            run_state_machine_as_test(machine, settings=self.few_runs)
