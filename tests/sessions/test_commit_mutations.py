"""The tests of commits bite: a commit that is broken on purpose, one rule at a time, is caught by them.

A mutation is a change of the source, so that it keeps up with the code; where the line is gone, the test says so.
"""

import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final

import pytest
from django.db import IntegrityError
from hypothesis.stateful import run_state_machine_as_test
from pytest_django import Settings

from django_mcp.core.merge import merge
from django_mcp.exceptions import CorruptBlob
from django_mcp.sessions import commit as commits
from django_mcp.sessions.stores.database_state import DatabaseStateStore
from tests.sessions.calls import make
from tests.sessions.state_checks import MANY, assignments, crashes, increments, one_order
from tests.sessions.state_machine import SETTINGS, StateMachine

Check = Callable[[DatabaseStateStore], list[str]]


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One function with other words in it, and the place where it is looked up."""

    at: Any
    name: str
    function: Any
    words: dict[str, str]

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        source = textwrap.dedent(inspect.getsource(self.function))
        for before, after in self.words.items():
            assert source.count(before) == 1, f"{before!r} is not in {self.function}"
            source = source.replace(before, after)
        assert isinstance(self.function, FunctionType)
        names = {**self.function.__globals__}
        exec(source, names)
        patch.setattr(self.at, self.name, names[self.name])


def of_store(words: dict[str, str], name: str = "commit") -> Mutation:
    return Mutation(at=DatabaseStateStore, name=name, function=getattr(DatabaseStateStore, name), words=words)


IS_EXPECTED: Final = "filter(pk=conversation.id, generation=base_generation)"
MUTATIONS: Final = {
    "no generation check": of_store({IS_EXPECTED: "filter(pk=conversation.id)"}),
    # The constraint on snapshots, one of each number, does not help here.
    "no generation check, and the next free number": of_store(
        {
            IS_EXPECTED: "filter(pk=conversation.id)",
            '{"generation": number,': '{"generation": F("generation") + 1,',
            "now = timezone.now()": "nonlocal number; now = timezone.now()",
            "self._blobs.keep": "number = expected.get().generation; self._blobs.keep",
        }
    ),
    "the head before the blobs": of_store(
        {"transact(partial(move, prepared), using=self.write_alias)": "move(prepared)"}, "_move"
    ),
    "merge without the base": Mutation(
        at=commits, name="merge", function=merge, words={"if theirs == base.entry(key):": "if True:"}
    ),
}

CHECKS: Final[dict[str, Check]] = {
    "increments": lambda store: increments(store, callers=8, total=80),
    "assignments": lambda store: assignments(store, callers=6, each=3, in_step=True),
    "one order": lambda store: [wrong for seed in range(4) for wrong in one_order(store, seed=seed)],
    "crashes": crashes,
}

ATTEMPTS: Final = 5
FAILS: Final = "failed: .*IntegrityError"
OVERWRITES: Final = "overwritten unseen: "
NO_ORDER: Final = "no order explains "
CATCHES: Final = [
    ("no generation check", "increments", FAILS),
    ("no generation check", "assignments", FAILS),
    ("no generation check", "one order", "IntegrityError"),
    ("no generation check, and the next free number", "increments", r"generation \d+ counts "),
    ("no generation check, and the next free number", "assignments", OVERWRITES),
    ("no generation check, and the next free number", "one order", NO_ORDER),
    ("the head before the blobs", "crashes", "the head cannot be read: "),
    ("merge without the base", "assignments", OVERWRITES),
    ("merge without the base", "one order", NO_ORDER),
]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def keep_all_generations(settings: Settings) -> None:
    settings.DJANGO_MCP = {"STATE_HISTORY": MANY}


def violations(check: Check) -> list[str]:
    try:
        return check(make())
    except (AssertionError, CorruptBlob, IntegrityError) as error:
        return [repr(error)]


@pytest.mark.parametrize("check", CHECKS)
def test_the_commit_as_it_is_passes(check: str) -> None:
    assert violations(CHECKS[check]) == []


@pytest.mark.parametrize(("mutation", "check", "words"), CATCHES)
def test_a_broken_commit_is_caught(mutation: str, check: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[mutation].apply(monkeypatch)
    # Callers that happen not to meet see nothing wrong.
    assert any(re.search(words, violation) for _ in range(ATTEMPTS) for violation in violations(CHECKS[check]))


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_broken_commit_does_not_do_what_the_model_says(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[mutation].apply(monkeypatch)
    with pytest.raises((AssertionError, CorruptBlob, IntegrityError)):
        run_state_machine_as_test(StateMachine, settings=SETTINGS)
