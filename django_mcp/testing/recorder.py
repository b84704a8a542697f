"""What a client hears between its request and the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django_mcp.testing.answers import Question
from django_mcp.testing.results import Log, Progress, Reply

Listener = Callable[[Progress | Log], None]


class Recorder:
    """Keeps the notifications and questions of one request, and tells a listener about them as they come."""

    def __init__(self, listener: Listener | None = None) -> None:
        self.progress: list[Progress] = []
        self.logs: list[Log] = []
        self.questions: list[Question] = []
        self._listener = listener

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take one notification."""
        params = message.get("params") or {}
        heard: Progress | Log
        if message["method"] == "notifications/progress":
            heard = Progress(progress=params["progress"], total=params.get("total"), message=params.get("message"))
            self.progress.append(heard)
        elif message["method"] == "notifications/message":
            heard = Log(level=params["level"], data=params["data"], logger=params.get("logger"))
            self.logs.append(heard)
        else:
            return
        if self._listener is not None:
            self._listener(heard)

    def reply(
        self, raw: Mapping[str, Any], *, status: int, headers: Mapping[str, str], stopped: bool = False
    ) -> Reply:
        """Return the answer with everything that was heard."""
        return Reply(
            raw=raw,
            status=status,
            headers=headers,
            progress=self.progress,
            logs=self.logs,
            questions=self.questions,
            stopped=stopped,
        )
