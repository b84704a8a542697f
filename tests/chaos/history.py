"""What happened, line by line, as clients and faults saw it; kept in memory, written as JSON lines at the end.

A line says what was seen and judges nothing. `op` names one piece of work of a client, `attempt` the requests that it
was sent in, `at` is in seconds since the run began.
"""

import json
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

Era = Literal["handshake", "modern"]
Forgotten = Literal["", "the newest", "all"]
Outcome = Literal[
    "answered",  # a result
    "failed",  # a result that is an error of the tool
    "worker_lost",
    "unavailable",  # an error that says that the store is down
    "refused",  # any other error
    "unanswered",  # nobody knows, and the client may not ask again
    "cancelled",
    "hung",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    at: float


L = TypeVar("L", bound=Line)
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent(Line):
    """A request for a call.

    `key` names the call itself, in every repeat of it too; `idempotency` is the idempotency key that was sent with it,
    `conversation` the label of its conversation, `amount` what it adds to the total of that.
    """

    op: str
    key: str
    attempt: int
    client: int
    principal: str
    era: Era
    tool: str
    is_repeatable: bool = False
    idempotency: str = ""
    conversation: str = ""
    amount: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Got(Line):
    """A message that came for a call: an event of a stream, or a JSON body, which has neither id nor number.

    `attempt` is that of the connection on which it came.
    """

    op: str
    attempt: int
    body: str
    event_id: str = ""
    stream: str = ""
    sequence: int = 0

    @property
    def message(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    @property
    def answers(self) -> str | None:
        """The id of the request that this message ends, None where it ends none."""
        message = self.message
        return str(message.get("id")) if "result" in message or "error" in message else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted(Line):
    """A call was answered by a stream, of which the client can resume the rest (handshake era)."""

    op: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Broke(Line):
    """A connection ended in the middle of a stream."""

    op: str
    by: Literal["client", "server"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Line):
    op: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled(Line):
    """The cancellation of a call was accepted."""

    op: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Line):
    """How a piece of work ended for its client; `value` is the structured content of the result."""

    op: str
    key: str
    client: int
    tool: str
    began: float
    outcome: Outcome
    value: dict[str, Any] | None = None
    detail: str = ""
    conversation: str = ""
    idempotency: str = ""
    uri: str = ""
    """The topic that it changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Line):
    """An answer that is no success, whether or not it was to be expected."""

    op: str
    client: int
    what: str
    status: int
    detail: str = ""
    retry_after: str = ""
    is_expected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening(Line):
    """A client hears of its topics from now on; `can_resume` where a cut loses nothing (handshake era)."""

    listener: str
    uris: tuple[str, ...]
    can_resume: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Deaf(Line):
    """A client hears nothing more, by its own doing or because its stream was cut."""

    listener: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard(Line):
    """A notification that a topic changed."""

    listener: str
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed(Line):
    """What a stranger got for a name of somebody else's, and for one that does not exist."""

    what: str
    victim: str
    stranger: str
    foreign: str
    unknown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck(Line):
    """A fault, and how long it lasted; `forgets` is what the store may not know any more after it."""

    kind: str
    target: str = ""
    lasted: float = 0.0
    forgets: Forgotten = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch(Line):
    """The epoch that the Redis of the store says it is in; noted whenever that is another one."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Line):
    """What one server answered to a request that needs Redis, from its sending to its answer while Redis was down."""

    server: str
    what: str
    status: int
    retry_after: str = ""
    detail: str = ""
    lasted: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned(Line):
    """One server did a call again, so long after Redis answered again; or it has not until then."""

    server: str
    seconds: float
    has_returned: bool = True


@dataclass(slots=True)
class History:
    """The lines of one run, in the order in which they were seen."""

    lines: list[Line] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        return round(time.monotonic() - self.began, 4)

    def add(self, line: Line) -> None:
        self.lines.append(line)

    def write(self, path: Path) -> None:
        with path.open("w") as file:
            for line in self.lines:
                file.write(as_json(line) + "\n")


def as_json(line: Line) -> str:
    """Return a line as it stands in the file."""
    fields = {name: value for name, value in asdict(line).items() if value not in ("", None, False, ())}
    return json.dumps({"line": type(line).__name__.lower(), **fields})


def of_type(lines: Iterable[Line], kind: type[L]) -> list[L]:
    """Return the lines of one kind."""
    return [line for line in lines if isinstance(line, kind)]


def grouped(lines: Iterable[L], by: Callable[[L], K]) -> dict[K, list[L]]:
    """Return lines by what `by` says of each, in their order."""
    found: dict[K, list[L]] = {}
    for line in lines:
        found.setdefault(by(line), []).append(line)
    return found
