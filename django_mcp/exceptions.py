"""What goes wrong, by meaning. The wire answer of each is decided in one place, the server's table of errors.

MCPException
 ├ ToolError              a handler's deliberate failure; its text is for the client
 │  ├ HandleRefused       a conversation's handle is no good, whatever the reason
 │  ├ TimeLimitExceeded   a handler ran longer than its tool lets it
 │  ├ StateLost           the store lost what was kept of a user; said once
 │  └ StateNotSaved       the handler ran, and what it changed in a state was not kept
 │     ├ StateConflict    because another call changed the same keys meanwhile
 │     └ KeptElsewhere    because another store keeps it, which takes no part in a transaction
 ├ NotFound               a resource handler's "there is no such thing"
 ├ PermissionRefused      not allowed, shown to the client as unknown
 ├ SessionNotFound        no such session for this caller, whatever the reason
 ├ ConversationNotFound   no such conversation for this caller, whatever the reason
 ├ HeadMoved              another commit came first; it has what the conversation is now
 ├ StreamClosed           nothing can be added to a stream any more, or there is none
 ├ FenceLost              a call has ended, or another process owns it by now
 ├ OutputLimit            a stream, or a session's streams together, hold as much as they may
 ├ TokenRefused           a resumption token is no good, whatever the reason
 ├ StateUnavailable       a handler touches a state that this call does not have
 ├ CorruptBlob            what is stored is missing or is not what its name says
 ├ LimitExceeded          one thing of the client's is larger than it may be
 ├ Overloaded             too much at once; come back later
 ├ StoreUnavailable       the store is down or too busy; come back later
 │  └ CommitUnknown       it went down while it committed, and cannot say what became of that
 └ AuthenticationFailed   credentials were sent and they are not good

ImproperlyConfigured      (Django's)
 └ ConfigurationError     a mistake of the project
    └ RegistryError       a mistake in one decorated function, with its place and the remedy
"""

from typing import TYPE_CHECKING, Final, Literal

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from django_mcp.sessions.stores.state import Head

OverloadScope = Literal["global", "principal"]

SESSION_NOT_FOUND: Final = "Session not found"
CONVERSATION_NOT_FOUND: Final = "Conversation not found"
RESUMPTION_REFUSED: Final = "The resumption token is not valid"
REFUSED_HANDLE: Final = (
    "The handle is not valid: the conversation is unknown or has ended. "
    "Call again without a handle to begin a new one."
)
STATE_LOST: Final = (
    "What was kept for this user was lost in a failure of the store. The call did not succeed; call again to begin "
    "with nothing kept."
)
STORE_UNAVAILABLE: Final = "The store is unavailable"
MAX_NAMED_KEYS: Final = 10


class MCPException(Exception):
    """The root of what this package raises while it serves."""


class ToolError(MCPException):
    """Fail a call on purpose: the result is an error that shows `message` to the client."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class CallCancelled(MCPException):
    """The client cancelled or has gone. Raised by `ctx.progress()` so that a sync handler stops; let it pass."""

    def __init__(self) -> None:
        super().__init__("The call was cancelled")


class QuestionUnavailable(MCPException):
    """A question cannot be asked here; the message is for the developer and says what to do instead."""


class NotFound(MCPException):
    """Say from a resource handler that there is no such resource."""

    def __init__(self, message: str = "Resource not found") -> None:
        super().__init__(message)
        self.message = message


class PermissionRefused(MCPException):
    """The caller may not use this; on the wire it is as if it did not exist."""

    def __init__(self, message: str = "Permission refused") -> None:
        super().__init__(message)
        self.message = message


class SessionNotFound(MCPException):
    """The session is unknown, ended or somebody else's: one message for all of them."""

    def __init__(self) -> None:
        super().__init__(SESSION_NOT_FOUND)


class ConversationNotFound(MCPException):
    """The conversation is unknown, ended or somebody else's: one message for all of them."""

    def __init__(self) -> None:
        super().__init__(CONVERSATION_NOT_FOUND)


class HeadMoved(MCPException):
    """Nothing was kept, because the generation it was made from is not the newest any more; `head` is the newest."""

    def __init__(self, head: "Head") -> None:
        super().__init__(f"The conversation is at generation {head.generation} by now")
        self.head = head


class StreamClosed(MCPException):
    """Nothing was appended: the stream is closed, or the session has none of this name."""

    def __init__(self) -> None:
        super().__init__("The stream is closed")


class FenceLost(MCPException):
    """Nothing was written: the call has ended, or another process owns it under a higher fence."""

    def __init__(self) -> None:
        super().__init__("The call is not this owner's any more")


