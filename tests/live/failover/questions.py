"""Questions: asked at A, answered at B, once."""

from typing import Any

from tests.live.failover.stage import COLOUR, Stage, begin, new_name, succeeded

ASK_USER, ASK_MODEL, ASK_ROOTS = "elicitation/create", "sampling/createMessage", "roots/list"
REPLY = {"role": "assistant", "content": {"type": "text", "text": "green"}, "model": "a-model"}
ROOTS = {"roots": [{"uri": "file:///one"}, {"uri": "file:///two"}]}


def answer_a_parameter(stage: Stage) -> None:
    _answer_elsewhere(stage, "paint", ASK_USER, COLOUR, "green")


def answer_a_parameter_by_model(stage: Stage) -> None:
    _answer_elsewhere(stage, "paint_by_model", ASK_MODEL, REPLY, "green")


def answer_a_parameter_by_roots(stage: Stage) -> None:
    _answer_elsewhere(stage, "paint_by_roots", ASK_ROOTS, ROOTS, "file:///one file:///two")


def answer_a_body(stage: Stage) -> None:
    name = new_name()
    stage.allow(name)
    _answer_elsewhere(stage, "paint_while_asking", ASK_USER, COLOUR, "green", name)


def answer_a_body_by_model(stage: Stage) -> None:
    _answer_elsewhere(stage, "sample_while_running", ASK_MODEL, REPLY, "green")


def answer_a_body_by_roots(stage: Stage) -> None:
    _answer_elsewhere(stage, "list_roots_while_running", ASK_ROOTS, ROOTS, "file:///one file:///two")


def answer_twice(stage: Stage) -> None:
    here, there = stage.pair()
    other = stage.session().at(stage.b.port)
    name = new_name()
    running, message = begin(here, "paint_while_asking", name=name)
    with running:
        question = running.next_message(ASK_USER)
        red = {"action": "accept", "content": {"colour": "red"}}
        # Somebody else's answer is taken like any other that nobody waits for.
        assert other.reply(question, red).status == 202
        for caller, answer in ((there, COLOUR), (here, red), (there, red)):
            assert caller.reply(question, answer).status == 202
        stage.allow(name)
        assert succeeded(running.next_response(message))["said"] == "green"
    assert there.reply(question, red).status == 202


def _answer_elsewhere(
    stage: Stage, tool: str, method: str, answer: dict[str, Any], said: str, name: str | None = None
) -> None:
    here, there = stage.pair()
    name = name or new_name()
    running, message = begin(here, tool, name=name)
    with running:
        assert there.reply(running.next_message(method), answer).status == 202
        assert succeeded(running.next_response(message))["said"] == said
    assert stage.count(name, "run") == 1
