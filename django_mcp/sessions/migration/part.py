"""A part of what a store keeps, which moves by itself; whoever runs it hears how far it is."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a part is: `done` of `total`, which may grow; `what` is being done, in a word or two."""

    done: int
    total: int
    what: str


Report = Callable[[Progress], None]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a run.

    Args:
        there: what the other store kept before.
        left: why something was not moved, and how much.
        examples: what to look for, a few names of what was left.
    """

    moved: int = 0
    there: int = 0
    bytes: int = 0
    left: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)


class Part(ABC):
    name: ClassVar[str]

    @abstractmethod
    def count(self) -> int | None:
        """Return about how much there is to move; None where nobody knows. Raises StoreUnavailable."""

    @abstractmethod
    def run(self, report: Report) -> Outcome:
        """Move it; again goes on where the last run ended, however it ended.

        Raises StoreUnavailable where one of the stores stays away.
        """
