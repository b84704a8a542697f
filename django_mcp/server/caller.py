"""Who calls and by which door: the values that a door hands to the exchange."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django_mcp.core.principal import Principal
from django_mcp.server.threads import Threads

if TYPE_CHECKING:
    from django.http import HttpRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The authenticated caller of one request."""

    principal: Principal
    tenant: str = ""
    user: Any = None
    address: str = ""

    @property
    def key(self) -> str:
        """What stored records and sealed state are bound to: tenant and principal, unambiguously joined."""
        return f"{len(self.tenant)}:{self.tenant}{self.principal.key}"


@dataclass(slots=True, kw_only=True)
class Arrival:
    """One HTTP request as the exchange sees it, after the door's own checks.

    Attributes:
        headers: by lower-case name, values stripped; the door refuses duplicates of those that matter.
        body: the whole body, within `MAX_BODY_BYTES`.
        streams: whether the door can answer with `text/event-stream`.
        listens: whether the door can hold a stream that has no end of its own.
    """

    method: str
    headers: Mapping[str, str]
    caller: Caller
    threads: Threads
    make_request: Callable[[], HttpRequest]
    body: bytes = b""
    streams: bool = True
    listens: bool = True
    _request: HttpRequest | None = field(default=None, init=False)

    @property
    def request(self) -> HttpRequest:
        """Django's request, made when it is first asked for."""
        if self._request is None:
            self._request = self.make_request()
        return self._request
