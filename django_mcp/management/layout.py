"""How values look on a terminal: tables, names with their values, wrapped texts."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.utils import timezone

INDENT: Final = "    "
MOST_WIDTH: Final = 100
MOST_CELL: Final = 60


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the first of which is the head, in columns that line up."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def wrapped(text: str, indent: str = INDENT) -> str:
    """Return paragraphs, each filled to the width of the terminal."""
    width = min(shutil.get_terminal_size().columns, MOST_WIDTH)
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))
    filled = (
        textwrap.fill(paragraph, width, initial_indent=indent, subsequent_indent=indent) for paragraph in paragraphs
    )
    return f"\n{indent.rstrip()}\n".join(filled)


def value(data: Any) -> str:
    """Return JSON data for people: a table for rows, names with values for an object, text as it is."""
    if isinstance(data, list) and data and all(isinstance(row, Mapping) for row in data):
        columns = list(dict.fromkeys(name for row in data for name in row))
        return table([columns, *([_cell(row.get(name)) for name in columns] for row in data)])
    if isinstance(data, list):
        return "\n".join(_line(item) for item in data)
    if isinstance(data, Mapping):
        width = max((len(str(name)) for name in data), default=0)
        return "\n".join(f"{str(name).ljust(width)}  {_line(item)}" for name, item in data.items())
    return _line(data)


def moment(at: datetime | None) -> str:
    """Return a time in the zone of the project, to the minute."""
    if at is None:
        return "never"
    return f"{timezone.localtime(at) if timezone.is_aware(at) else at:%Y-%m-%d %H:%M}"


def printable(text: str) -> str:
    """Return a text of somebody else's that cannot move the cursor; `-` for an empty one."""
    return "".join(character if character.isprintable() else "?" for character in text) or "-"


def as_json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, indent=2)


def ascii_json(data: Any, *, indent: int | None = None) -> str:
    """Return JSON of somebody else's texts: ASCII, so that nothing in it moves the cursor or fails to be written."""
    return json.dumps(data, indent=indent)


def _line(data: Any) -> str:
    return data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)


def _cell(data: Any) -> str:
    text = "" if data is None else " ".join(_line(data).split())
    return text if len(text) <= MOST_CELL else f"{text[: MOST_CELL - 1]}…"
