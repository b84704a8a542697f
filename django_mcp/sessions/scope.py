"""Whose conversations: a server and a caller, as the stores and the tokens ask for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django_mcp.core.principal import Principal, scope_digest
from django_mcp.core.token import name_digest, short

if TYPE_CHECKING:
    from django_mcp.sessions.stores.state import AnyUser


@dataclass(frozen=True, kw_only=True)
class Scope:
    """One caller of one server: nobody else finds what was begun in it.

    Args:
        server: the server's key, the audience of its tokens.
        address: of an anonymous caller, for the cap.
    """

    server: str
    tenant: str
    principal: Principal
    user: AnyUser = None
    address: str = ""

    @property
    def owner(self) -> dict[str, Any]:
        """The arguments that each `find…()` of a store takes."""
        return {"server": self.server, "tenant": self.tenant, "principal": self.principal, "user": self.user}

    @cached_property
    def audience(self) -> str:
        """What a token says of the server."""
        return name_digest(self.server)

    @cached_property
    def caller(self) -> str:
        """What a token says of the caller."""
        return short(scope_digest(self.tenant, self.principal))
