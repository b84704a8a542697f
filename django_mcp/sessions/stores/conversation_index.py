"""The index of conversations whose state is kept elsewhere: which there are, whose, how many, and whether they ended.

It is the truth of all that but the head. Each row is of one store at a time, and no store changes another's.
"""

from datetime import datetime

from django.db.models import Q
from django.utils import timezone

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import ConversationNotFound
from django_mcp.models import Conversation, SessionQuota
from django_mcp.models.conversation import ConversationKind, ConversationQuerySet, ConversationState
from django_mcp.models.transactions import outages, transact
from django_mcp.sessions.stores.census import Census


class ConversationIndex:
    """The rows of the store `alias` in the database `using`, at most `limit` of them active."""

    def __init__(self, alias: str, using: str, *, limit: int) -> None:
        self.alias = alias
        self.using = using
        self._census = Census(self.rows, limit=limit, using=using)

    def rows(self) -> ConversationQuerySet:
        return Conversation.objects.using(self.using).kept_by(self.alias)

    def find(self, where: Q, *, is_active: bool = True) -> Conversation | None:
        rows = self.rows().active() if is_active else self.rows()
        with outages(self.using):
            return rows.filter(where).first()

    def find_any(self, conversation: str, *, is_kept: bool = False) -> Conversation | None:
        """Return the row of whichever store keeps it, ended or not; with `is_kept` only if this one does."""
        rows = self.rows() if is_kept else Conversation.objects.using(self.using)
        with outages(self.using):
            return rows.filter(pk=conversation).first()

    def claim(self, row: Conversation) -> datetime | None:
        """Return the ticket of a claim on a row as it was read; None where it was used, claimed, moved or ended."""
        return self.rows().claim(row)

    def insert(self, made: Conversation, *, origin: str | None = None) -> list[Conversation]:
        """Insert a row, and return those that it made end.

        Args:
            origin: the id of what it is a fork of; it is in use, and makes no room.

        Raises Overloaded over a cap, ConversationNotFound if the origin has ended, IntegrityError if its name is
        taken.
        """

        def work() -> int:
            ended = 0
            if made.kind == ConversationKind.CONVERSATION:
                SessionQuota.objects.using(self.using).hold(made.owner_digest)
                if origin is not None and not self._use(origin, made.created_at):
                    raise ConversationNotFound
                cap = mcp_settings.MAX_CONVERSATIONS_PER_PRINCIPAL
                ended = self.rows().filter(owner_digest=made.owner_digest).make_room(cap, made.created_at)
            made.save(using=self.using, force_insert=True)
            return ended

        self._census.admit()
        if not transact(work, using=self.using):
            return []
        with outages(self.using):
            return list(self.rows().filter(owner_digest=made.owner_digest, ended_at=made.created_at))

    def use(self, conversation: str, at: datetime, *, generation: int, has_garbage: bool) -> bool:
        """Record a use, and that the conversation has or is about to have a generation; False if it has ended."""

        def work() -> bool:
            if not self._use(conversation, at, generation):
                return False
            if has_garbage:
                self.rows().filter(pk=conversation, garbage_at=None).update(garbage_at=timezone.now())
            return True

        return transact(work, using=self.using)

    def _use(self, conversation: str, at: datetime, generation: int = 0) -> bool:
        return self.rows().filter(pk=conversation).use(at, generation) == 1

    def end(self, conversation: str, state: ConversationState) -> bool:
        """End it; False if it had ended before."""
        return self.rows().filter(pk=conversation).end(state) == 1

    def end_due(self, conversation: str) -> bool:
        """End it if its time is over by the clock; False if not, or if it had ended before."""
        return self.rows().filter(pk=conversation).due(timezone.now()).end(ConversationState.EXPIRED) == 1

    def lose(self, conversation: str) -> bool:
        """End it because the store lost what it had acknowledged; False if it had ended before."""
        return self.rows().filter(pk=conversation).lose() == 1

    def revoked(self, conversation: str, up_to: int, tokens: str) -> None:
        """Show what was revoked, to whoever reads the row."""
        mine = self.rows().filter(pk=conversation)
        transact(lambda: mine.update(revoked_up_to=up_to, revoked_tokens=tokens), using=self.using)
