"""The judge: every rule, asked of one history and of what the database holds at its end."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tests.chaos.history import Line
from tests.chaos.rules import answers, calls, conversations, listeners, losses, outages, strangers, streams
from tests.chaos.rules.broken import Broken
from tests.chaos.truth import Truth

Rule = Callable[[Sequence[Line], Truth], Iterator[Broken]]

RULES: Final[tuple[Rule, ...]] = (
    answers.nobody_hangs,
    answers.sessions_stay,
    answers.nothing_is_refused,
    calls.calls_end_once,
    calls.calls_run_once,
    calls.what_was_answered_ran,
    calls.keys_keep_their_outcome,
    streams.events_come_in_order,
    streams.events_are_on_the_log,
    streams.logs_have_no_gaps,
    streams.calls_end_once_on_the_log,
    streams.calls_hear_of_themselves,
    streams.progress_grows,
    conversations.additions_count_once,
    conversations.answers_hold_what_was_acknowledged,
    conversations.conversations_stay,
    conversations.what_is_lost_stays_lost,
    conversations.generations_form_a_chain,
    conversations.states_never_go_back,
    conversations.rows_stand_with_states,
    conversations.snapshots_are_whole,
    listeners.changes_are_heard,
    losses.losses_are_noticed,
    losses.what_lasts_is_not_doubted,
    outages.outages_are_told,
    outages.service_returns,
    strangers.strangers_learn_nothing,
)


def judge(lines: Sequence[Line], truth: Truth) -> list[Broken]:
    """Return all that was broken."""
    return [broken for rule in RULES for broken in rule(lines, truth)]
