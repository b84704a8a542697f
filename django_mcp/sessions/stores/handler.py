"""From an alias of `STORES` to its backend: made when first asked for, one per alias, anew when settings change."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Final

from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import ConfigurationError
from django_mcp.models import Conversation
from django_mcp.sessions.stores.base import LogStore
from django_mcp.sessions.stores.following import FollowingStateStore
from django_mcp.sessions.stores.state import StateStore
from django_mcp.setting import SETTING


class StoreHandler:
    def __init__(self) -> None:
        self._made: dict[str, LogStore] = {}
        self._states: dict[str, StateStore] = {}
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
            self._made, self._states = {}, {}

    def state(self, alias: str) -> StateStore:
        """Return the state store, which follows conversations to the others if there are any in its database."""
        found = self._states.get(alias)
        if found is None:
            home = self[alias].state
            others = [other for other in self.states() if other is not home]
            has_others = any(other.write_alias == home.write_alias for other in others)
            made = FollowingStateStore(home, partial(self.keeper, home.write_alias)) if has_others else home
            with self._lock:
                found = self._states.setdefault(alias, made)
        return found

    def states(self) -> Iterator[StateStore]:
        """Return the state stores that there are, each as it is, without following."""
        for alias in self:
            with suppress(ConfigurationError):
                yield self[alias].state

    def keeper(self, using: str, kept: str) -> StateStore:
        """Return the store of a database that keeps what its rows say. Raises ConfigurationError if there is none."""
        for found in self.states():
            if found.keeper == kept and found.write_alias == using:
                return found
        what = f"keeps conversations in the database {using!r}" if not kept else f"is {kept!r}, which keeps some"
        raise ConfigurationError(f"No store in {SETTING}['STORES'] {what}.")

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
    """Return the state store of an alias. Raises ConfigurationError where its backend has none.

    Where there are several, it finds each conversation in whichever keeps it.
    """
    return stores.state(alias)


def store_of(conversation: Conversation) -> StateStore:
    """Return the state store that keeps a conversation. Raises ConfigurationError where none of this project does."""
    if conversation.store:
        return state_store(conversation.store)
    return state_store(stores.keeper(conversation._state.db or "default", "").alias)


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {SETTING, "CACHES", "DATABASES", "STORAGES"}:
        stores.reset()


setting_changed.connect(_forget, dispatch_uid="django_mcp.sessions.stores")
