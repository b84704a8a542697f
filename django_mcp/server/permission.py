"""Who may see and use a definition.

A permission hides and refuses alike: what a caller may not use is, for that caller, not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from django_mcp.registry.definition import Definition, ToolDefinition
from django_mcp.server.caller import Arrival

if TYPE_CHECKING:
    from django.http import HttpRequest

D = TypeVar("D", bound=Definition[..., object])


def allows(definition: Definition[..., object], arrival: Arrival) -> bool:
    """Whether the caller may use the definition. May read the database: run it on a handler's thread."""
    permission = definition.permission
    if permission is None:
        return True
    if callable(permission):
        return bool(permission(arrival.request))
    user = arrival.caller.user
    return user is not None and bool(user.has_perm(permission))


async def may_use(definition: Definition[..., object], arrival: Arrival) -> bool:
    """Whether the caller may use the definition; without a permission nothing is asked and no thread is taken."""
    if definition.permission is None:
        return True
    return await arrival.threads.door.run(allows, definition, arrival)


async def usable(definitions: Iterable[D], arrival: Arrival) -> set[D]:
    """Return the definitions that the caller may use, with one visit to a thread at most."""
    open_to_all, guarded = set(), []
    for definition in definitions:
        if definition.permission is None and _listed(definition) is None:
            open_to_all.add(definition)
        else:
            guarded.append(definition)
    if not guarded:
        return open_to_all

    def check() -> set[D]:
        return {definition for definition in guarded if allows(definition, arrival) and _shows(definition, arrival)}

    return open_to_all | await arrival.threads.door.run(check)


def _listed(definition: Definition[..., object]) -> Callable[[HttpRequest], bool] | None:
    return definition.listed if isinstance(definition, ToolDefinition) else None


def _shows(definition: Definition[..., object], arrival: Arrival) -> bool:
    listed = _listed(definition)
    return listed is None or listed(arrival.request)
