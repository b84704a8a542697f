"""The state store driven beside a model of it in plain dicts, which knows neither manifests nor blobs nor merges.

Every answer of the store is compared with the model's, and after each step all that is kept is read back.
"""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar, Final

import pytest
from django.test import override_settings
from django.utils import timezone
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from django_mcp.core.manifest import references
from django_mcp.exceptions import ConversationNotFound, CorruptBlob, StateConflict, TokenRefused
from django_mcp.models import Blob, Conversation, SessionQuota, Snapshot
from django_mcp.sessions import tokens
from django_mcp.sessions.stores import database_generations
from django_mcp.sessions.stores.state import GRACE_SECONDS, ConversationRecord, Head, StateStore
from tests.core.manifests import small_pages
from tests.core.values import same
from tests.sessions.calls import ALICE, BOB, Call, Crash, crash_at, make, values_of
from tests.sessions.state_model import (
    ABSENT,
    DAY,
    HISTORY,
    ROWS,
    TOKEN_LIFE,
    TRIM_EVERY,
    Modelled,
    Operation,
    Values,
    Working,
    operate,
    operations,
)

GRACE: Final = timedelta(seconds=GRACE_SECONDS)

SETTINGS: Final = settings(
    # The same runs each time, so that what they come across is no matter of luck. Shrinking takes minutes.
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    deadline=None,
    max_examples=40,
    stateful_step_count=40,
)


class Clock:
    """The time, for the store and for tokens; it stands still until somebody moves it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def read(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        return self.now.timestamp()


@dataclass
class OpenCall:
    """A call under way: the token it came with, what it read, the real working copy and the model's."""

    of: Modelled
    token: Issued
    generation: int
    call: Call
    working: Working
    is_failed: bool = False

    @property
    def is_based(self) -> bool:
        """Whether the store still has to keep what the call reads from."""
        return not self.of.is_over and self.generation in self.of.kept


@dataclass(frozen=True)
class Issued:
    """A token, and what the model knows of it."""

    of: Modelled
    token: str
    generation: int
    expires: datetime

    @property
    def is_revoked(self) -> bool:
        return self.generation <= self.of.revoked_up_to or self.token in self.of.revoked


generations = st.integers(0, 1 + HISTORY)
"""How far behind the head; the last ones are not kept."""
numbers = st.integers(0, 9)
"""Which of those that there are; 9: one that is over."""
EVENTS: Final = ("end", "revoke", "revoke one", "rewind", "forget")
crashes = st.none() | st.integers(0, 5)
done_by_one = st.lists(operations, min_size=1, max_size=4)


