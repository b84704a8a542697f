"""Whatever is done in whatever order, the store says what a model of it in plain dicts says."""

from collections import Counter

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.sessions.state_machine import EVENTS, SETTINGS, StateMachine

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def seen() -> Counter[str]:
    StateMachine.seen = Counter()
    return StateMachine.seen


def test_the_store_does_what_the_model_says(seen: Counter[str]) -> None:
    run_state_machine_as_test(StateMachine, settings=SETTINGS)
    needed = {"committed", "merged", "conflict", "paged", "crashed", "collected", "forked", "rewound", "redeemed"}
    assert seen.keys() >= needed, "the runs were too tame to prove anything"


def test_a_call_ends_as_the_model_says_whatever_happens_to_its_conversation_meanwhile(seen: Counter[str]) -> None:
    machine = StateMachine()
    try:
        for event in EVENTS:
            machine.call_while_something_happens(0, [("assign", "a", event)], event)
            machine.all_that_is_kept_reads_back()
    finally:
        machine.teardown()
    assert seen.keys() >= {"merged", "ended meanwhile", "revoked meanwhile", "refused", "base gone"}
