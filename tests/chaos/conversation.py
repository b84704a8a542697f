"""A conversation as clients know it: by the label that its state has, and by its handle once they were told one."""

from dataclasses import dataclass


@dataclass(slots=True)
class Conversation:
    """One that a client has for itself, or that all clients of a principal share."""

    name: str
    label: str = ""
    handle: str | None = None
    is_claimed: bool = False
    """Whether somebody is about to begin it."""
    is_lost: bool = False
    """Whether its handle was refused: who was told that begins another one."""
    _times_begun: int = 0

    def __post_init__(self) -> None:
        self.forget()

    def adopt(self, handle: str, label: str) -> None:
        """Go on with this one; under its key one is found again that was thought lost."""
        self.handle, self.label = handle, label

    def successor(self) -> "Conversation":
        """Return the one to go on with when this one is lost; what is still sent to this one finds it no more."""
        return Conversation(name=self.name, _times_begun=self._times_begun)

    def forget(self) -> None:
        """Begin anew, since nobody was told the handle of the one that perhaps was begun."""
        self.label = f"{self.name}.{self._times_begun}"
        self._times_begun += 1
        self.is_claimed = False


@dataclass(slots=True)
class Shared:
    """The conversation of all clients of one principal."""

    _newest: Conversation

    @property
    def newest(self) -> Conversation:
        """Return it, or the one after it where it is lost."""
        if self._newest.is_lost:
            self._newest = self._newest.successor()
        return self._newest
