"""Where a view stands in the project's URLconf, so that its links, its version and its namespace are those of REST."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import unquote

from django.core.signals import setting_changed
from django.urls import NoReverseMatch, Resolver404, URLPattern, URLResolver, get_resolver, resolve
from django.urls import reverse as reverse_in_project
from django.urls.resolvers import RegexPattern

from django_mcp.contrib.views.place import Found

_NO_SUCH_PATH: Final = (NoReverseMatch, Resolver404, UnicodeError)


class Route:
    """One pattern of a view; `namespace` tells two places of the same name apart."""

    def __init__(self, pattern: URLPattern, kind: type, *, namespace: str | None = None) -> None:
        self.pattern = pattern
        self.kind = kind
        self.namespace = namespace
        # Where the URLconf does not have the view it still has the path that its own pattern says.
        self._alone = URLResolver(RegexPattern(r"^/"), [pattern])

    def find(self, kwargs: Mapping[str, Any], around: Mapping[str, Any]) -> Found | None:
        """Return where a request with these parts of the path goes; None if the pattern takes no such parts.

        Args:
            around: parts that the path of the endpoint has, for a view that stands under the same ones.
        """
        for name in self._names():
            for given in (kwargs, {**around, **kwargs}):
                try:
                    path = reverse_in_project(name, kwargs=dict(given))
                    match = resolve(unquote(path))
                except _NO_SUCH_PATH:
                    continue
                if getattr(match.func, "cls", None) is self.kind:
                    return Found(path=path, match=match)
        try:
            path = "/" + self._alone.reverse(cast("Any", self.pattern.callback), **kwargs)
            return Found(path=path, match=self._alone.resolve(unquote(path)))
        except _NO_SUCH_PATH:
            return None

    def _names(self) -> Sequence[str]:
        if self.pattern.name is None:
            return ()
        known = _names_by_view().get((self.kind, self.pattern.name), ())
        return [name for name in known if self.namespace in (None, name.rpartition(":")[0])]


@functools.cache
def _names_by_view() -> Mapping[tuple[type, str], Sequence[str]]:
    """Return the full names under which the project's URLconf has each view of REST framework."""
    found: dict[tuple[type, str], list[str]] = {}
    for kind, name, full_name in _walk(get_resolver().url_patterns, ""):
        found.setdefault((kind, name), []).append(full_name)
    return found


def _walk(patterns: Sequence[URLPattern | URLResolver], namespace: str) -> Iterator[tuple[type, str, str]]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from _walk(pattern.url_patterns, inner)
        elif pattern.name and (kind := getattr(pattern.callback, "cls", None)) is not None:
            yield kind, pattern.name, f"{namespace}{pattern.name}"


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "ROOT_URLCONF":
        _names_by_view.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_mcp.contrib.rest_framework.route")
