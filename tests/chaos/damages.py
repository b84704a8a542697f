"""What is changed in the good run by hand, so that a rule has something to find."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.chaos.history import Ended, Line
from tests.chaos.truth import KeptRun, Truth

Damage = Callable[[list[Line], Truth], tuple[list[Line], Truth]]


def place(lines: list[Line], kind: type[Line], number: int = 0, **fields: Any) -> int:
    """Return where the line of a kind stands that has these fields."""
    found = [
        index
        for index, line in enumerate(lines)
        if isinstance(line, kind) and all(getattr(line, name) == value for name, value in fields.items())
    ]
    return found[number]


def without(kind: type[Line], number: int = 0, **fields: Any) -> Damage:
    def damage(lines: list[Line], truth: Truth) -> tuple[list[Line], Truth]:
        del lines[place(lines, kind, number, **fields)]
        return lines, truth

    return damage


def changed(kind: type[Line], changes: dict[str, Any], number: int = 0, **fields: Any) -> Damage:
    def damage(lines: list[Line], truth: Truth) -> tuple[list[Line], Truth]:
        index = place(lines, kind, number, **fields)
        lines[index] = replace(lines[index], **changes)
        return lines, truth

    return damage


def also(*more: Line) -> Damage:
    return lambda lines, truth: ([*lines, *more], truth)


def ran_too(*runs: KeptRun) -> Damage:
    return lambda lines, truth: (lines, replace(truth, runs=(*truth.runs, *runs)))


def conversation(**changes: Any) -> Damage:
    def damage(lines: list[Line], truth: Truth) -> tuple[list[Line], Truth]:
        first, *others = truth.conversations
        return lines, replace(truth, conversations=(replace(first, **changes), *others))

    return damage


def stream(name: str, **changes: Any) -> Damage:
    def damage(lines: list[Line], truth: Truth) -> tuple[list[Line], Truth]:
        kept = tuple(replace(one, **changes) if one.name == name else one for one in truth.streams)
        return lines, replace(truth, streams=kept)

    return damage


def together(*damages: Damage) -> Damage:
    def damage(lines: list[Line], truth: Truth) -> tuple[list[Line], Truth]:
        for one in damages:
            lines, truth = one(lines, truth)
        return lines, truth

    return damage


def kept(**changes: Any) -> Damage:
    return lambda lines, truth: (lines, replace(truth, **changes))


LATE = Ended(at=20, op="f", key="f", client=1, tool="look", began=19, outcome="answered", conversation="own.0")
