"""The person at the terminal: sees progress, is asked questions, on `stderr`, so that `stdout` is the result alone.

Without a terminal nothing is shown and nobody is asked.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Final

from django.core.management.base import OutputWrapper

from django_mcp.testing import Answer, Log, Progress, Question, accept, decline

BAR: Final = 24
_YES: Final = {"y": True, "yes": True, "true": True, "n": False, "no": False, "false": False}


class Terminal:
    """Shows what is heard on the way, and asks."""

    def __init__(self, stderr: OutputWrapper) -> None:
        self._stderr = stderr
        self._shows = stderr.isatty()
        self._asks = sys.stdin is not None and sys.stdin.isatty()
        self._drawn = 0

    def hear(self, heard: Progress | Log) -> None:
        """Show progress on one line, log messages above it."""
        if not self._shows:
            return
        if isinstance(heard, Log):
            self.clear()
            text = heard.data if isinstance(heard.data, str) else json.dumps(heard.data, ensure_ascii=False)
            self._stderr.write(f"{heard.level}: {text}")
            return
        self.show(_bar(heard))

    def show(self, line: str) -> None:
        """Show a line in the place of the one before."""
        if not self._shows:
            return
        self.clear()
        self._stderr.write(line, ending="")
        self._stderr.flush()
        self._drawn = len(line)

    def clear(self) -> None:
        """Take the line of progress away."""
        if self._drawn:
            self._stderr.write("\r" + " " * self._drawn + "\r", ending="")
            self._drawn = 0

    def ask(self, question: Question) -> Answer | str | list[str] | None:
        """Ask the person; None when there is nobody."""
        if not self._asks:
            return None
        self.clear()
        self._stderr.write(question.message or f"The server asks for {question.kind}.")
        try:
            match question.kind:
                case "elicitation":
                    return accept(self._fields(question.schema))
                case "sampling":
                    return self._read("The answer of the model: ")
                case "roots":
                    return self._read("URIs of the roots, with spaces between: ").split()
        except EOFError:
            self._stderr.write("")
            return decline() if question.kind == "elicitation" else None

    def _fields(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        answers: dict[str, Any] = {}
        self._stderr.write("(an empty line takes the default, Ctrl-D declines)")
        for name, field in schema.get("properties", {}).items():
            given = self._field(name, field, required=name in schema.get("required", ()))
            if given is not None:
                answers[name] = given
        return answers

    def _field(self, name: str, field: Mapping[str, Any], *, required: bool) -> Any:
        label = field.get("description") or field.get("title") or name
        choices = _choices(field)
        shown = f" ({', '.join(map(str, choices))})" if choices else " (y/n)" if field.get("type") == "boolean" else ""
        default = field.get("default")
        shown += f" [{default}]" if default is not None else ""
        while True:
            text = self._read(f"{label}{shown}: ").strip()
            if not text and (default is not None or not required):
                return default
            try:
                return _parsed(text, field, choices)
            except ValueError as error:
                self._stderr.write(str(error))

    def _read(self, prompt: str) -> str:
        self._stderr.write(prompt, ending="")
        self._stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")


def _bar(progress: Progress) -> str:
    text = f" {progress.message}" if progress.message else ""
    if not progress.total:
        return f"{progress.progress:g}{text}"
    done = min(max(progress.progress / progress.total, 0), 1)
    return f"[{'#' * round(done * BAR):<{BAR}}] {done:4.0%}{text}"


def _choices(field: Mapping[str, Any]) -> list[Any]:
    return list(field.get("enum", ())) or [arm["const"] for arm in field.get("oneOf", ()) if "const" in arm]


def _parsed(text: str, field: Mapping[str, Any], choices: list[Any]) -> Any:
    """Return what was typed as the schema wants it.

    Raises:
        ValueError: it does not fit; the message says what would.
    """
    kind = field.get("type")
    if kind == "boolean":
        if text.lower() not in _YES:
            raise ValueError("Answer y or n.")
        return _YES[text.lower()]
    if kind in {"integer", "number"}:
        try:
            return int(text) if kind == "integer" else float(text)
        except ValueError:
            raise ValueError(f"Answer with {'a whole number' if kind == 'integer' else 'a number'}.") from None
    if kind == "array":
        return [item.strip() for item in text.split(",") if item.strip()]
    if choices and text not in choices:
        raise ValueError(f"Answer with one of {', '.join(map(str, choices))}.")
    return text
