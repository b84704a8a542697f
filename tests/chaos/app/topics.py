"""What clients subscribe to; servers and clients know it."""

from typing import Final

TOPICS: Final = ("north", "east", "south", "west")


def uri_of(topic: str) -> str:
    return f"chaos://topics/{topic}"
