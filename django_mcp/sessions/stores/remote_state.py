"""What an indexed state store needs of the system that holds its conversations' generations and blobs.

The index in the database (`Conversation`) says which conversations there are and which have ended; callers are
checked, counted and turned away by `IndexedStateStore`. A remote part holds heads, histories, blobs and notes. It
knows no database, no cap and no caller, decides each race by one atomic step, and has its time from its own clock.

**A family is the unit.** A conversation and its forks share blobs, so whatever belongs to one family may be written in
one step, and nothing else needs to.

**Lost writes.** Where the system may forget what it has acknowledged, every record says in which *epoch* it was
written: of another epoch than the present one it is doubtful, and no step but `adopt()`, `end()` and `forget()`
changes it. Nothing moves a head whose last `touch()` is older than TOUCH_INTERVAL or, at generation 0, that was not
foreseen. A touch stands in the index, durably, before `touch()` tells it to the remote part. So the index tells what
can have been lost. A system that forgets nothing has one epoch for ever.

All methods raise StoreUnavailable where the system is not there, and never answer an outage with "there is none".
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from django_mcp.sessions.stores.state import CallNote, Generation, Kind

Refusal = Literal["moved", "untouched", "doubtful", "ended", "missing", "not kept", "too many", "moving"]
"""Why a step changed nothing: the head is another one; the index must be touched first; the record is of another
epoch; the conversation has ended; there is none; the generation is not kept; over the bound of revoked tokens; it is
on its way to another store, or from one."""

_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a conversation is kept. Neither part ever changes."""

    family: str
    id: str


@dataclass(frozen=True, slots=True)
class Moving:
    """A conversation on its way, under the ticket of who moves it: sealed where it is kept, not open yet where it
    arrives. The index alone knows which of the two it is to be read in.
    """

    ticket: datetime
    is_arriving: bool

    @property
    def text(self) -> str:
        """Return what stands in the record: a letter, and the microseconds since 1970 of the ticket."""
        return f"{'a' if self.is_arriving else 'l'}{microseconds(self.ticket)}"

    @classmethod
    def read(cls, text: str) -> "Moving":
        return cls(_START + timedelta(microseconds=int(text[1:])), text.startswith("a"))


IN_USE: Final = Moving(datetime.max.replace(tzinfo=UTC), is_arriving=True)
"""What stands where an arrival is refused because the conversation is in use there."""


