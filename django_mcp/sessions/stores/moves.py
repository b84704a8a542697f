"""How a conversation leaves one state store and arrives in another while it is in use; part of the state contract.

The row of the index says who keeps a conversation, and one conditional update of it moves the conversation. Before
that the other store has a copy that nobody is shown; after it what the first one has is shown to nobody any more. The
copy is made under a *ticket*: the time of last use that the row got when it was claimed, later than any it had. Who
finds another one in the row has lost the claim. A number is never of two generations, so lines, manifests and blobs
may be brought twice, or late, and do no harm; what could is refused by the ticket.

In this order:

    image()         of the store that keeps it, for the ticket of a claim
    bring()         to the other store: its history, then its blobs, in pieces
    arrive()        to the other store, last: from here on it is whole, and still not shown
    read_back()     of the other store: what arrived, to be compared
    seal()          where it is kept: nothing changes it from here on, if nothing did since the image
                    the row is updated, where it has the ticket still
    open()          in the other store; whoever meets it there first does the same
    leave()         where it was kept
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from django_mcp.models import Conversation
    from django_mcp.sessions.stores.image import Image
    from django_mcp.sessions.stores.state import ConversationRecord, NotedCall

Ticket: TypeAlias = datetime


class MovableState(ABC):
    """What a state store does to conversations on their way."""

    @abstractmethod
    def image(self, conversation: ConversationRecord) -> Image:
        """Return what is kept of a conversation that this store keeps.

        Raises ConversationNotFound if it does not, or if the conversation has ended.
        """

    @abstractmethod
    def manifests(self, conversation: ConversationRecord, numbers: Collection[int]) -> dict[int, bytes]:
        """Return the manifests of those of these generations that are there, not verified; also of an arriving one."""

    @abstractmethod
    def bring(self, conversation: ConversationRecord, image: Image, manifests: Mapping[int, bytes]) -> None:
        """Write some generations of an image: those of these manifests, "" of an empty one among them."""

    @abstractmethod
    def bring_blobs(self, conversation: ConversationRecord, blobs: Mapping[str, bytes]) -> None:
        """Write some blobs, after all generations; those that are there are young again."""

    @abstractmethod
    def arrive(self, row: Conversation, image: Image, ticket: Ticket) -> Ticket | None:
        """Write the rest, which makes the copy whole, in place of what an earlier try left; None if that was done.

        Returns the ticket that it is not later than where another copy is there, and where this store keeps the
        conversation itself by now its own.
        """

    @abstractmethod
    def read_back(self, conversation: ConversationRecord, image: Image) -> Image | None:
        """Return what has arrived of an image, by what is written; None if it is not there."""

    @abstractmethod
    def blobs(self, conversation: ConversationRecord, digests: Iterable[str]) -> dict[str, bytes]: ...

    def blobs_there(self, conversation: ConversationRecord, digests: Iterable[str]) -> dict[str, bytes]:
        """Do what `blobs()` does, from where they are kept, whatever is cached."""
        return self.blobs(conversation, digests)

    @abstractmethod
    def seal(self, conversation: ConversationRecord, image: Image, ticket: Ticket) -> bool:
        """Let nothing change the conversation that this store keeps, until it has moved; False if something has.

        A store whose head is in the row has nothing to do.
        """

    @abstractmethod
    def unseal(self, conversation: ConversationRecord, ticket: Ticket) -> None:
        """Take that back, if it was sealed under this ticket, which nobody finds in the row any more."""

    @abstractmethod
    def open(self, row: Conversation) -> bool:
        """Let a conversation that has arrived be used, once the row says that this store keeps it.

        False if it is not there as the row says.
        """

    @abstractmethod
    def remaining(self, rows: Sequence[Conversation]) -> list[Conversation]:
        """Return those of these rows, which another store keeps, of which this one has something still."""

    @abstractmethod
    def late_notes(self, row: Conversation) -> Iterable[NotedCall]:
        """Return the calls that are noted here of a conversation that another store keeps."""

    @abstractmethod
    def leave(self, row: Conversation) -> bool:
        """Delete what is here of a conversation that another store keeps, and with the last of a family its blobs.

        False if there is something that may not be deleted: this store may keep it by now.
        """
