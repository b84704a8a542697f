"""What a handler says, once and for all, about the state it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Read when the handler is compiled.

    Args:
        name: of the handler, for the history of a conversation.
        is_stateful: whether it begins a conversation where the request names none.
        reads_user: whether it asks for what its user keeps.
        is_atomic: whether a failure takes back what it did in the database.
        is_repeatable: whether running it again does no harm.
        is_noted: whether a call that changes nothing is worth a note.
        declares_handle: whether its output schema has the property `handle`.
    """

    name: str = ""
    is_stateful: bool = False
    reads_user: bool = False
    is_atomic: bool = False
    is_repeatable: bool = False
    is_noted: bool = False
    declares_handle: bool = False

    @property
    def is_prepared(self) -> bool:
        """Whether a state is read before the body."""
        return self.is_stateful or self.reads_user


NOTHING: Final = Keeping()
