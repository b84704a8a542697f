"""The stores by alias: `store()` and `state_store()` return the two that `STORES["default"]` describes."""

from django_mcp.sessions.stores.base import (
    Claimed,
    ClaimOutcome,
    Done,
    Interrupted,
    LogStore,
    Mark,
    Mismatched,
    Running,
    Standing,
)
from django_mcp.sessions.stores.calls import CallHold, CallLog, CallRecord, CallState, NewCall, Renewal
from django_mcp.sessions.stores.handler import StoreHandler, state_store, store, store_of, stores
from django_mcp.sessions.stores.questions import QuestionLog, QuestionRecord, QuestionState
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
from django_mcp.sessions.stores.streams import StreamEvent, StreamKind, StreamLog, StreamPage

__all__ = [
    "CallHold",
    "CallLog",
    "CallNote",
    "CallRecord",
    "CallState",
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
    "Mark",
    "Mismatched",
    "NewCall",
    "QuestionLog",
    "QuestionRecord",
    "QuestionState",
    "References",
    "Renewal",
    "Running",
    "Standing",
    "StateStore",
    "StoreHandler",
    "StreamEvent",
    "StreamKind",
    "StreamLog",
    "StreamPage",
    "state_store",
    "store",
    "store_of",
    "stores",
]
