"""What goes wrong under an operator's verb, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from django_mcp.core.entry import CorruptManifest
from django_mcp.exceptions import MCPException, StoreUnavailable


@contextmanager
def told() -> Iterator[None]:
    """Raise CommandError for what a store says, what it keeps that cannot be read, and what the settings lack."""
    try:
        yield
    except (CorruptManifest, ImproperlyConfigured, MCPException) as error:
        cause = f": {error.__cause__}" if isinstance(error, StoreUnavailable) and error.__cause__ else ""
        raise CommandError(f"{error}{cause}") from error
