"""Who is calling, as a value. Stands at the bottom: knows no user model, no request and no database."""

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

PrincipalKind = Literal["user", "oauth", "anonymous"]

MAX_KEY_LENGTH: Final = 190
"""Characters of the longest `Principal.key`: what an indexed column holds on every database."""

_FOLDED: Final = "sha256:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A Django user (`id` is the primary key), an OAuth subject (`id` is the subject) or nobody in particular."""

    kind: PrincipalKind
    id: str = ""

    def __post_init__(self) -> None:
        if (self.kind == "anonymous") == bool(self.id):
            raise ValueError(f"A principal of kind {self.kind!r} cannot have the id {self.id!r}.")

    @property
    def key(self) -> str:
        """Return the stored name: `user:42`, `oauth:<subject>` or `anonymous`; different for different principals.

        An id that is too long for a column, or that looks like a folded one, is folded to its SHA-256.
        """
        if self.kind == "anonymous":
            return "anonymous"
        key = f"{self.kind}:{self.id}"
        if len(key) > MAX_KEY_LENGTH or self.id.startswith(_FOLDED):
            return f"{self.kind}:{_FOLDED}{_sha256(self.id)}"
        return key

    @property
    def is_anonymous(self) -> bool:
        return self.kind == "anonymous"


ANONYMOUS: Final = Principal(kind="anonymous")


def scope_digest(tenant: str, principal: Principal) -> str:
    """Return the SHA-256, in hexadecimal, that stands for one principal of one tenant in the key of a record."""
    return _sha256(f"{len(tenant)}:{tenant}{principal.key}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
