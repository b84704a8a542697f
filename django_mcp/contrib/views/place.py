"""Where a plain view is: under a name of the URLconf, or on a route of its own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import unquote

from django.urls import NoReverseMatch, Resolver404, ResolverMatch, URLPattern, URLResolver, resolve, reverse
from django.urls.resolvers import RegexPattern

_NO_SUCH_PATH: Final = (NoReverseMatch, Resolver404, UnicodeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A path as in a URL, and what it resolves to."""

    path: str
    match: ResolverMatch


class Place(Protocol):
    """Finds the view for the parts of a path."""

    @property
    def names(self) -> frozenset[str]:
        """The parts that are known beforehand."""

    @property
    def description(self) -> str: ...

    def find(self, kwargs: Mapping[str, Any]) -> Found | None:
        """Return where a request with these parts goes; None if it leads nowhere."""


class Named:
    """What the URLconf has under a name, as it stands there."""

    names: frozenset[str] = frozenset()
    description = ""

    def __init__(self, name: str) -> None:
        self.name = name

    def find(self, kwargs: Mapping[str, Any]) -> Found | None:
        try:
            found = reverse(self.name, kwargs=dict(kwargs))
            match = resolve(unquote(found))
        except _NO_SUCH_PATH:
            return None
        # Another route may stand before the one of the name.
        return Found(path=found, match=match) if match.view_name == self.name else None


class Routed:
    """A view on a route that the URLconf need not have."""

    def __init__(self, pattern: URLPattern) -> None:
        self.pattern = pattern
        self.names = frozenset(pattern.pattern.converters)
        kind = getattr(pattern.callback, "view_class", pattern.callback)
        self.description = inspect.getdoc(kind) or ""
        self._alone = URLResolver(RegexPattern(r"^/"), [pattern])

    def find(self, kwargs: Mapping[str, Any]) -> Found | None:
        try:
            found = "/" + self._alone.reverse(self.pattern.callback, **kwargs)  # type: ignore[arg-type]
            return Found(path=found, match=self._alone.resolve(unquote(found)))
        except _NO_SUCH_PATH:
            return None
