"""The state of one call: found by what the request carries, begun where it carries nothing, committed at its end.

Everything that blocks here runs on the call's own thread. Of a call that fails, is cancelled or ends with questions
nothing is kept, and a conversation that it began is ended again.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from django.db import connections

from django_mcp.conf import mcp_settings
from django_mcp.core.draft import Draft
from django_mcp.core.manifest import ManifestReader
from django_mcp.core.token import TokenClaims
from django_mcp.core.value import StateValueError
from django_mcp.exceptions import (
    CommitUnknown,
    ConversationNotFound,
    HandleRefused,
    KeptElsewhere,
    StateConflict,
    StateLost,
    StateNotSaved,
    StateUnavailable,
    StoreUnavailable,
    TokenRefused,
    ToolError,
)
from django_mcp.models.transactions import transact
from django_mcp.registry.past_call import PastCall
from django_mcp.registry.state import State, UserState
from django_mcp.server.carriers import HEADER, Issued, read_carried
from django_mcp.sessions import tokens
from django_mcp.sessions.bounds import state_bounds
from django_mcp.sessions.commit import Base, commit, empty_base, read_base
from django_mcp.sessions.scope import Scope
from django_mcp.sessions.stores import state_store
from django_mcp.sessions.stores.state import (
    CallNote,
    ConversationRecord,
    Generation,
    Head,
    StateStore,
)
from django_mcp.sessions.upkeep import tidy
from django_mcp.signals import size_budget_exceeded, token_issued

if TYPE_CHECKING:
    from django_mcp.server.call import Call

logger = logging.getLogger("django_mcp.state")

T = TypeVar("T")
Outcome = Literal["succeeded", "failed", "conflict", "cancelled", "input_required"]

_NO_CARRIER: Final = (
    "ctx.state was touched in a handler that is not stateful, and the request carries no resumption token; declare "
    "the tool with `@tool(stateful=True)` or a parameter annotated `State`"
)
_SIGN_IN: Final = "This needs an authenticated caller."


class Ground:
    """One conversation under a call: what was read of it, and the working copy."""

    def __init__(self, call_state: CallState, find: Callable[[], Head | None], kind: type[State]) -> None:
        self._call_state = call_state
        self._find = find
        self.bounds = state_bounds()
        self.state = kind(self)
        self.base: Base | None = None
        self.read_seconds = 0.0

    def read(self) -> ManifestReader:
        if self.base is None:
            began = time.perf_counter()
            head = self._find()
            self.read_seconds = time.perf_counter() - began
            if head is None:
                return ManifestReader(b"")
            self.base = read_base(self._call_state.store, head)
        return self.base.reader

    async def run(self, function: Callable[..., T], /, *args: Any) -> T:
        return await self._call_state.run(function, *args)

    def refresh(self) -> None:
        """Read again at the next touch, unless something was changed."""
        if not self.state.is_changed:
            self.state.forget()
            self.base = None


class CallState:
    """The conversation of one call, and what its user keeps."""

    def __init__(self, call: Call) -> None:
        self._call = call
        caller = call.caller
        self.scope = Scope(
            server=call.server.key,
            tenant=caller.tenant,
            principal=caller.principal,
            user=caller.user,
            address=caller.address,
        )
        self.carried = read_carried(call)
        self._store: StateStore | None = None
        self._conversation = Ground(self, self._find_conversation, State)
        self._user = Ground(self, self._find_user, UserState)
        self._redeemed: list[tuple[TokenClaims, str]] = []
        self._begun: ConversationRecord | None = None
        self._is_committed = False
        self._only_finds = False
        self._began_at = time.perf_counter()

    @property
    def store(self) -> StateStore:
        if self._store is None:
            self._store = state_store(self._call.server.store_alias)
        return self._store

    @property
    def conversation(self) -> State:
        return self._conversation.state

    @property
    def user(self) -> State:
        return self._user.state

    async def run(self, function: Callable[..., T], /, *args: Any) -> T:
        return await self._call.lease.run(function, *args)

    def open(self) -> None:
        """Redeem what the request carries.

        Raises:
            TokenRefused, HandleRefused: it is no good.
            ToolError: the caller is anonymous, and may not have state.
        """
        self._conversation.read()

    def enter(self) -> None:
        """Make ready for the body: read what its user keeps; redeem what the request carries, or begin a conversation.

        Raises:
            TokenRefused, HandleRefused, ToolError: as `open()`.
            Overloaded: the caller has too many conversations.
        """
        if self._call.was_asked:
            # People took their time: what nobody changed is read again.
            self._conversation.refresh()
            self._user.refresh()
        keeping = self._call.keeping
        if keeping.reads_user:
            self._user.state.load()
        if not keeping.is_stateful:
            return
        self._conversation.state.load()
        if self._conversation.base is None:
            head = self.store.begin(**self.scope.owner, address=self.scope.address)
            self._begun = head.conversation
            self._conversation.base = empty_base(head)

    @property
    def conversation_id(self) -> str:
        """The id of the conversation, or an empty text while none was read or begun."""
        base = self._conversation.base
        return base.head.conversation.id if base is not None else ""

    def calls(self) -> list[PastCall]:
        """Return what was called in the conversation, as far as it is kept, newest first."""
        return [
            PastCall(
                name=noted.call.name,
                outcome=noted.call.outcome,
                at=noted.created,
                milliseconds=noted.call.milliseconds,
                generation=noted.generation,
            )
            for noted in self.store.calls(self._found().conversation)
        ]

    def history(self, limit: int) -> tuple[Head, list[Generation]]:
        """Return the head and the kept generations, newest first."""
        head = self._found()
        return head, self.store.history(head.conversation, limit)

    def rewind(self, generation: int) -> Head:
        """Make the conversation as `generation` was, and issue a token of that. Raises LookupError if it is not kept.

        Raises ConversationNotFound if it has ended.
        """
        head = self.store.rewind(self._found().conversation, generation)
        self._issue_for(head, in_meta=True)
        return head

    def fork(self, generation: int | None) -> Head:
        """Begin a conversation that is as `generation` was, and issue a token of that; raises what `rewind()` does."""
        head = self.store.fork(self._found().conversation, generation)
        self._issue_for(head, in_meta=True)
        return head

    def _found(self) -> Head:
        """Return the head that the request leads to. Raises StateUnavailable if it names no conversation."""
        self._only_finds = not self._call.keeping.is_stateful
        self._conversation.read()
        if self._conversation.base is None:
            raise StateUnavailable(_NO_CARRIER)
        return self._conversation.base.head

    def keep(self) -> None:
        """Commit what the handler changed, and issue what the result carries.

        Raises:
            StateNotSaved: the handler ran, and nothing of its state was kept.
            StoreUnavailable: the same, where running it again does no harm.
        """
        is_atomic = self._call.keeping.is_atomic
        began = time.perf_counter()
        try:
            self._commit_all()
        except (ConversationNotFound, TokenRefused):
            raise StateNotSaved("the conversation has ended meanwhile.", is_rolled_back=is_atomic) from None
        except StateLost:
            raise StateNotSaved("the store has lost what was kept for this user.", is_rolled_back=is_atomic) from None
        except StateConflict as conflict:
            raise StateConflict(conflict.keys, is_rolled_back=is_atomic) from None
        except StateValueError as error:
            raise StateNotSaved(f"{error}.", is_rolled_back=is_atomic) from None
        except StateNotSaved as error:
            raise StateNotSaved(error.problem, is_rolled_back=is_atomic) from error.__cause__
        except StoreUnavailable as error:
            if is_atomic or self._call.keeping.is_repeatable:
                raise
            is_unknown = isinstance(error, CommitUnknown)
            raise StateNotSaved("the store is unavailable.", is_unknown=is_unknown) from error
        base = self._conversation.base
        if base is not None and self._conversation.state.is_touched:
            in_meta = self.carried.declares or bool(self.carried.tokens)
            self._issue_for(base.head, in_meta=in_meta, commit_seconds=time.perf_counter() - began)

    def close(self, outcome: Outcome) -> None:
        """End it, when the transaction of the call is over: note what left no generation, end what was begun in vain.

        Nothing here is worth failing a call for.
        """
        is_kept = outcome == "succeeded" and self._conversation.state.is_touched
        if outcome != "succeeded":
            self._call.issued = None
        begun, base = self._begun, self._conversation.base
        self._begun = None
        try:
            if self._is_broken:
                return
            if begun is not None and not is_kept:
                self.store.expire(begun)
            elif base is not None and not (is_kept and self._is_committed) and outcome != "input_required":
                self._note(base.head.conversation, outcome)
            tidy(self.store)
        except StoreUnavailable as error:
            logger.warning("the end of a call was not noted: %s", error)

    @property
    def _is_broken(self) -> bool:
        """Whether the handler left a transaction behind in which nothing can be done any more."""
        store = self.store
        return store.supports_transactions and connections[store.write_alias].needs_rollback

    def _note(self, conversation: ConversationRecord, outcome: Outcome) -> None:
        if self._call.keeping.is_noted and mcp_settings.CALL_NOTES:
            self.store.note(conversation, self._call_note(outcome))

    def _call_note(self, outcome: Outcome = "succeeded") -> CallNote:
        return CallNote(
            name=self._call.keeping.name,
            outcome=outcome,
            call=secrets.token_hex(8),
            milliseconds=round((time.perf_counter() - self._began_at) * 1000),
        )

    def _commit_all(self) -> None:
        touched = [ground for ground in (self._conversation, self._user) if ground.state.is_touched]
        drafts = [(ground, draft) for ground in touched if (draft := ground.state.draft())]
        if not drafts:
            return
        note = self._call_note()

        def work() -> list[tuple[Ground, Base, Head]]:
            return [(ground, *self._commit(ground, draft, note)) for ground, draft in drafts]

        store = self.store
        together = len(drafts) > 1 and store.supports_transactions
        committed = self._together(work) if together else work()
        for ground, base, head in committed:
            ground.base = Base(head=head, reader=base.reader)
            self._watch("manifest", len(base.head.manifest), len(head.manifest), head)
            if ground is self._conversation:
                self._is_committed = head.generation != base.head.generation

    def _together(self, work: Callable[[], T]) -> T:
        """Commit in one transaction, unless a store keeps one of the two that takes part in none."""
        using = self.store.write_alias
        is_ours = not connections[using].in_atomic_block
        try:
            return transact(work, using=using)
        except KeptElsewhere:
            if not is_ours:
                raise
        return work()

    def _commit(self, ground: Ground, draft: Draft, note: CallNote) -> tuple[Base, Head]:
        base = ground.base
        if base is None:
            base = empty_base(self.store.begin(**self.scope.owner, kind="user"))
        return base, commit(self.store, base, draft, bounds=ground.bounds, call=note, check=self._check)

    def _check(self, record: ConversationRecord) -> None:
        for claims, token in self._redeemed:
            if record.id == claims.conversation and tokens.is_revoked(claims, token, record):
                raise TokenRefused("revoked while the call ran")

    def _issue_for(self, head: Head, *, in_meta: bool, commit_seconds: float = 0.0) -> None:
        token = tokens.issue(head, self.scope)
        self._call.issued = Issued(
            token=token,
            handle=None if self.carried.declares else head.conversation.handle,
            in_meta=in_meta,
            in_structure=self._call.keeping.declares_handle,
        )
        self._watch("header", 0, len(HEADER) + len(token), head)
        if token_issued.has_listeners(self.scope.server):
            reader = ManifestReader(head.manifest)
            token_issued.send_robust(
                sender=self.scope.server,
                conversation=head.conversation.id,
                generation=head.generation,
                token_bytes=len(token),
                manifest_bytes=len(head.manifest),
                state_bytes=reader.size,
                keys=len(reader),
                read_seconds=self._conversation.read_seconds,
                commit_seconds=commit_seconds,
            )

    def _watch(self, what: str, before: int, now: int, head: Head) -> None:
        """Warn of what has just grown beyond its budget."""
        budget = mcp_settings.SIZE_BUDGET_BYTES
        if before <= budget < now:
            conversation = head.conversation.id
            logger.warning("the %s of conversation %s… grew to %d bytes", what, conversation[:8], now)
            size_budget_exceeded.send_robust(
                sender=self.scope.server, what=what, bytes=now, budget_bytes=budget, conversation=conversation
            )

    def _find_conversation(self) -> Head | None:
        """Return the head that the request leads to; None where a stateful handler begins a conversation."""
        carried, scope, store = self.carried, self.scope, self.store
        if scope.principal.is_anonymous and not mcp_settings.ANONYMOUS_STATE:
            if carried.tokens:
                raise TokenRefused("anonymous callers have no state here")
            raise HandleRefused if carried.handle is not None else ToolError(_SIGN_IN)
        found: list[Head] = []
        for token in carried.tokens:
            head, claims = tokens.redeem(token, scope, store)
            self._redeemed.append((claims, token))
            found.append(head)
        if len({head.conversation.id for head in found}) > 1:
            raise TokenRefused("two tokens name different conversations")
        if carried.handle is not None:
            try:
                head = store.find_by_handle(carried.handle, **scope.owner)
            except ConversationNotFound:
                raise HandleRefused from None
            if found and found[0].conversation.id != head.conversation.id:
                raise HandleRefused
            return head
        if found:
            return found[0]
        if carried.session is not None and mcp_settings.SESSION_CONVERSATIONS:
            name = f"session:{carried.session}"
            if self._only_finds:
                head = store.find_named(name, **scope.owner)
            else:
                head = store.begin(**scope.owner, address=scope.address, name=name)
            return replace(head, conversation=replace(head.conversation, handle=None))
        if not self._call.keeping.is_stateful:
            raise StateUnavailable(_NO_CARRIER)
        return None

    def _find_user(self) -> Head | None:
        """Return the head of what the user keeps; None where there is nothing yet."""
        if self.scope.principal.is_anonymous:
            raise ToolError(_SIGN_IN)
        try:
            return self.store.find_named(kind="user", **self.scope.owner)
        except ConversationNotFound:
            return None