class StateMachine(RuleBasedStateMachine):
    seen: ClassVar[Counter[str]] = Counter()
    """What came about in all runs, so that a test may ask whether it was there at all."""
    trim_every: ClassVar[int] = TRIM_EVERY

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.known: list[Modelled] = []
        self.tokens: list[Issued] = []
        self.calls: list[OpenCall] = []
        self.store: StateStore = self._made()
        self._read_back: dict[str, tuple[Any, ...]] = {}
        self._patched = ExitStack()
        self._patched.enter_context(small_pages())
        self._patched.enter_context(override_settings(DJANGO_MCP={"STATE_HISTORY": HISTORY}))
        patch = self._patched.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(database_generations, "TRIM_EVERY", TRIM_EVERY)
        patch.setattr(timezone, "now", self.clock.read)
        patch.setattr(tokens, "time", SimpleNamespace(time=self.clock.seconds))

    def _made(self) -> StateStore:
        return make()

    def _crash_at(self, write: int) -> AbstractContextManager[None]:
        return crash_at(write)

    def _pass(self, time: timedelta) -> None:
        self.clock.now += time

    def teardown(self) -> None:
        self._patched.close()
        Conversation.objects.all().delete()
        SessionQuota.objects.all().delete()

    @property
    def _live(self) -> list[Modelled]:
        return [of for of in self.known if not of.is_over]

    def _of(self, number: int) -> Modelled:
        over = [of for of in self.known if of.is_over]
        if number == 9 and over:
            return over[-1]
        if not self._live:
            self._know(self.store.begin(**ALICE.owner))
        return self._live[number % len(self._live)]

    def _know(self, head: Head, *states: Values) -> Modelled:
        record, now = head.conversation, self.clock.now
        made = Modelled(
            record=record,
            created=now,
            used=now,
            states=[None, *copy.deepcopy(states)],
            trim_every=self.trim_every,
        )
        assert head.generation == made.head
        self.known.append(made)
        return made

    def _found(self, of: Modelled, *, by_handle: bool = False) -> Head | None:
        if by_handle:
            find = partial(self.store.find_by_handle, str(of.record.handle))
        else:
            find = partial(self.store.find, of.record.id)
        with pytest.raises(ConversationNotFound):
            find(**BOB.owner)
        if not of.find(self.clock.now):
            with pytest.raises(ConversationNotFound):
                find(**ALICE.owner)
            return None
        head = find(**ALICE.owner)
        assert (head.conversation.id, head.generation) == (of.record.id, of.head)
        return head

    # Conversations and tokens

    @rule()
    def begin(self) -> None:
        if len(self._live) < 3:
            self._know(self.store.begin(**ALICE.owner))

    @rule(number=numbers)
    def find_by_handle(self, number: int) -> None:
        self._found(self._of(number), by_handle=True)

    @rule(number=numbers, behind=generations)
    def issue(self, number: int, behind: int) -> None:
        of = self._of(number)
        if not of.is_over and of.head - behind in of.kept:
            self._issue(of, self.store.snapshot(of.record, of.head - behind))

    def _issue(self, of: Modelled, head: Head) -> Issued:
        token = Issued(of, tokens.issue(head, ALICE), head.generation, self.clock.now + TOKEN_LIFE)
        self.tokens.append(token)
        return token

    @rule(position=st.integers(0, 20))
    def redeem(self, position: int) -> None:
        if self.tokens:
            self._redeem(self.tokens[position % len(self.tokens)])

    def _redeem(self, token: Issued) -> None:
        of = token.of
        with pytest.raises(TokenRefused):
            tokens.redeem(token.token, BOB, self.store)
        if self.clock.now < token.expires and of.find(self.clock.now) and not token.is_revoked:
            self.seen["redeemed"] += 1
            head, claims = tokens.redeem(token.token, ALICE, self.store)
            assert (head.conversation.id, head.generation) == (of.record.id, of.head)
            assert claims.generation == token.generation
        else:
            self.seen["refused"] += 1
            with pytest.raises(TokenRefused) as caught:
                tokens.redeem(token.token, ALICE, self.store)
            assert not caught.value.is_alarm

    @rule(number=numbers, is_other_snapshot=st.booleans())
    def redeem_what_the_store_has_lost(self, number: int, is_other_snapshot: bool) -> None:
        of = self._of(number)
        head = self._found(of)
        if head is None:
            return
        lost = replace(head, snapshot="f" * 64) if is_other_snapshot else replace(head, generation=head.generation + 1)
        with pytest.raises(TokenRefused) as caught:
            tokens.redeem(tokens.issue(lost, ALICE), ALICE, self.store)
        assert caught.value.is_alarm is (lost.generation > of.revoked_up_to)

    # Calls

    @rule(number=numbers, done=done_by_one)
    def open(self, number: int, done: list[Operation]) -> None:
        self._open(self._of(number), done)

    def _open(self, of: Modelled, done: list[Operation]) -> None:
        head = self._found(of)
        if head is None:
            return
        working = Working(copy.deepcopy(of.states[-1] or {}))
        call = OpenCall(of, self._issue(of, head), of.head, Call(self.store, head), working)
        self.calls.append(call)
        self._go_on(call, done)

    @rule(position=st.integers(0, 20), done=done_by_one)
    def go_on(self, position: int, done: list[Operation]) -> None:
        if self.calls:
            self._go_on(self.calls[position % len(self.calls)], done)

    def _go_on(self, call: OpenCall, done: list[Operation]) -> None:
        try:
            for operation in done:
                operate(call.call.state, operation)
                operate(call.working, operation)
                for key in (operation[1] or ROWS[0], "a"):
                    assert same(call.call.state.get(key, ABSENT), call.working.get(key, ABSENT))
        except CorruptBlob:
            # A value that nothing keeps any more, and that the call had not read: an error, not another value.
            self.seen["base gone"] += 1
            assert not call.is_based
            call.is_failed = True

    @rule(position=st.integers(0, 20), crash=crashes)
    def finish(self, position: int, crash: int | None) -> None:
        if self.calls:
            self._finish(self.calls.pop(position % len(self.calls)), crash)

    @rule(number=numbers, calls=st.lists(done_by_one, min_size=2, max_size=3), crash=crashes)
    def call_at_once(self, number: int, calls: list[list[Operation]], crash: int | None) -> None:
        of, others = self._of(number), self.calls
        self.calls = []
        for done in calls:
            self._open(of, done)
        for call in self.calls:
            self._finish(call, crash)
        self.calls = others

    @rule(number=numbers, calls=st.lists(done_by_one, min_size=4, max_size=6))
    def call_one_by_one(self, number: int, calls: list[list[Operation]]) -> None:
        for done in calls:
            self.call_at_once(number, [done], None)

    @rule(number=numbers, done=done_by_one, event=st.sampled_from(EVENTS))
    def call_while_something_happens(self, number: int, done: list[Operation], event: str) -> None:
        others, self.calls = self.calls, []
        self.call_at_once(number, [[("fill", None, 0)]], None)
        self._open(self._of(number), done)
        if event == "end":
            self.end(number, True)
        elif event == "revoke":
            self.revoke_tokens(number, None)
        elif event == "revoke one":
            self.revoke_one_token(1)
        elif event == "rewind":
            self.rewind(number, 1)
        else:
            self.call_one_by_one(number, [[("fill", None, step)] for step in range(2 * HISTORY)])
            self.collect_until_nothing_is_young()
        for call in self.calls:
            self._redeem(call.token)
            self._go_on(call, [("read", row, None) for row in ROWS])
            self._finish(call, None)
        self.calls = others

    def _finish(self, call: OpenCall, crash: int | None) -> None:
        if call.is_failed:
            return
        if crash is not None:
            try:
                with self._crash_at(crash):
                    self._commit(call)
            except Crash:
                # Whoever called tries again what died.
                self.seen["crashed"] += 1
                self.all_that_is_kept_reads_back()
            else:
                return
        self._commit(call)

    def _commit(self, call: OpenCall) -> None:
        def check(record: ConversationRecord) -> None:
            if record.is_revoked(call.token.generation, tokens.fingerprint(call.token.token)):
                raise TokenRefused("revoked while the call ran")

        of, working = call.of, call.working
        is_stale = call.generation != of.head
        now = of.states[-1] or {}
        expected = working.applied(now if is_stale else None)
        if same(working.applied(None), working.before):
            # Nothing is left to change: the store is not asked.
            assert call.call.commit(check).generation == call.generation
            return
        try:
            head = call.call.commit(check)
        except CorruptBlob:
            self.seen["base gone"] += 1
            assert not call.is_based
        except ConversationNotFound:
            self.seen["ended meanwhile"] += 1
            assert of.is_over
        except TokenRefused:
            self.seen["revoked meanwhile"] += 1
            assert is_stale
            assert call.token.is_revoked
        except StateConflict as conflict:
            self.seen["conflict"] += 1
            assert conflict.keys == expected  # noqa: PT017 - which of them comes is the model's to say
        else:
            self.seen["merged" if is_stale else "committed"] += 1
            self.seen["paged"] += ROWS[0] in expected
            assert not of.is_over
            assert not call.token.is_revoked
            assert isinstance(expected, dict), f"a conflict of {expected} went through"
            if not same(expected, now):
                of.push(expected, self.clock.now)
            assert head.generation == of.head
            assert same(values_of(self.store, head), expected)

    # What operators do

    @rule(number=numbers, behind=generations)
    def read_as_of(self, number: int, behind: int) -> None:
        of = self._of(number)
        wanted = of.head - behind
        if of.is_over:
            return
        if wanted in of.kept:
            head = self.store.snapshot(of.record, wanted)
            assert same(values_of(self.store, head), of.states[wanted] or {})
        else:
            with pytest.raises(LookupError):
                self.store.snapshot(of.record, wanted)

    @rule(number=numbers, behind=generations)
    def rewind(self, number: int, behind: int) -> None:
        of = self._of(number)
        wanted = of.head - behind
        if of.is_over and wanted >= 0:
            with pytest.raises(ConversationNotFound):
                self.store.rewind(of.record, wanted)
        elif wanted not in of.kept:
            with pytest.raises(LookupError):
                self.store.rewind(of.record, wanted)
        else:
            self.seen["rewound"] += 1
            of.push(copy.deepcopy(of.states[wanted]), self.clock.now)
            assert self.store.rewind(of.record, wanted).generation == of.head

    @rule(number=numbers, behind=generations | st.none())
    def fork(self, number: int, behind: int | None) -> None:
        of = self._of(number)
        source = of.head - (behind or 0)
        wanted = None if behind is None else source
        if len(self._live) >= 5 or source < 0:
            return
        if of.is_over or source not in of.kept:
            with pytest.raises(ConversationNotFound if of.is_over else LookupError):
                self.store.fork(of.record, wanted)
            return
        self.seen["forked"] += 1
        state = of.states[source]
        made = self._know(self.store.fork(of.record, wanted), *([] if state is None else [state]))
        assert made.record.family == of.record.family
        of.used = self.clock.now

    @rule(number=numbers, is_revoked=st.booleans())
    def end(self, number: int, is_revoked: bool) -> None:
        of = self._of(number)
        end = self.store.revoke if is_revoked else self.store.expire
        assert end(of.record) is not of.is_over
        of.is_over = True

    @rule(number=numbers, behind=generations | st.none())
    def revoke_tokens(self, number: int, behind: int | None) -> None:
        of = self._of(number)
        up_to = None if behind is None else of.head - behind
        least = of.head if up_to is None else up_to
        if self._revokes(of, up_to_generation=up_to):
            of.revoked_up_to = max(of.revoked_up_to, least)

    @rule(behind=st.integers(1, 3))
    def revoke_one_token(self, behind: int) -> None:
        for token in self.tokens[-behind:][:1]:
            if self._revokes(token.of, fingerprint=tokens.fingerprint(token.token)):
                token.of.revoked.add(token.token)

    def _revokes(self, of: Modelled, **which: Any) -> bool:
        if of.is_over:
            with pytest.raises(ConversationNotFound):
                self.store.revoke_tokens(of.record, **which)
        else:
            of.push(of.states[-1], self.clock.now)
            assert self.store.revoke_tokens(of.record, **which).generation == of.head
        return not of.is_over

    # Time

    @rule(time=st.sampled_from([timedelta(seconds=59), GRACE / 2, GRACE, DAY, DAY, 3 * DAY, 7 * DAY]))
    def wait(self, time: timedelta) -> None:
        self._pass(time)

    @rule()
    def collect(self) -> None:
        due = [of for of in self._live if of.is_due(self.clock.now)]
        collected = self.store.collect(references)
        assert (collected.expired, collected.is_complete) == (len(due), True)
        for of in due:
            of.is_over = True
        self.seen["collected"] += collected.blobs

    @rule()
    def collect_until_nothing_is_young(self) -> None:
        """What is left then is what somebody needs."""
        for _ in range(2):
            self._pass(GRACE)
            self._use_all()
            self.collect()
        for family in {of.record.family for of in self.known}:
            assert self._blobs_of(family) == self._needed(family)
        assert not self._is_more_than_needed()

    def _use_all(self) -> None:
        """Let the store come upon what its index does not know yet."""

    def _blobs_of(self, family: str) -> set[str]:
        return set(Blob.objects.filter(family_id=family).values_list("digest", flat=True))

    def _manifests_of(self, of: Modelled) -> list[bytes]:
        rows = Snapshot.objects.filter(conversation=of.record.id).values_list("manifest", flat=True)
        return [bytes(manifest) for manifest in rows]

    def _is_more_than_needed(self) -> bool:
        """Say whether there are generations of what has ended."""
        return Snapshot.objects.exclude(conversation__state="active").exists()

    def _needed(self, family: str) -> set[str]:
        needed: set[str] = set()
        for of in self._live:
            if of.record.family == family:
                fetch = partial(self.store.blob, of.record)
                for manifest in self._manifests_of(of):
                    needed |= references(manifest, fetch)
        return needed

    # What always holds

    @invariant()
    def all_that_is_kept_reads_back(self) -> None:
        there = self._stored()
        for of in self._live:
            stored = there[of.record.id]
            assert stored[1] == list(range(of.cut + 1, of.head + 1))
            if self._read_back.get(of.record.id) != stored:
                self._read_back[of.record.id] = stored
                self._reads_back(of)

    def _stored(self) -> dict[str, tuple[Any, ...]]:
        """Return of each live conversation its head, the numbers of its generations, and what else there is."""
        snapshots, blobs = defaultdict(list), defaultdict(list)
        for conversation, *row in Snapshot.objects.order_by("number").values_list("conversation", "number", "address"):
            snapshots[conversation].append(row)
        for family, blob in Blob.objects.order_by("pk").values_list("family", "pk"):
            blobs[family].append(blob)
        generations = dict(Conversation.objects.active().values_list("pk", "generation"))
        return {
            of.record.id: (
                generations[of.record.id],
                [number for number, _ in snapshots[of.record.id]],
                [address for _, address in snapshots[of.record.id]],
                blobs[of.record.family],
            )
            for of in self._live
        }

    def _reads_back(self, of: Modelled) -> None:
        assert self.store.inspect(of.record.id).generation == of.head
        history = [line.number for line in self.store.history(of.record)]
        assert history == [number for number in reversed(of.kept) if number]
        for number in of.kept:
            head = self.store.snapshot(of.record, number)
            assert same(values_of(self.store, head), of.states[number] or {})
