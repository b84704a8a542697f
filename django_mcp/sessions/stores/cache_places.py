"""Where things are in Redis: what is asked for by its id alone is found by a pointer, which never changes.

A pointer is written before the thing itself, so whatever there is can be found. A process knows it from then on, looks
again after FRESH_SECONDS, and renews it by that: it lives as long as somebody waits for the thing, or acts for it. Who
comes to a thing by its session, or by a hint at it, writes the pointer again.
"""

import hashlib
import json
import re
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Final

from django_mcp.conf import mcp_settings
from django_mcp.sessions.stores.redis_link import Argument, RedisLink

DAY: Final = 86_400_000
"""Milliseconds."""
MAX_KNOWN: Final = 20_000
FRESH_SECONDS: Final = 3_600.0
POINTER_LIFE: Final = 3 * 3_600_000
"""Milliseconds, some more than the time after which a process looks again."""

_PLAIN: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")


def plain(text: str) -> str:
    """Return a name that can be part of a key: the text itself, or what stands for it."""
    return text if _PLAIN.fullmatch(text) else digest(text)


def digest(*parts: str) -> str:
    text = parts[0] if len(parts) == 1 else json.dumps(parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogatepass")


def milliseconds(seconds: float) -> int:
    return round(seconds * 1_000)


def session_life() -> int:
    """Return for how many milliseconds at least what an idle session may come back to is kept."""
    return mcp_settings.SESSION_IDLE_SECONDS * 1_000 + DAY


def session_tag(session: str) -> str:
    return f"s:{plain(session)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which hash tag a thing has, and what of it never changes and says where else it is counted."""

    tag: str
    id: str
    stream: str = ""
    server: str = ""
    scope: str = ""

    def text(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def of(cls, text: bytes) -> "Place":
        return cls(**json.loads(text))


class Places:
    """The pointers of one store, and those that this process knows."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._known: OrderedDict[str, tuple[float, Place]] = OrderedDict()
        self._lock = Lock()

    def pointers(self, places: Iterable[Place]) -> list[tuple[Argument, ...]]:
        """Return the commands that write pointers, and know them from now on."""
        found = list(places)
        self._remember(found)
        return [("SET", self._key(place.id), place.text(), "PX", POINTER_LIFE) for place in found]

    def forget(self, places: Iterable[Place]) -> list[tuple[Argument, ...]]:
        """Return the commands that delete pointers to what never came to be."""
        return [("DEL", self._key(place.id)) for place in places]

    def find(self, names: Iterable[str]) -> dict[str, Place]:
        """Return the places of those of the ids that have one."""
        return self.look(names)[0]

    def look(self, names: Iterable[str]) -> tuple[dict[str, Place], frozenset[str]]:
        """Return the places of those of the ids that have one, and which of them were not looked up for a while."""
        wanted = dict.fromkeys(names)
        now = time.monotonic()
        with self._lock:
            found = {
                name: known[1]
                for name in wanted
                if (known := self._known.get(name)) is not None and now - known[0] < FRESH_SECONDS
            }
        missing = [name for name in wanted if name not in found]
        texts = self._link.send([("GETEX", self._key(name), "PX", POINTER_LIFE) for name in missing])
        looked_up = {name: Place.of(text) for name, text in zip(missing, texts, strict=True) if text is not None}
        self._remember(looked_up.values())
        return {**found, **looked_up}, frozenset(looked_up)

    def one(self, name: str) -> Place | None:
        return self.find([name]).get(name)

    def _key(self, name: str) -> str:
        return self._link.key(f"p:{plain(name)}")

    def _remember(self, places: Iterable[Place]) -> None:
        now = time.monotonic()
        with self._lock:
            for place in places:
                self._known[place.id] = now, place
                self._known.move_to_end(place.id)
            while len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)


def by_tag(places: Mapping[str, Place]) -> dict[str, list[Place]]:
    grouped: dict[str, list[Place]] = {}
    for place in places.values():
        grouped.setdefault(place.tag, []).append(place)
    return grouped
