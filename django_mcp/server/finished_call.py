"""What is told of a call of a tool that has ended: who called what, how it ended, and nothing of what was said.

No argument, result, token or handle is in it. The arguments are there as a digest under the project's secret key:
equal arguments of one tool have equal digests, and nobody finds short ones, such as a number, by trying them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from django.utils import timezone
from django.utils.crypto import salted_hmac

from django_mcp.core.canonical import canonical
from django_mcp.models import MCPSession
from django_mcp.server.call import Call
from django_mcp.server.carriers import HANDLE
from django_mcp.server.tool import CompiledTool
from django_mcp.sessions.stores import CallRecord

Era = Literal["handshake", "modern"]
CallOutcome = Literal[
    "ok", "input_required", "failed", "refused", "limited", "cancelled", "unavailable", "lost", "error"
]

DIGEST_LENGTH: Final = 16
MAX_CLIENT_LENGTH: Final = 100

_SALT: Final = "django_mcp.arguments"
_FINGERPRINT: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedCall:
    """One execution of a tool's call, as the process saw it that ended it.

    Attributes:
        server: its key.
        tool: empty where the server has none of the name, or where only the process knew it that died.
        principal: `user:42`, `oauth:<subject>` or `anonymous`.
        arguments_digest: 16 hexadecimal digits, of the arguments without a handle; empty where there are none.
        outcome: `ok`; `input_required`, a round of the modern era that ended with questions; `failed`, a result that
            is an error; `refused`, before the body began: an unknown tool, arguments, a token, a handle, a permission;
            `limited`, too much at once; `cancelled`, where that could stop it; `unavailable`, a store is down;
            `lost`, its process died with it and it may have had effects; `error`, any other protocol error.
        milliseconds: on this process; of a lost call since it began.
        ended_at: with a zone.
        session: the beginning of its key, as logs and the admin show it; empty in the modern era.
        conversation: the beginning of its id, where the call read or wrote its state.
        is_repeat: it was answered with the outcome of an earlier run.
        is_takeover: it had begun on another process.
    """

    server: str
    tool: str
    principal: str
    tenant: str
    era: Era
    protocol_version: str
    client_name: str
    client_version: str
    arguments_digest: str
    outcome: CallOutcome
    milliseconds: int
    session: str
    conversation: str
    is_repeat: bool = False
    is_takeover: bool = False
    ended_at: datetime = field(default_factory=timezone.now)

    @classmethod
    def of(
        cls, call: Call, tool: CompiledTool | None, arguments: Any, *, outcome: CallOutcome, seconds: float
    ) -> FinishedCall:
        """Return what is told of `call`. `tool` is None where the server has none; `arguments` may be any JSON."""
        client = call.client_info
        return cls(
            server=call.server.key,
            tool=tool.name if tool is not None else "",
            principal=call.caller.principal.key,
            tenant=call.tenant,
            era="modern" if call.session_key is None else "handshake",
            protocol_version=call.protocol_version,
            client_name=_shown(client.name) if client is not None else "",
            client_version=_shown(client.version) if client is not None else "",
            arguments_digest=arguments_digest(tool, arguments),
            outcome=outcome,
            milliseconds=round(seconds * 1000),
            session=(call.session_key or "")[:_FINGERPRINT],
            conversation=(call.call_state.conversation_id if call.has_state else "")[:_FINGERPRINT],
            is_repeat=call.is_repeat,
            is_takeover=call.is_takeover,
        )

    @classmethod
    def lost(cls, record: CallRecord, session: MCPSession | None) -> FinishedCall:
        """Return what is left of a call whose process died with it."""
        now = timezone.now()
        return cls(
            server=record.server,
            tool="",
            principal=session.principal if session is not None else "",
            tenant=session.tenant if session is not None else "",
            era="handshake",
            protocol_version=session.protocol_version if session is not None else "",
            client_name=_shown(session.client_name) if session is not None else "",
            client_version=_shown(session.client_version) if session is not None else "",
            arguments_digest="",
            outcome="lost",
            milliseconds=max(0, round((now - record.begun_at).total_seconds() * 1000)),
            session=(record.session or "")[:_FINGERPRINT],
            conversation="",
            is_takeover=True,
            ended_at=now,
        )

    def __str__(self) -> str:
        known = {"session": self.session, "conversation": self.conversation}
        where = ", ".join(f"{name} {value}…" for name, value in known.items() if value)
        line = f"{self.tool or '(unknown tool)'} by {self.principal or '(unknown)'}: {self.outcome}"
        return f"{line} in {self.milliseconds} ms{f' ({where})' if where else ''}"

    @property
    def extra(self) -> dict[str, Any]:
        """All of it as the attributes of a log record, whose own names they leave alone."""
        return {f"mcp_{name}": value for name, value in asdict(self).items()}


def arguments_digest(tool: CompiledTool | None, arguments: Any) -> str:
    """Return what equal arguments of one tool have in common, which tells nothing else about them."""
    if tool is None or not isinstance(arguments, Mapping):
        return ""
    carries = tool.is_stateful
    given = {name: value for name, value in arguments.items() if not (carries and name == HANDLE)}
    if not given:
        return ""
    return salted_hmac(_SALT, canonical([tool.name, given]), algorithm="sha256").hexdigest()[:DIGEST_LENGTH]


def _shown(text: str) -> str:
    """Return what a client says of itself as it may stand in a line."""
    return "".join(character if character.isprintable() else "�" for character in text)[:MAX_CLIENT_LENGTH]
