"""The stores by alias: `store()` and `state_store()` return the two that `STORES["default"]` describes."""

from django_mcp.sessions.stores.base import Claimed, ClaimOutcome, Done, Interrupted, LogStore, Running
from django_mcp.sessions.stores.handler import StoreHandler, state_store, store, stores
from django_mcp.sessions.stores.state import (
    CallNote,
    Collected,
    ConversationRecord,
    Generation,
    Head,
    Kind,
    References,
    StateStore,
)

__all__ = [
    "CallNote",
    "ClaimOutcome",
    "Claimed",
    "Collected",
    "ConversationRecord",
    "Done",
    "Generation",
    "Head",
    "Interrupted",
    "Kind",
    "LogStore",
    "References",
    "Running",
    "StateStore",
    "StoreHandler",
    "state_store",
    "store",
    "stores",
]
