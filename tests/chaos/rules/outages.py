"""While Redis is down everybody is told so, and as soon as it is there again everybody is served."""

from collections.abc import Iterator, Sequence
from typing import Final

from tests.chaos.history import Asked, Line, Refused, Returned, of_type
from tests.chaos.rules.broken import Broken
from tests.chaos.truth import Truth

UNAVAILABLE: Final = 503
RETURN_SECONDS: Final = 5.0
"""So soon after Redis answers again every server does."""


def outages_are_told(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """What needs Redis while it is down is answered 503, and whoever is told 503 is told when to come back."""
    for line in of_type(lines, Asked):
        if line.status != UNAVAILABLE or not line.retry_after:
            text = f"{line.server} answered {line.status} to {line.what}, without Redis"
            yield Broken.of("outages are told", text, [line])
    for refused in of_type(lines, Refused):
        if refused.status == UNAVAILABLE and not refused.retry_after:
            yield Broken.of("outages are told", f"{refused.op}: {refused.what} was not told when", [refused])


def service_returns(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """Each server serves soon after Redis does."""
    for line in of_type(lines, Returned):
        if line.seconds > RETURN_SECONDS or not line.has_returned:
            text = f"{line.server} did not serve {line.seconds:.1f} s after Redis was back"
            yield Broken.of("service returns", text, [line])
