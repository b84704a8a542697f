"""A stranger learns nothing, not even whether something exists."""

from collections.abc import Iterator, Sequence

from tests.chaos.history import Line, Probed, of_type
from tests.chaos.rules.broken import Broken
from tests.chaos.truth import Truth


def strangers_learn_nothing(lines: Sequence[Line], truth: Truth) -> Iterator[Broken]:
    """What belongs to somebody else looks, byte for byte, like what does not exist."""
    for probed in of_type(lines, Probed):
        if probed.foreign != probed.unknown:
            text = f"{probed.stranger} can tell a {probed.what} of {probed.victim} from an unknown one"
            yield Broken.of("strangers learn nothing", text, [probed])
