"""The state of a conversation as an operator reads it: ended or not, any kept generation, damaged or not."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError

from django_mcp.core.manifest import BlobRef, Entry, ManifestReader
from django_mcp.exceptions import ConversationNotFound, CorruptBlob
from django_mcp.models import Conversation
from django_mcp.models.conversation import ConversationState
from django_mcp.sessions.stores import ConversationRecord, Head, StateStore
from django_mcp.sessions.stores.database_generations import record_of


def record_in(state: StateStore, row: Conversation) -> ConversationRecord:
    """Return the record, of a conversation whose head cannot be read too: whoever ends it need not read it."""
    try:
        return state.inspect(row.id).conversation
    except CorruptBlob:
        return record_of(row)


def head_in(state: StateStore, row: Conversation, generation: int | None = None) -> Head:
    """Return a generation (None: the head). Raises CommandError if it is not kept, CorruptBlob if it is damaged."""
    with told_of(row):
        try:
            if generation is None:
                return state.inspect(row.id)
            return state.snapshot(record_in(state, row), generation)
        except CorruptBlob:
            if row.state == ConversationState.ACTIVE:
                raise
            raise CommandError(
                f"Conversation {row.fingerprint} has ended and its state was collected; nothing brings it back."
            ) from None


@contextmanager
def told_of(row: Conversation) -> Iterator[None]:
    """Raise CommandError where the conversation has ended or does not keep the generation that is asked for."""
    try:
        yield
    except ConversationNotFound:
        raise CommandError(
            f"Conversation {row.fingerprint} has ended; `import` begins another from an export."
        ) from None
    except LookupError as error:
        raise CommandError(
            f"{error.args[0]} `manage.py mcp conversations show {row.fingerprint}` lists those that are."
        ) from None


def reader_of(state: StateStore, head: Head) -> ManifestReader:
    """Return a reader that gets pages one by one, as they are looked at."""
    return ManifestReader(head.manifest, lambda digest: state.blob(head.conversation, digest))


def whole_reader_of(state: StateStore, head: Head) -> ManifestReader:
    """Return a reader that has all pages, which cost a query or two together."""
    reader = ManifestReader(head.manifest)
    while wanted := reader.wanted():
        reader.supply(state.blobs(head.conversation, wanted))
    return reader


def bytes_of(state: StateStore, record: ConversationRecord, entry: Entry) -> bytes:
    """Return the canonical bytes of a value. Raises CorruptBlob where those of a large one are not what they were."""
    return state.blob(record, entry.digest) if isinstance(entry, BlobRef) else entry.data
