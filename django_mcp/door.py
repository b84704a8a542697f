"""What both doors do between the head of a request and its exchange: authenticate the caller and find the tenant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest

from django_mcp import authentication
from django_mcp.authentication import Identity
from django_mcp.conf import mcp_settings
from django_mcp.core.principal import ANONYMOUS
from django_mcp.exceptions import (
    AuthenticationFailed,
    ConfigurationError,
    Overloaded,
    PermissionRefused,
    StoreUnavailable,
)
from django_mcp.security import INTERNAL_ERROR, Head, Refusal, refusal, unauthenticated
from django_mcp.server.caller import Arrival, Caller
from django_mcp.server.permission import permits
from django_mcp.server.threads import Threads
from django_mcp.server.throttle import check_throttles
from django_mcp.server.wire import logger

THROTTLE_SCOPE: Final = "mcp"
"""The scope of the endpoint for `ScopedRateThrottle`, whose rate REST framework's DEFAULT_THROTTLE_RATES has."""


async def admit(
    head: Head,
    body: bytes,
    make_request: Callable[[], HttpRequest],
    *,
    threads: Threads,
    streams: bool,
    listens: bool,
) -> Arrival | Refusal:
    """Authenticate the caller of a request that passed `examine()`, and return what the exchange needs.

    A caller who brings no credentials to a public server is let in without a thread and without a Django request.
    """
    arrival = Arrival(
        method=head.method,
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in head.fields.items()},
        caller=Caller(principal=ANONYMOUS, user=_NOBODY, address=head.client),
        threads=threads,
        make_request=make_request,
        body=body,
        streams=streams,
        listens=listens,
    )
    try:
        if not _is_plain(head):
            arrival.caller = await threads.door.run(_identify, arrival, head.client)
    except AuthenticationFailed as error:
        logger.info("not authenticated: %s", error.reason)
        return unauthenticated(authentication.challenge(), head.origin)
    except PermissionRefused as error:
        logger.info("refused: %s", error)
        return refusal(403, error.message, origin=head.origin)
    except (Overloaded, StoreUnavailable) as error:
        logger.warning("refused: %s", error)
        return refusal(
            429 if getattr(error, "scope", "") == "principal" else 503,
            str(error),
            code=INTERNAL_ERROR,
            origin=head.origin,
            retry_after_seconds=error.retry_after_seconds,
        )
    return arrival


def _is_plain(head: Head) -> bool:
    """Whether the caller is anonymous for sure and of no tenant in particular."""
    return (
        mcp_settings.ACCESS == "public"
        and mcp_settings.TENANT is None
        and not mcp_settings.PERMISSIONS
        and not mcp_settings.THROTTLES
        and b"authorization" not in head.fields
        and not authentication.needs_database(head.fields)
    )


def _identify(arrival: Arrival, address: str) -> Caller:
    request = arrival.request
    identity: Identity = authentication.authenticate(request)
    request.user = identity.user  # type: ignore[assignment]
    request.auth = identity.auth  # type: ignore[attr-defined]
    request.authenticator = identity.authenticator  # type: ignore[attr-defined]
    caller = Caller(principal=identity.principal, tenant=tenant_of(request), user=identity.user, address=address)
    if not all(permits(permission, caller, request) for permission in mcp_settings.imported("PERMISSIONS")):
        if caller.principal.is_anonymous:
            raise AuthenticationFailed("PERMISSIONS let nobody in without credentials")
        raise PermissionRefused
    if arrival.method == "POST":
        check_throttles(mcp_settings.imported("THROTTLES"), request, address, THROTTLE_SCOPE)
    return caller


def tenant_of(request: HttpRequest) -> str:
    """Return what the `TENANT` callable gives for a request; empty without one. May read the database."""
    find = mcp_settings.imported("TENANT")
    if find is None:
        return ""
    tenant = find(request)
    if not isinstance(tenant, str) or len(tenant) > 100:
        raise ConfigurationError(f"TENANT gave {tenant!r}; it must give a string of at most 100 characters.")
    return tenant


_NOBODY = AnonymousUser()