class OutputLimit(MCPException):
    """Nothing was appended: with it the stream, or all open ones of the session, would hold more than they may."""

    def __init__(self) -> None:
        super().__init__("Too much output for one stream")


class TokenRefused(MCPException):
    """A resumption token was refused. The text is the same for every reason; `reason` is for the log alone.

    `is_alarm`: it is the store that is wrong, not the token.
    """

    def __init__(self, reason: str, *, is_alarm: bool = False) -> None:
        super().__init__(RESUMPTION_REFUSED)
        self.reason = reason
        self.is_alarm = is_alarm


class StateUnavailable(MCPException):
    """A handler touches a state that its call does not have, or not yet; the message names the remedy."""


class HandleRefused(ToolError):
    """The handle is unknown, has ended or is somebody else's: one text for all of them."""

    def __init__(self) -> None:
        super().__init__(REFUSED_HANDLE)


class TimeLimitExceeded(ToolError):
    """The body of a tool did not end in its time, which is `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The call took longer than its limit of {seconds:g} seconds and was given up.")
        self.seconds = seconds


class StateLost(ToolError):
    """The store lost what it had acknowledged of a user's state. Said once; the next call begins with an empty one."""

    def __init__(self) -> None:
        super().__init__(STATE_LOST)


class StateNotSaved(ToolError):
    """The handler ran to its end, and its changes of the state were not kept. `problem` completes the sentence.

    `is_rolled_back`: nor was anything else that it did in the database. `is_unknown`: perhaps they were.
    """

    def __init__(self, problem: str, *, is_rolled_back: bool = False, is_unknown: bool = False) -> None:
        ran = "Nothing was changed" if is_rolled_back else "The call ran, but its state was not saved"
        if is_unknown:
            ran = "The call ran, and nobody knows whether its state was saved"
        super().__init__(f"{ran}: {problem}")
        self.problem = problem
        self.is_rolled_back = is_rolled_back


class StateConflict(StateNotSaved):
    """Another call changed `keys`, sorted, while this one ran."""

    def __init__(self, keys: "tuple[str, ...]", *, is_rolled_back: bool = False) -> None:
        names = ", ".join(ascii(key) for key in keys[:MAX_NAMED_KEYS])
        more = f" and {len(keys) - MAX_NAMED_KEYS} more" if len(keys) > MAX_NAMED_KEYS else ""
        super().__init__(f"another call changed {names}{more} meanwhile.", is_rolled_back=is_rolled_back)
        self.keys = keys


class KeptElsewhere(StateNotSaved):
    """In a transaction of the database: the conversation is kept by a store that takes no part in it."""

    def __init__(self) -> None:
        super().__init__("another store keeps the conversation, which takes no part in transactions.")


class CorruptBlob(MCPException):
    """A blob or a manifest is missing in the store, or does not hash to its name."""

    def __init__(self, digest: str, problem: str = "does not hash to its name") -> None:
        super().__init__(f"{digest[:12] or 'A manifest'} {problem}")
        self.digest = digest


class LimitExceeded(MCPException):
    """Something that the client sent is larger than may be kept; `message` says what and how much."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Overloaded(MCPException):
    """Too much at once, of everybody (`global`) or of this caller alone (`principal`).

    `has_begun`: a handler that raises it may have had effects; False where it is sure that there are none.
    """

    def __init__(
        self,
        retry_after_seconds: int,
        scope: OverloadScope = "global",
        *,
        message: str = "",
        has_begun: bool = True,
    ) -> None:
        super().__init__(message or "Too many requests at once")
        self.has_begun = has_begun
        self.retry_after_seconds = retry_after_seconds
        self.scope = scope


class StoreUnavailable(MCPException):
    """The store did not answer or gave up; the cause is chained for the log."""

    def __init__(self, message: str = STORE_UNAVAILABLE, *, retry_after_seconds: int = 5) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class CommitUnknown(StoreUnavailable):
    """The store did not answer to a commit, nor to the question what became of it."""


class AuthenticationFailed(MCPException):
    """Credentials were presented and refused. The message is for the log; the client gets one fixed text."""

    def __init__(self, reason: str = "The credentials are not valid") -> None:
        super().__init__(reason)
        self.reason = reason


class ConfigurationError(ImproperlyConfigured):
    """The project's settings or registrations cannot be served as they are."""


class RegistryError(ConfigurationError):
    """A decorated function cannot be served: what is wrong, where it stands, and what to do about it."""

    def __init__(self, problem: str, *, where: str = "", remedy: str = "") -> None:
        """`where` is `file:line`; the text of the exception has all three."""
        super().__init__(" ".join(part for part in (f"{where}:" if where else "", problem, remedy) if part))
        self.problem = problem
        self.where = where
        self.remedy = remedy
