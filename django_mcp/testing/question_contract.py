"""What every store holds to about questions, as tests; part of `LogStoreContract`."""

import secrets
from typing import Any

import pytest

from django_mcp.exceptions import Overloaded
from django_mcp.sessions.stores import LogStore
from django_mcp.sessions.stores.questions import MAX_QUESTIONS_PER_SESSION


class QuestionLogContract:
    """Needs the fixtures `store`, `server` and `session`."""

    def ask(self, store: LogStore, session: str, *, lifetime_seconds: float = 300, **terms: Any) -> str:
        return store.ask(session, lifetime_seconds=lifetime_seconds, **terms)

    def standing(self, store: LogStore, session: str, *questions: str) -> list[tuple[str, Any]]:
        found = store.read_questions(session, questions)
        return [(found[question].state, found[question].answer) for question in questions]

    def test_questions_have_ids_of_their_own_and_wait(self, store: LogStore, session: str) -> None:
        first, second = self.ask(store, session), self.ask(store, session)
        assert first != second
        assert self.standing(store, session, first, second) == [("waiting", None), ("waiting", None)]

    def test_the_first_answer_wins_and_a_second_one_changes_nothing(self, store: LogStore, session: str) -> None:
        question = self.ask(store, session)
        answer = {"result": {"text": "né \u0000 \ud800 🙂", "n": [1, 2.5, None, True]}}
        assert store.answer(session, question, answer)
        assert not store.answer(session, question, {"result": {"text": "second"}})
        assert self.standing(store, session, question) == [("answered", answer)]
        assert store.withdraw(session, [question]) == 0
        assert self.standing(store, session, question) == [("answered", answer)]

    def test_an_answer_that_is_not_json_is_refused_and_not_recorded(self, store: LogStore, session: str) -> None:
        question = self.ask(store, session)
        with pytest.raises(ValueError, match="not JSON compliant"):
            store.answer(session, question, float("nan"))
        assert self.standing(store, session, question) == [("waiting", None)]

    def test_an_answer_counts_only_from_the_session_that_was_asked(self, store: LogStore, session: str) -> None:
        question = self.ask(store, session)
        other = secrets.token_hex(32)
        assert not store.answer(other, question, "foreign")
        assert store.withdraw(other, [question]) == 0
        assert store.read_questions(other, [question]) == {}
        assert self.standing(store, session, question) == [("waiting", None)]
        assert not store.answer(session, question.upper(), "another")
        assert not store.answer(session, "q-0123456789abcdef", "unknown")

    def test_several_are_read_at_once(self, store: LogStore, session: str) -> None:
        questions = [self.ask(store, session) for _ in range(3)]
        store.answer(session, questions[1], None)
        store.withdraw(session, questions[2:])
        assert self.standing(store, session, *questions) == [
            ("waiting", None),
            ("answered", None),
            ("cancelled", None),
        ]
        assert store.read_questions(session, [*questions, "unknown"]).keys() == set(questions)
        assert store.read_questions(session, []) == {}

    def test_a_question_that_was_withdrawn_takes_no_answer(self, store: LogStore, session: str) -> None:
        first, second = self.ask(store, session), self.ask(store, session)
        assert store.withdraw(session, [first, second, "unknown"]) == 2
        assert store.withdraw(session, [first]) == 0
        assert not store.answer(session, first, "late")
        assert self.standing(store, session, first) == [("cancelled", None)]

    def test_a_question_expires_by_the_clock(self, store: LogStore, session: str) -> None:
        question = self.ask(store, session, lifetime_seconds=0)
        assert self.standing(store, session, question) == [("expired", None)]
        assert not store.answer(session, question, "late")
        assert store.withdraw(session, [question]) == 0
        assert self.standing(store, session, question) == [("expired", None)]

    def test_an_answer_that_came_in_time_stays(self, store: LogStore, session: str) -> None:
        question = self.ask(store, session)
        store.answer(session, question, "answer")
        store.sweep()
        assert self.standing(store, session, question) == [("answered", "answer")]

    def test_what_a_call_asked_is_found_by_who_takes_it_over(self, store: LogStore, session: str) -> None:
        call = secrets.token_hex(16)
        first = self.ask(store, session, call=call, key="city")
        second = self.ask(store, session, call=call, key="date")
        self.ask(store, session, call=secrets.token_hex(16), key="city")
        self.ask(store, session)
        store.answer(session, first, {"city": "Oslo"})
        found = [(record.id, record.key, record.answer) for record in store.questions_of(call)]
        assert found == [(first, "city", {"city": "Oslo"}), (second, "date", None)]
        assert {(record.session, record.call) for record in store.questions_of(call)} == {(session, call)}
        assert store.questions_of("") == []

    def test_a_session_has_so_many_questions_at_once(self, store: LogStore, session: str) -> None:
        questions = [self.ask(store, session) for _ in range(MAX_QUESTIONS_PER_SESSION)]
        with pytest.raises(Overloaded, match="Too many questions at once"):
            self.ask(store, session)
        self.ask(store, secrets.token_hex(32))
        store.answer(session, questions[0], "answer")
        self.ask(store, session, lifetime_seconds=0)
        self.ask(store, session)
