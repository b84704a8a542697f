"""What a rule says when it was broken."""

from collections.abc import Iterable
from dataclasses import dataclass

from tests.chaos.history import Line

MOST_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A rule by its name, in one sentence how it was broken, and the lines that show it."""

    rule: str
    what: str
    lines: tuple[Line, ...] = ()

    @classmethod
    def of(cls, rule: str, what: str, lines: Iterable[Line] = ()) -> "Broken":
        return cls(rule=rule, what=what, lines=tuple(lines)[:MOST_LINES])
