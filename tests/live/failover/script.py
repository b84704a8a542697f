"""The failover script: every step by its name."""

from tests.live.failover import cancelling, changes, deaths, questions, resuming, sessions
from tests.live.failover.stage import Step

STEPS: tuple[Step, ...] = (
    Step(title="a session is used at the other process", play=sessions.use_elsewhere),
    Step(title="twenty calls alternate", play=sessions.alternate),
    Step(title="a session terminated at B is over at A", play=sessions.terminate),
    Step(title="requestState is opened at the other process", play=sessions.finish_the_rounds),
    Step(title="logging/setLevel at B changes what a call at A sends", play=sessions.set_level),
    Step(title="a parameter asks at A, the user answers at B", play=questions.answer_a_parameter),
    Step(title="a parameter asks at A, the model answers at B", play=questions.answer_a_parameter_by_model),
    Step(title="a parameter asks at A, the roots come to B", play=questions.answer_a_parameter_by_roots),
    Step(title="a body asks at A, the user answers at B", play=questions.answer_a_body),
    Step(title="a body asks at A, the model answers at B", play=questions.answer_a_body_by_model),
    Step(title="a body asks at A, the roots come to B", play=questions.answer_a_body_by_roots),
    Step(title="the first answer counts, others get 202", play=questions.answer_twice),
    Step(title="a call is resumed while it runs", play=resuming.resume_a_call_that_runs),
    Step(title="a call is resumed after it ended, until all is delivered", play=resuming.resume_a_call_that_has_ended),
    Step(title="a call is resumed from its priming event", play=resuming.resume_from_the_beginning),
    Step(title="the newest reader of a stream is the only one", play=resuming.resume_twice),
    Step(title="a bad event id is refused, always alike", play=resuming.refuse_bad_ids),
    Step(title="an expired event id is refused", play=resuming.refuse_expired_ids),
    Step(title="a call at A is cancelled at B", play=cancelling.cancel),
    Step(title="a call in a thread at A is cancelled at B", play=cancelling.cancel_in_a_thread),
    Step(title="a silent call at A is cancelled at B within a second", play=cancelling.cancel_in_silence),
    Step(title="a call of another session is not cancelled", play=cancelling.cancel_what_is_not_ours),
    Step(title="a subscription at A hears of a change at B", play=changes.tell_a_subscription, tells=True),
    Step(title="streams at A hear of a change by a command", play=changes.tell_by_a_command, tells=True),
    Step(title="a GET stream at A hears of changes at B once", play=changes.tell_a_session, tells=True),
    Step(title="of two GET streams the newest alone hears", play=changes.tell_the_newest_stream, tells=True),
    Step(title="two sessions hear of a change once each", play=changes.tell_two_sessions, tells=True),
    Step(
        title="a GET stream resumed at B hears what it missed", play=changes.tell_a_stream_that_comes_back, tells=True
    ),
    Step(title="A dies: a repeatable call goes on", play=deaths.lose_a_repeatable_call, loses_a=True),
    Step(
        title="A dies: a repeatable call goes on behind its client",
        play=deaths.lose_a_repeatable_call_behind_its_client,
        loses_a=True,
    ),
    Step(title="A dies: a call that runs once is lost", play=deaths.lose_a_call_that_runs_once, loses_a=True),
    Step(title="A dies: a call in a thread is lost", play=deaths.lose_a_call_in_a_thread, loses_a=True),
    Step(title="A dies: a call before its body begins at B", play=deaths.lose_a_call_before_its_body, loses_a=True),
    Step(title="A dies: a question is not put twice", play=deaths.lose_a_call_that_was_answered, loses_a=True),
    Step(title="A dies: a body that asks is lost", play=deaths.lose_a_body_that_asks, loses_a=True),
    Step(title="A dies: a cancelled call does not begin again", play=deaths.lose_a_cancelled_call, loses_a=True),
    Step(title="A dies: a GET stream goes on", play=deaths.lose_a_standalone_stream, loses_a=True),
    Step(title="A dies: a call at B goes on", play=deaths.keep_what_runs_at_b, loses_a=True),
)
