"""What a resumption token says, as a value, as the few bytes that are sealed, and as rules about its standing.

No cryptography here: whoever seals adds the prefix, the key's id, the nonce and the tag. The names of server and
caller are 128-bit digests, so that the size does not depend on what they are called.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final, Literal

RESUMPTION: Final = "resumption"

Refusal = Literal["audience", "caller", "purpose", "expired", "not_yet"]
"""Why the claims alone are no good, whatever the store says. For the log and the admin, never for the wire."""

Standing = Literal["current", "behind", "revoked", "ahead"]
"""Where a token stands against its conversation: `current` and `behind` redeem. `ahead`: the store lost commits."""

_FORMAT: Final = 2
_LAYOUT: Final = struct.Struct("!BB16sQ16s16s16sQQ")
_PURPOSES: Final = {RESUMPTION: 1}
_PURPOSE_OF: Final = {number: purpose for purpose, number in _PURPOSES.items()}

PACKED_BYTES: Final = _LAYOUT.size
"""Bytes of packed claims, always."""


class MalformedClaims(ValueError):
    """The bytes are not claims that this version packs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenClaims:
    """What a token names and for whom it is good. All names are lowercase hexadecimal digits.

    Args:
        conversation: 32 digits, the conversation's id.
        generation: the generation that was current when it was issued.
        snapshot: 32 digits, the beginning of the snapshot's address; zeros for generation 0 (`short`).
        audience: 32 digits, `name_digest` of the server's name.
        caller: 32 digits, the beginning of `principal.scope_digest(tenant, principal)` (`short`).
        issued: seconds since 1970, UTC.
        expires: seconds since 1970, UTC; the token is good before, and no longer at that second.
        purpose: what the token may be used for; `RESUMPTION` is the only one.
    """

    conversation: str
    generation: int
    snapshot: str
    audience: str
    caller: str
    issued: int
    expires: int
    purpose: str = RESUMPTION

    def pack(self) -> bytes:
        """Return the claims as `PACKED_BYTES` bytes.

        Raises:
            ValueError: a name is not 32 hexadecimal digits, a number is negative or above 64 bits, or the purpose is
                unknown.
        """
        try:
            return _LAYOUT.pack(
                _FORMAT,
                _PURPOSES[self.purpose],
                _name(self.conversation),
                self.generation,
                _name(self.snapshot),
                _name(self.audience),
                _name(self.caller),
                self.issued,
                self.expires,
            )
        except (KeyError, struct.error) as error:
            raise ValueError(f"claims that cannot be packed: {error}") from error

    @classmethod
    def unpack(cls, data: bytes) -> TokenClaims:
        """Return the claims that `data` holds.

        Raises:
            MalformedClaims: it holds none, or those of another version.
        """
        if len(data) != PACKED_BYTES or data[0] != _FORMAT or data[1] not in _PURPOSE_OF:
            raise MalformedClaims("not the claims of a token of this version")
        _, purpose, conversation, generation, snapshot, audience, caller, issued, expires = _LAYOUT.unpack(data)
        return cls(
            conversation=conversation.hex(),
            generation=generation,
            snapshot=snapshot.hex(),
            audience=audience.hex(),
            caller=caller.hex(),
            issued=issued,
            expires=expires,
            purpose=_PURPOSE_OF[purpose],
        )

    def refusal(
        self, *, audience: str, caller: str, now: int, purpose: str = RESUMPTION, skew_seconds: int = 60
    ) -> Refusal | None:
        """Return why the claims are no good for this server and caller at this time, or None.

        Args:
            audience: as in the claims.
            caller: as in the claims.
            now: seconds since 1970, UTC.
            skew_seconds: how far ahead the clock of the host that issued it may be.
        """
        if self.purpose != purpose:
            return "purpose"
        if self.audience != audience:
            return "audience"
        if self.caller != caller:
            return "caller"
        if now >= self.expires:
            return "expired"
        if self.issued > now + skew_seconds:
            return "not_yet"
        return None

    def standing(self, *, generation: int, snapshot: str, revoked_up_to: int = -1) -> Standing:
        """Return where the token stands against the head of its conversation.

        A generation above the head's, or the head's own with another snapshot, was committed once and is gone:
        conclude that only from the primary.

        Args:
            generation: the head's.
            snapshot: the head's address, 64 digits, or an empty text for generation 0.
            revoked_up_to: tokens of this generation and older are revoked.
        """
        if self.generation <= revoked_up_to:
            return "revoked"
        if self.generation > generation:
            return "ahead"
        if self.generation < generation:
            return "behind"
        return "current" if self.snapshot == short(snapshot) else "ahead"


def short(digest: str) -> str:
    """Return the first 32 digits of a digest, or zeros for an empty text: what a claim holds of a longer name."""
    return digest[:32] or "0" * 32


def name_digest(name: str) -> str:
    """Return the 32 hexadecimal digits that stand for a name of any length in a claim."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _name(digits: str) -> bytes:
    name = bytes.fromhex(digits)
    if len(name) != 16 or name.hex() != digits:
        raise ValueError(f"not 32 lowercase hexadecimal digits: {digits!r}")
    return name
