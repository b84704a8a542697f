"""How many bodies of one tool run at once in this process. Other processes count their own."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Final

from django_mcp.exceptions import Overloaded

RETRY_AFTER_SECONDS: Final = 1

ANYWHERE: Final[AbstractContextManager[None]] = nullcontext()
"""The place of a call whose tool has as many as are needed."""


class Places:
    """The places of a tool."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()

    def take(self) -> Place:
        """Return a place; it is free again when nobody is in it any more. Raises Overloaded when all are taken."""
        with self._lock:
            if not self._free:
                text = "As many calls of this tool run as may run at once"
                raise Overloaded(RETRY_AFTER_SECONDS, message=text, has_begun=False)
            self._free -= 1
        return Place(self)

    def give_back(self) -> None:
        with self._lock:
            self._free += 1


class Place(AbstractContextManager[None]):
    """A place, to be entered by the call and by the thread of its body, which may stay longer."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._inside = 0
        self._is_left = False

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            gives_back = not self._inside and not self._is_left
            self._is_left = self._is_left or gives_back
        if gives_back:
            self._places.give_back()
