"""What a process remembers of where conversations are kept. Never the truth: a place that is no good is looked up."""

from threading import Lock
from typing import Final

from django_mcp.sessions.stores.remote_state import Place

REMEMBERED: Final = 10_000


class Places:
    """Places by the name that leads to them, the oldest forgotten over REMEMBERED."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._lock = Lock()

    def get(self, name: str) -> Place | None:
        return self._places.get(name)

    def __setitem__(self, name: str, place: Place) -> None:
        if self._places.get(name) == place:
            return
        with self._lock:
            self._places[name] = place
            while len(self._places) > REMEMBERED:
                del self._places[next(iter(self._places))]
