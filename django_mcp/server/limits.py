"""The limits of one tool, as its decorator wrote them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django_mcp.core.rate import Rate

if TYPE_CHECKING:
    from django_mcp.registry.definition import ToolDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a tool may be asked for.

    Args:
        rate: calls of one principal.
        throttles: throttle classes of Django REST framework.
        time_limit: seconds of one body.
        concurrency: bodies at once in one process.
    """

    rate: Rate | None = None
    throttles: tuple[Any, ...] = ()
    time_limit: float | None = None
    concurrency: int | None = None

    @classmethod
    def of(cls, definition: ToolDefinition[..., Any]) -> Limits:
        """Return the limits of a tool. Raises RegistryError for one that is none."""
        return cls(
            rate=_rate(definition),
            throttles=_throttles(definition),
            time_limit=_time_limit(definition),
            concurrency=_concurrency(definition),
        )


def _rate(definition: ToolDefinition[..., Any]) -> Rate | None:
    if definition.rate is None:
        return None
    try:
        return Rate.parse(definition.rate)
    except ValueError as error:
        raise definition.error(f"has the rate {definition.rate!r}", f"write {error}") from error


def _throttles(definition: ToolDefinition[..., Any]) -> tuple[Any, ...]:
    given: object = definition.throttles
    if not isinstance(given, list | tuple) or not all(is_throttle(one) for one in given):
        raise definition.error(
            f"has the throttles {given!r}", "give a list of throttle classes of Django REST framework"
        )
    return tuple(given)


def _time_limit(definition: ToolDefinition[..., Any]) -> float | None:
    given: object = definition.time_limit
    is_number = isinstance(given, int | float) and not isinstance(given, bool) and 0 < given < float("inf")
    if given is not None and not is_number:
        raise definition.error(f"has the time_limit {given!r}", "give a number of seconds above 0")
    return definition.time_limit


def _concurrency(definition: ToolDefinition[..., Any]) -> int | None:
    given: object = definition.concurrency
    if given is not None and (not isinstance(given, int) or isinstance(given, bool) or given < 1):
        raise definition.error(f"has the concurrency {given!r}", "give a whole number, 1 or more")
    return definition.concurrency


def is_throttle(given: object) -> bool:
    """Say whether it is a throttle class of Django REST framework, by what such a class has."""
    return isinstance(given, type) and callable(getattr(given, "allow_request", None))