def microseconds(at: datetime) -> int:
    """Return the microseconds since 1970."""
    return (at - _START) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose a conversation is, as it was begun."""

    place: Place
    kind: Kind
    server: str
    tenant: str
    principal: str
    user: str
    """The primary key of the Django user as text, "" where there is none."""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a step is told about the settings. Seconds count from now; None is for ever.

    Args:
        history: generations that are kept, the head among them.
        touch_seconds: age of the last touch over which no head moves.
        record_seconds: after so long the system may drop the conversation, its history and its notes.
        blob_seconds: after so long, at the earliest, it may drop the blobs of the family.
    """

    history: int
    touch_seconds: float
    record_seconds: float | None
    blob_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteHead:
    """A conversation as it stands, read by one step; never of two moments.

    Args:
        generation: the head's number.
        chosen: the number of the generation that `snapshot` and `manifest` are of; the head's unless another was
            asked for. `snapshot` is None where that one is not there.
        touched_at: the use that was recorded last.
        is_foreseen: whether the index knows that it has, or will have, more than generation 0.
        has_garbage: whether its history was cut since `touch()` was told that the index knows.
        written_in, epoch: the epochs of the record and of the present; it is doubtful where they differ.
        now: the time of this reading by the clock of the system.
        moving: whether it is on its way; what is so looks sound, and is read when the index says so.
    """

    identity: Identity
    is_ended: bool
    generation: int
    chosen: int
    snapshot: str | None
    manifest: bytes = field(repr=False)
    revoked_up_to: int
    revoked_tokens: frozenset[str]
    touched_at: datetime
    is_foreseen: bool
    has_garbage: bool
    written_in: str
    epoch: str
    now: datetime
    moving: Moving | None = None

    @property
    def is_doubtful(self) -> bool:
        return self.written_in != self.epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The next generation; `blobs` are added under the family where they are not there, and are young again."""

    manifest: bytes = field(repr=False)
    snapshot: str
    blobs: Mapping[str, bytes] = field(repr=False)
    call: CallNote | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """Tokens to revoke: those of all generations up to one (None: the head), or the one of `fingerprint`."""

    up_to_generation: int | None = None
    fingerprint: str | None = None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Nothing was changed; `head` is what is there, None where nothing is."""

    why: Refusal
    head: RemoteHead | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked:
    """What a fork began with: the `snapshot` and manifest of its generation 1, or "" and b"" where it has none."""

    snapshot: str
    manifest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBlob:
    """A blob as collection sees it: `touched_at` is when a commit last had it along."""

    digest: str
    size: int
    touched_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteNote:
    """A call that was noted; `order` grows with each note and each generation of the conversation."""

    call: CallNote
    created: datetime
    order: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteGeneration:
    """A line of the history, with its place among the notes."""

    line: Generation
    order: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """The head of a conversation that arrives.

    Args:
        cut: the generations up to this one are not kept.
        order: the place of the last line or note.
    """

    generation: int
    cut: int
    order: int
    revoked_up_to: int
    revoked_tokens: frozenset[str]
    touched_at: datetime


