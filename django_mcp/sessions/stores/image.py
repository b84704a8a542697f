"""What a store keeps of one conversation, as it goes from one store to another."""

from collections.abc import Iterable
from dataclasses import dataclass

from django_mcp.sessions.stores.state import Generation, NotedCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A conversation but for its manifests and blobs, which the addresses in its history name.

    Args:
        past: the kept generations but 0 and the calls that were noted, in the order they came.
    """

    generation: int
    revoked_up_to: int
    revoked_tokens: frozenset[str]
    past: tuple[Generation | NotedCall, ...]

    @property
    def generations(self) -> tuple[Generation, ...]:
        return tuple(one for one in self.past if isinstance(one, Generation))

    @property
    def notes(self) -> tuple[NotedCall, ...]:
        return tuple(one for one in self.past if isinstance(one, NotedCall))

    def is_like(self, other: "Image") -> bool:
        """Say whether both have the same head, history, notes and revocations.

        Which of a note and a generation of the same moment came first is not the same in all stores.
        """
        return (
            (self.generation, self.revoked_up_to, self.revoked_tokens)
            == (other.generation, other.revoked_up_to, other.revoked_tokens)
            and self.generations == other.generations
            and self.notes == other.notes
        )


def past_of(placed: Iterable[tuple[object, Generation | NotedCall]]) -> tuple[Generation | NotedCall, ...]:
    """Return what came, by what stands beside it; what came at once stays in the order it is in."""
    return tuple(one for _, one in sorted(placed, key=lambda pair: pair[0]))  # type: ignore[arg-type, return-value]
