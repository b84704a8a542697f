"""How many progress and log messages a stream takes, so that these alone never fill it.

A stream's bounds are for what must not be left out. The first half of them is anybody's; beyond it the messages that
say the latest of something become rarer by ten with each further tenth, and near the end there are none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

MOST_PER_SECOND: Final = 100.0
_FREE_UP_TO: Final = 0.5
_NONE_FROM: Final = 0.9


def per_second(used: float) -> float:
    """Return how many messages of one kind a second go onto a stream.

    Args:
        used: which part of the stream's bounds is taken, 0…1.
    """
    if used >= _NONE_FROM:
        return 0.0
    return MOST_PER_SECOND / 10.0 ** math.ceil(round(max(0.0, used - _FREE_UP_TO) * 10, 6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What one kind of message may still use of its rate: a second's worth at once, and then as it comes back.

    `left` counts messages, `at` is the time in seconds when it was counted.
    """

    left: float
    at: float

    @classmethod
    def fresh(cls, used: float, now: float) -> Allowance:
        """Return the allowance of a kind of message that was not sent yet."""
        return cls(left=_most(per_second(used)), at=now)

    def take(self, used: float, now: float) -> Allowance | None:
        """Return what is left after one message, None where it has to wait and a later one may take its place."""
        rate = per_second(used)
        left = min(self.left + (now - self.at) * rate, _most(rate))
        return Allowance(left=left - 1, at=now) if left >= 1 else None

    def wait_seconds(self, used: float, now: float) -> float | None:
        """Return how long from now the next message has to wait; None where it is for ever."""
        rate = per_second(used)
        if not rate:
            return None
        return max(0.0, (1 - self.left) / rate - (now - self.at))


def _most(rate: float) -> float:
    return max(1.0, rate) if rate else 0.0
