"""A rate: so many in so much time, counted in windows that begin at the same moment everywhere."""

import math
import re
from dataclasses import dataclass
from typing import Final

_WRITTEN: Final = re.compile(r"\s*([1-9][0-9]{0,8})\s*/\s*([a-z]+)\s*")
_SECONDS: Final = {
    **dict.fromkeys(("s", "sec", "second"), 1),
    **dict.fromkeys(("m", "min", "minute"), 60),
    **dict.fromkeys(("h", "hour"), 3_600),
    **dict.fromkeys(("d", "day"), 86_400),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most `count` in each window of `seconds`. The windows are those of the clock, in UTC."""

    count: int
    seconds: int

    @classmethod
    def parse(cls, text: object) -> "Rate":
        """Return what `"10/minute"` says; the period is a second, minute, hour or day, or begins one (`"10/min"`).

        Raises ValueError for anything else.
        """
        found = _WRITTEN.fullmatch(text) if isinstance(text, str) else None
        if found is None or found[2] not in _SECONDS:
            raise ValueError("a rate like '10/minute': a number of 1 or more, per second, minute, hour or day")
        return cls(count=int(found[1]), seconds=_SECONDS[found[2]])

    def window(self, now: float) -> int:
        """Return the number of the window that `now` (seconds since 1970) is in."""
        return int(now // self.seconds)

    def left(self, now: float) -> int:
        """Return in how many whole seconds the next window has begun, 1 or more."""
        return max(1, math.ceil((self.window(now) + 1) * self.seconds - now))
