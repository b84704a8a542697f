"""Whole numbers as they are typed."""

from argparse import ArgumentTypeError
from collections.abc import Callable


def whole(least: int = 0) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number, `least` or more."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 19 and int(text) >= least):
            raise ArgumentTypeError(f"{text!r} is not a whole number, {least} or more")
        return int(text)

    return parse
