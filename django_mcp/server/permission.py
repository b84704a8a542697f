"""Who may see and use a definition, or the endpoint.

A permission hides and refuses alike: what a caller may not use is, for that caller, not there. It is the codename of
one of Django's, a callable of the request, or a permission class of Django REST framework; or a list, and then all of
them count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from django.core.exceptions import PermissionDenied
from django.utils.module_loading import import_string

from django_mcp.registry.definition import Definition, ToolDefinition
from django_mcp.server.caller import Arrival, Caller

if TYPE_CHECKING:
    from django.http import HttpRequest

D = TypeVar("D", bound=Definition[..., object])

_ADAPTER: Final = "django_mcp.contrib.rest_framework.guards.has_permission"
"""Named and not imported: a project without Django REST framework has nothing of it."""


def is_permission(given: object) -> bool:
    """Say whether something can be asked for permission."""
    if isinstance(given, list | tuple):
        return all(is_permission(one) for one in given)
    return isinstance(given, str) or callable(given)


def permits(permission: Any, caller: Caller, request: HttpRequest) -> bool:
    """Say whether a permission lets a caller in. May read the database."""
    if isinstance(permission, list | tuple):
        return all(permits(one, caller, request) for one in permission)
    if isinstance(permission, str):
        return caller.user is not None and bool(caller.user.has_perm(permission))
    if _is_of_rest_framework(permission):
        return bool(import_string(_ADAPTER)(permission, request, caller.address))
    try:
        return bool(permission(request))
    except PermissionDenied:
        return False


def allows(definition: Definition[..., object], arrival: Arrival) -> bool:
    """Whether the caller may use the definition. May read the database: run it on a handler's thread."""
    return definition.permission is None or permits(definition.permission, arrival.caller, arrival.request)


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


def _is_of_rest_framework(permission: Any) -> bool:
    """Say whether it is a class that makes a permission, or a composition such as `IsAdminUser | ReadOnly`."""
    return hasattr(permission, "has_permission") or type(permission).__module__ == "rest_framework.permissions"


def _listed(definition: Definition[..., object]) -> Callable[[HttpRequest], bool] | None:
    return definition.listed if isinstance(definition, ToolDefinition) else None


def _shows(definition: Definition[..., object], arrival: Arrival) -> bool:
    listed = _listed(definition)
    return listed is None or listed(arrival.request)
