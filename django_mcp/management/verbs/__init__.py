"""The verbs of `manage.py mcp`: every module here that has a `verb` is one, found by being here."""

import functools
import pkgutil
from importlib import import_module

from django_mcp.management.verbs.base import Verb

__all__ = ["Verb", "verbs"]


@functools.cache
def verbs() -> dict[str, Verb]:
    """Return the verbs by name, in the order of the alphabet."""
    modules = (import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    found = [module.verb for module in modules if hasattr(module, "verb")]
    return {verb.name: verb for verb in sorted(found, key=lambda verb: verb.name)}
