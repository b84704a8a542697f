"""From an alias of `STORES` to its backend: made when first asked for, one per alias, anew when settings change."""

from collections.abc import Iterator
from threading import Lock
from typing import Final

from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import ConfigurationError
from django_mcp.sessions.stores.base import LogStore
from django_mcp.sessions.stores.state import StateStore
from django_mcp.setting import SETTING


class StoreHandler:
    def __init__(self) -> None:
        self._made: dict[str, LogStore] = {}
        self._lock = Lock()

    def __getitem__(self, alias: str) -> LogStore:
        """Return the store. Raises ConfigurationError for an unknown alias or a backend that cannot be imported."""
        found = self._made.get(alias)
        if found is None:
            with self._lock:
                found = self._made.get(alias) or self._made.setdefault(alias, self._make(alias))
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(mcp_settings.STORES)

    def reset(self) -> None:
        """Forget the stores that were made."""
        with self._lock:
            self._made = {}

    def _make(self, alias: str) -> LogStore:
        params = mcp_settings.STORES.get(alias)
        if params is None:
            known = ", ".join(map(repr, mcp_settings.STORES))
            raise ConfigurationError(f"There is no store {alias!r} in {SETTING}['STORES']; it has {known}.")
        path = params["BACKEND"]
        try:
            backend = import_string(path)
        except ImportError as error:
            raise ConfigurationError(
                f"{SETTING}['STORES'][{alias!r}]: {path!r} cannot be imported: {error}"
            ) from error
        if not (isinstance(backend, type) and issubclass(backend, LogStore)):
            raise ConfigurationError(f"{SETTING}['STORES'][{alias!r}]: {path!r} is not a LogStore.")
        made: LogStore = backend(alias, params)
        return made


stores: Final = StoreHandler()


def store(alias: str = "default") -> LogStore:
    """Return the log store of an alias."""
    return stores[alias]


def state_store(alias: str = "default") -> StateStore:
    """Return the state store of an alias. Raises ConfigurationError where its backend has none."""
    return stores[alias].state


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {SETTING, "DATABASES"}:
        stores.reset()


setting_changed.connect(_forget, dispatch_uid="django_mcp.sessions.stores")
