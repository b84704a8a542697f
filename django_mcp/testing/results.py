"""What a client returns: typed views of the answers, with everything that was sent on the way."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp_types import BlobResourceContents, ContentBlock, PromptMessage, TextResourceContents
from pydantic import TypeAdapter

from django_mcp.server.carriers import HANDLE_TEXT, HEADER, META_KEY
from django_mcp.testing.answers import Question

_HANDLE = re.compile(re.escape(HANDLE_TEXT).replace(re.escape("{handle}"), "([a-z0-9]+)"))
_CONTENT: TypeAdapter[list[ContentBlock]] = TypeAdapter(list[ContentBlock])
_CONTENTS: TypeAdapter[list[TextResourceContents | BlobResourceContents]] = TypeAdapter(
    list[TextResourceContents | BlobResourceContents]
)
_MESSAGES: TypeAdapter[list[PromptMessage]] = TypeAdapter(list[PromptMessage])


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One progress notification: so much of `total` is done."""

    progress: float
    total: float | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One log message."""

    level: str
    data: Any
    logger: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to one request.

    Attributes:
        raw: the JSON-RPC result as it travelled.
        status, headers: of the HTTP response.
        progress, logs: what was sent before the result, in order.
        questions: what was asked on the way, in order.
        stopped: whether the request stopped at its questions (`answer=False`) and has no result yet.
    """

    raw: Mapping[str, Any]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    progress: list[Progress] = field(default_factory=list)
    logs: list[Log] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    stopped: bool = False

    @property
    def token(self) -> str | None:
        """The resumption token that came with the answer, in `_meta` or in the header."""
        meta = self.raw.get("_meta") or {}
        return meta.get(META_KEY) or self.headers.get(HEADER)

    @property
    def request_state(self) -> str | None:
        """The sealed state of a modern round that ended with questions."""
        return self.raw.get("requestState")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult(Reply):
    """The result of a tool."""

    @property
    def content(self) -> list[ContentBlock]:
        return _CONTENT.validate_python(self.raw.get("content", []))

    @property
    def text(self) -> str:
        """The text blocks, joined by line breaks."""
        return _joined(self.content)

    @property
    def handle(self) -> str | None:
        """The handle of the conversation, where the answer gives one."""
        texts = [block["text"] for block in self.raw.get("content", [])[-1:] if block.get("type") == "text"]
        found = _HANDLE.fullmatch(texts[0]) if texts else None
        return found[1] if found is not None else None

    @property
    def structured(self) -> Any:
        """The structured content; None when the tool declares none."""
        return self.raw.get("structuredContent")

    @property
    def is_error(self) -> bool:
        return bool(self.raw.get("isError"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadResult(Reply):
    """What a resource holds."""

    @property
    def contents(self) -> list[TextResourceContents | BlobResourceContents]:
        return _CONTENTS.validate_python(self.raw.get("contents", []))

    @property
    def text(self) -> str:
        """The texts, joined by line breaks."""
        return _joined(self.contents)

    @property
    def blob(self) -> bytes:
        """The bytes of the first blob; empty when there is none."""
        blobs = (item.blob for item in self.contents if isinstance(item, BlobResourceContents))
        return base64.b64decode(next(blobs, ""))

    @property
    def mime_type(self) -> str | None:
        return self.contents[0].mime_type if self.contents else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptResult(Reply):
    """A rendered prompt."""

    @property
    def messages(self) -> list[PromptMessage]:
        return _MESSAGES.validate_python(self.raw.get("messages", []))

    @property
    def text(self) -> str:
        """The texts of the messages, joined by line breaks."""
        return _joined(message.content for message in self.messages)

    @property
    def description(self) -> str | None:
        return self.raw.get("description")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestions(Reply):
    """What a completion suggests."""

    @property
    def values(self) -> list[str]:
        return list(self._completion.get("values", ()))

    @property
    def total(self) -> int | None:
        return self._completion.get("total")

    @property
    def has_more(self) -> bool:
        return bool(self._completion.get("hasMore"))

    @property
    def _completion(self) -> Mapping[str, Any]:
        completion: Mapping[str, Any] = self.raw.get("completion", {})
        return completion


def _joined(blocks: Iterable[Any]) -> str:
    return "\n".join(block.text for block in blocks if getattr(block, "text", None) is not None)
