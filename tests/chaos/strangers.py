"""What a stranger tries: names of somebody else's, each beside one that does not exist, which must look the same."""

import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from tests.chaos.connection import Cut, NoAnswer, Response, Unreached
from tests.chaos.history import History, Probed

What = Literal["session", "event", "question", "handle", "token", "state"]

UNTOLD: Final = frozenset({"date", "server", "connection", "keep-alive"})
"""Headers that say nothing of the request."""
TRIES: Final = 5
STOLEN: Final = "stolen"
"""What a stranger answers to a question that was not put to it."""
_PASSING: Final = frozenset({429, 502, 503, 504})
_ENDED: Final = '"reason":"worker_lost"'
_LETTERS: Final = "abcdefghijkmnpqrstuvwxyz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    what: What
    owner: str
    value: str


@dataclass(slots=True)
class Loot:
    """Names that clients got for themselves, the newest of each kind."""

    _secrets: dict[What, deque[Secret]] = field(default_factory=dict)

    def drop(self, what: What, owner: str, value: str) -> None:
        self._secrets.setdefault(what, deque(maxlen=50)).append(Secret(what=what, owner=owner, value=value))

    def pick(self, rng: random.Random, what: What, stranger: str) -> Secret | None:
        """Return something that is not the stranger's own."""
        foreign = [secret for secret in self._secrets.get(what, ()) if secret.owner != stranger]
        return rng.choice(foreign) if foreign else None


async def probe(
    secret: Secret, stranger: str, rng: random.Random, history: History, attempt: Callable[[str], Awaitable[Response]]
) -> None:
    """Attempt something with a foreign name and with an unknown one, and note what could be seen of each.

    Nothing is noted where no server answers in time.
    """
    views = []
    for name in (secret.value, unknown_like(rng, secret.value)):
        view = await _view(attempt, name)
        if view is None:
            return
        views.append(view)
    foreign, unknown = views
    history.add(
        Probed(
            at=history.now(),
            what=secret.what,
            victim=secret.owner,
            stranger=stranger,
            foreign=foreign,
            unknown=unknown,
        )
    )


def unknown_like(rng: random.Random, value: str) -> str:
    """Return a name of the same shape that does not exist: some letters behind the first quarter are others."""
    letters = list(value)
    places = [place for place in range(len(letters) // 4, len(letters)) if letters[place].isalpha()]
    for place in rng.sample(places, min(8, len(places))):
        letters[place] = rng.choice([letter for letter in _LETTERS if letter != letters[place].lower()])
    return "".join(letters)


async def _view(attempt: Callable[[str], Awaitable[Response]], name: str) -> str | None:
    for _ in range(TRIES):
        try:
            async with await attempt(name) as response:
                # One that takes long comes as a stream, whoever asks for what: that says nothing of the name.
                if response.status not in _PASSING and not response.is_stream:
                    seen = await _seen(response)
                    # That the process ended meanwhile does not either.
                    if _ENDED not in seen:
                        return seen
        except (Unreached, NoAnswer, Cut):
            continue
    return None


async def _seen(response: Response) -> str:
    body = await response.read()
    headers = {name: value for name, value in sorted(response.headers.items()) if name not in UNTOLD}
    return f"{response.status} {headers} {body.decode(errors='replace')}"
