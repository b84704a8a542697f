"""The definition of a tool that is made of a view, and who made it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from types import FrameType
from typing import Final, ParamSpec, TypeVar

from django_mcp.registry.definition import ToolDefinition

P = ParamSpec("P")
R = TypeVar("R")

_OURS: Final = "django_mcp.contrib."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ViewToolDefinition(ToolDefinition[P, R]):
    """A tool made of a view."""

    place: str

    @property
    def kind(self) -> str:
        return "tool"

    @property
    def where(self) -> str:
        return self.place

    @property
    def repeatable(self) -> bool:
        """No: another process has neither the headers nor the credentials that the view may look at."""
        return False


def registering() -> tuple[str, str]:
    """Return the module that registers a view, and its file and line."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(_OURS):
        frame = frame.f_back
    if frame is None:
        raise RuntimeError("nobody registered it")
    return frame.f_globals.get("__name__", ""), f"{frame.f_code.co_filename}:{frame.f_lineno}"
