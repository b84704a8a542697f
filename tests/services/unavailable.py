"""The rule for what a machine lacks: skip with the reason, or fail where everything has to be there."""

import os
from typing import NoReturn

import pytest


class Unavailable(Exception):
    """Something outside Python cannot be had on this machine; the message says why, for a person."""


def is_required() -> bool:
    """Tell whether a test that lacks something outside Python has to fail (`REQUIRE_SERVICES=1`)."""
    return os.environ.get("REQUIRE_SERVICES", "") not in {"", "0"}


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the running test, or fail it where `REQUIRE_SERVICES` is set."""
    if is_required():
        pytest.fail(f"REQUIRE_SERVICES is set: {reason}", pytrace=False)
    pytest.skip(reason)