class RemoteState(ABC):
    """The system that holds generations and blobs, for one alias of `STORES`."""

    # Pointers. They spare a question to the index; what is not there, or leads to what has ended, is asked there.

    @abstractmethod
    def point(self, name: str, place: Place, *, seconds: float) -> None:
        """Make `name` (a digest or an id, 64 characters at most) lead to a place for so long."""

    @abstractmethod
    def follow(self, name: str) -> Place | None:
        """Return where `name` leads; None if that is not known here."""

    # Conversations

    @abstractmethod
    def begin(self, identity: Identity, terms: Terms) -> None:
        """Make generation 0, in the present epoch, not foreseen. One that is there stays as it is."""

    @abstractmethod
    def load(self, place: Place, generation: int | None = None) -> RemoteHead | None:
        """Return the head, or with a `generation` that one; None if the conversation is not there.

        The ended and the doubtful are returned like any other.
        """

    @abstractmethod
    def touch(self, place: Place, at: datetime, terms: Terms, *, is_foreseen: bool) -> None:
        """Take note that the index recorded a use `at` (by this system's clock), and live for so long from here on.

        Never takes back a later touch nor what was foreseen. Of what is not there or has ended nothing becomes.
        """

    @abstractmethod
    def adopt(self, place: Place, *, written_in: str, epoch: str) -> None:
        """Make a record of one epoch sound in another, if that is the present one and the record still of the first.

        The caller knows that nothing of it was lost.
        """

    @abstractmethod
    def survived_until(self, epoch: str) -> datetime | None:
        """Return a time of which all writes of that epoch up to it are there; None if that is not known."""

    @abstractmethod
    def end(self, place: Place) -> None:
        """End it, doubtful or not: from here on every step that would change it is refused. Again is fine."""

    # Generations

    @abstractmethod
    def commit(self, place: Place, base_generation: int, change: Change, terms: Terms) -> Refused | None:
        """Make the generation after `base_generation`, if that is the head; None if it was made."""

    @abstractmethod
    def copy(
        self, place: Place, generation: int | None, terms: Terms, *, revocation: Revocation | None = None
    ) -> RemoteHead | Refused:
        """Make a generation that is as an earlier one (None: the head) was, and return it.

        With a `revocation` those tokens are revoked in the same step.
        """

    @abstractmethod
    def fork(
        self, source: Place, generation: int | None, made: Identity, terms: Terms, *, is_foreseen: bool
    ) -> Forked | Refused:
        """Make a conversation of the same family whose generation 1 is as one of the source (None: the head) was.

        Generation 0, and one without a snapshot, is copied as nothing; any other is refused as "untouched" where the
        index does not know of more. The blobs of the family live as long as the fork.
        """

    @abstractmethod
    def history(self, place: Place, history: int) -> list[RemoteGeneration]:
        """Return the kept generations but 0, newest first, `history` at most."""

    @abstractmethod
    def blobs(self, family: str, digests: Sequence[str]) -> dict[str, bytes]:
        """Return what is there under these names, each a SHA-256 in hexadecimal, not verified."""

    @abstractmethod
    def note(self, place: Place, call: CallNote, *, kept: int, created: datetime | None = None) -> None:
        """Note a call (of now, or of another time), the newest `kept` of which stay.

        Of what is not there, arrives or has ended nothing is noted.
        """

    @abstractmethod
    def notes(self, place: Place, limit: int) -> list[RemoteNote]:
        """Return the calls that were noted, newest first."""

    # Moves. Each step does nothing where the record says another thing than it expects.

    @abstractmethod
    def bring(
        self, place: Place, lines: Sequence[RemoteGeneration], manifests: Mapping[int, bytes], terms: Terms
    ) -> None:
        """Write lines of the history with their manifests, which may be there already, of what is not in use here."""

    @abstractmethod
    def bring_blobs(self, family: str, blobs: Mapping[str, bytes], terms: Terms) -> None:
        """Write blobs as a commit does."""

    @abstractmethod
    def arrive(
        self, identity: Identity, arrival: Moving, head: Arrival, notes: Sequence[RemoteNote], terms: Terms
    ) -> Moving | None:
        """Write the record and the notes, in place of what has ended here or was moving under an earlier ticket.

        None if it was done; else what stands there, an arrival under the latest ticket there can be where it is in
        use.
        """

    @abstractmethod
    def open(self, place: Place, arrival: Moving) -> None:
        """Let what arrives under this ticket be used, and be of the present epoch."""

    @abstractmethod
    def seal(self, place: Place, generation: int, departure: Moving) -> bool:
        """Let no step change a sound conversation whose head this is, but its end, its notes and later seals."""

    @abstractmethod
    def unseal(self, place: Place, departure: Moving) -> None:
        """Take back a seal of this ticket."""

    @abstractmethod
    def give_up(self, place: Place, moving: Moving) -> bool:
        """End what is still moving like this; False if it is there and is not."""

    @abstractmethod
    def is_deserted(self, family: str) -> bool:
        """Say whether there are no conversations of a family; what is brought is one by then."""

    # Collection

    @abstractmethod
    def forget(self, place: Place, *, is_dry: bool = False) -> int:
        """Delete a conversation that has ended, its history and its notes; return how many generations it had.

        The blobs stay.
        """

    @abstractmethod
    def snapshots(self, family: str) -> dict[str, tuple[Place, int]] | None:
        """Return, by one step, the address of every kept generation of the family's conversations that have not
        ended, and one place and number to read it by; None where the family changes too fast to tell.
        """

    @abstractmethod
    def manifests(self, chosen: Iterable[tuple[Place, int]]) -> dict[tuple[Place, int], bytes]:
        """Return the manifests of those generations of one family that are still there, not verified."""

    @abstractmethod
    def kept_blobs(self, family: str) -> tuple[datetime, list[KeptBlob]]:
        """Return the time by the clock of the system, and every blob of the family."""

    @abstractmethod
    def drop_blobs(self, family: str, digests: Collection[str], *, before: datetime) -> set[str]:
        """Delete those blobs that are not younger than `before`; return which were deleted.

        It and a commit that has one of them along come one after the other: either it is young, or made anew.
        """
