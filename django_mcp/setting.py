"""One setting: its name, its default, and the kind of its value.

A kind is a function that returns a value as the code reads it, and refuses any other by saying what it must be.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from django_mcp.core.rate import Rate
from django_mcp.exceptions import ConfigurationError

SETTING: Final = "DJANGO_MCP"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


class _Refused(Exception):
    """A value is not of its kind; the text completes "must be …"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of the table: `parse` turns what the project wrote into what the code reads."""

    name: str
    default: Any
    parse: Callable[[Any], Any]
    help: str

    def value(self, given: Any) -> Any:
        """Return the parsed value, or raise ConfigurationError that names the key, the value and what it must be."""
        try:
            return self.parse(given)
        except _Refused as refused:
            raise ConfigurationError(f"{SETTING}[{self.name!r}] is {given!r}; it must be {refused}.") from None

    @property
    def shown_default(self) -> str:
        return str(self.default.__doc__) if callable(self.default) else f"`{self.default!r}`"


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Refused("a string")
    return value


def matching(pattern: re.Pattern[str], meaning: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise _Refused(meaning)
        return value

    return parse


def choice(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            raise _Refused(" or ".join(repr(choice) for choice in choices))
        return str(value)

    return parse


def whole(least: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise _Refused(f"a whole number, {least} or more")
        return value

    return parse


def between(least: int, most: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise _Refused(f"a whole number from {least} to {most}")
        return value

    return parse


def switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Refused("True or False")
    return value


def seconds(least: float) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value < float("inf"):
            raise _Refused(f"a number of seconds, {least} or more")
        return float(value)

    return parse


def dotted(value: Any) -> str:
    if not isinstance(value, str) or _DOTTED.fullmatch(value) is None:
        raise _Refused("the dotted path of a Python object, like 'project.module.name'")
    return value


def dotted_or_none(value: Any) -> str | None:
    return None if value is None else dotted(value)


def _series(value: Any, meaning: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple | set | frozenset):
        raise _Refused(f"a list or tuple of {meaning}")
    return tuple(value)


def dotted_series(value: Any) -> tuple[str, ...]:
    return tuple(dotted(item) for item in _series(value, "dotted paths"))


def origins(value: Any) -> tuple[str, ...]:
    return tuple(_origin(item) for item in _series(value, "origins like 'https://app.example.com', or '*'"))


def _origin(value: Any) -> str:
    if value == "*":
        return "*"
    meaning = f"a list of origins like 'https://app.example.com' (no path, no wildcard), or '*'; {value!r} is neither"
    if not isinstance(value, str):
        raise _Refused(meaning)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise _Refused(meaning) from None
    bare = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc or "*" in parts.netloc)
    if not (parts.scheme and parts.hostname and bare) or value.endswith(("?", "#", ":")):
        raise _Refused(meaning)
    scheme = parts.scheme.lower()
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{scheme}://{host}" if port in (None, _DEFAULT_PORTS.get(scheme)) else f"{scheme}://{host}:{port}"


_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def networks(value: Any) -> tuple[Network, ...]:
    networks = []
    for item in _series(value, "IP networks like '10.0.0.0/8'"):
        try:
            networks.append(ipaddress.ip_network(item))
        except ValueError as error:
            raise _Refused(f"a list of IP networks like '10.0.0.0/8' ({error})") from None
    return tuple(networks)


def rate_or_none(value: Any) -> Rate | None:
    try:
        return None if value is None else Rate.parse(value)
    except ValueError as error:
        raise _Refused(str(error)) from None


def stores(value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, Mapping) or "default" not in value:
        raise _Refused("a dictionary of stores by alias, with the alias 'default'")
    for alias, params in value.items():
        if not isinstance(params, Mapping) or not isinstance(params.get("BACKEND"), str):
            raise _Refused(f"a dictionary of stores; {alias!r} lacks its 'BACKEND', a dotted path")
        unknown = sorted(map(str, params.keys() - {"BACKEND", "OPTIONS"}))
        if unknown or not isinstance(params.get("OPTIONS", {}), Mapping):
            raise _Refused(f"a dictionary of stores; {alias!r} takes 'BACKEND' and 'OPTIONS' (a dictionary) alone")
    return {str(alias): {"OPTIONS": {}, **params} for alias, params in value.items()}
