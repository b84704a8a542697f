"""What another process needs to run a request whose process died: sealed, since it has the user's data.

No header of the request travels, and no credentials: whoever runs it there looks at the session and its user again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from django_mcp.core import strict_json
from django_mcp.core.principal import Principal
from django_mcp.sessions.sealing import Unsealable, seal, unseal

_PURPOSE: Final = "django_mcp.call"
_PREFIX: Final = "c1:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A request, the path of the URL at which it arrived, and who sent it."""

    message: Mapping[str, Any]
    path: str
    principal: Principal

    def seal(self) -> str:
        return seal(_PURPOSE, strict_json.encode(asdict(self)), prefix=_PREFIX)

    @classmethod
    def unseal(cls, text: str) -> Parcel:
        """Return what was sealed.

        Raises:
            django_mcp.sessions.sealing.Unsealable: it was not sealed with a key of this project, or by other code.
        """
        sealed = unseal(_PURPOSE, text, prefix=_PREFIX)
        try:
            # How deep a message may be was asked when it arrived, and here it lies deeper.
            unsealed = strict_json.decode(sealed, max_depth=sys.maxsize)
            return cls(**{**unsealed, "principal": Principal(**unsealed["principal"])})
        except (KeyError, TypeError, ValueError) as error:
            raise Unsealable("another form") from error
