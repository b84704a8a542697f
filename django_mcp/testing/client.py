"""A client in the process of the test: no server, no HTTP, both protocol eras.

Every method has an `a` twin for async tests. Synchronous handlers run on the thread of the test and on its database
connections, so what a `TestCase` writes is there for a tool, what a tool writes is there for the test, and all of it
is rolled back at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from asgiref.sync import async_to_sync
from mcp_types import Prompt, Resource, ResourceTemplate, Tool
from mcp_types.version import (
    HANDSHAKE_PROTOCOL_VERSIONS,
    LATEST_HANDSHAKE_VERSION,
    LATEST_MODERN_VERSION,
    MODERN_PROTOCOL_VERSIONS,
)
from pydantic import BaseModel

from django_mcp.registry.server import DEFAULT, servers
from django_mcp.server.idempotency import IDEMPOTENCY_META_KEY
from django_mcp.server.threads import AMBIENT, Threads
from django_mcp.testing.answers import AnswerBook, Answers
from django_mcp.testing.door import InProcessDoor
from django_mcp.testing.handshake import HandshakeLink
from django_mcp.testing.modern import ModernLink
from django_mcp.testing.recorder import Listener, Recorder
from django_mcp.testing.results import CallResult, PromptResult, ReadResult, Reply, Suggestions

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R", bound=Reply)

MODES: Final = {"modern": LATEST_MODERN_VERSION, "legacy": LATEST_HANDSHAKE_VERSION}
CAPABILITIES: Final[Mapping[str, Any]] = {"elicitation": {"form": {}}, "sampling": {"tools": {}}, "roots": {}}
MAX_PAGES: Final = 1_000


class Client:
    """A client of one server of the project.

    Args:
        user: who calls; nobody in particular by default. Permissions apply, authentication is not asked for.
        server: the name of the `Server`.
        mode: `"modern"`, `"legacy"` (the handshake era, whose sessions need the database) or a protocol version.
        answers: what to answer to questions: a mapping by the name of the asking function (or by the question's text),
            or a callable that takes a `Question`. See `answer`.
        headers: request headers, such as `{"Accept-Language": "de"}`; they replace those that the client sends itself.
        tenant: the tenant; by default what the `TENANT` callable gives.
        path: the path of the request, for handlers that look at the URL.
        capabilities: what the client says it can do; by default everything that can be answered.
        log_level: the least level of log messages that are asked for; None asks for none.
        listener: called with each `Progress` and `Log` as it comes.
        threads: where sync handlers run; by default on the thread of the test.

    Raises:
        LookupError: there is no such server.
        ValueError: there is no such mode or protocol version.
    """

    def __init__(
        self,
        user: Any = None,
        *,
        server: str = DEFAULT,
        mode: str = "modern",
        answers: Answers | None = None,
        headers: Mapping[str, str] | None = None,
        tenant: str | None = None,
        path: str = "/mcp",
        capabilities: Mapping[str, Any] = CAPABILITIES,
        log_level: str | None = "debug",
        listener: Listener | None = None,
        threads: Threads = AMBIENT,
    ) -> None:
        if server not in servers:
            raise LookupError(f"there is no MCP server {server!r}; there are {', '.join(sorted(servers))}")
        version = MODES.get(mode, mode)
        door = InProcessDoor(server, user=user, tenant=tenant, headers=headers or {}, path=path, threads=threads)
        self._link: ModernLink | HandshakeLink
        if version in MODERN_PROTOCOL_VERSIONS:
            self._link = ModernLink(door, version, capabilities, log_level)
        elif version in HANDSHAKE_PROTOCOL_VERSIONS:
            self._link = HandshakeLink(door, version, capabilities, log_level)
        else:
            known = ", ".join([*MODES, *HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS])
            raise ValueError(f"there is no mode {mode!r}; there are {known}")
        self.protocol_version = version
        self._answers = AnswerBook(answers)
        self._listener = listener

    @property
    def session_id(self) -> str | None:
        """The session of the handshake era, once a request was sent; the modern era has none."""
        return self._link.session_id if isinstance(self._link, HandshakeLink) else None

    def answer(self, name: str, answer: Any) -> None:
        """Have an answer ready for the question that the function called `name` asks.

        Args:
            name: of the function in `Resolve(function)`; the text of the question works too, and is what a question in
                the body of a handler goes by.
            answer: the fields for an elicitation, a text for sampling, a list of URIs for roots; `accept(…)`,
                `decline()` or `cancel()`; or a callable that takes the `Question`.
        """
        self._answers.add(name, answer)

    async def arequest(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        answers: Answers | None = None,
        answer: bool = True,
        after: Reply | None = None,
    ) -> Reply:
        """Send any request; see `acall` for the arguments.

        Args:
            params: of the method. `_meta` adds to what the client sends there by itself; a None takes a key away.

        Raises:
            MCPClientError: the answer is a protocol error.
            UnansweredQuestion: the server asks something that has no answer.
        """
        book = self._answers.with_more(answers)
        recorder = Recorder(self._listener)
        return await self._link.request(method, params or {}, recorder, book.respond, stop=not answer, after=after)

    async def acall(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        answers: Answers | None = None,
        answer: bool = True,
        after: Reply | None = None,
        idempotency_key: str | None = None,
    ) -> CallResult:
        """Call a tool.

        Args:
            answers: for the questions of this call, before those of the client.
            answer: False stops at the questions: the result has `stopped` and `questions`, and the tool has not run.
            after: a result that stopped at its questions; this call answers them. The same one may be given again, as
                a client does that repeats its last round. In the handshake era the call begins anew.
            idempotency_key: names the call, so that sending it again under the same key does not run it again.
        """
        params: dict[str, Any] = {"name": name, "arguments": dict(arguments or {})}
        if idempotency_key is not None:
            params["_meta"] = {IDEMPOTENCY_META_KEY: idempotency_key}
        reply = await self.arequest("tools/call", params, answers=answers, answer=answer, after=after)
        return _as(CallResult, reply)

    async def aread(self, uri: str, *, answers: Answers | None = None) -> ReadResult:
        """Read a resource."""
        return _as(ReadResult, await self.arequest("resources/read", {"uri": uri}, answers=answers))

    async def aprompt(
        self, name: str, arguments: Mapping[str, str] | None = None, *, answers: Answers | None = None
    ) -> PromptResult:
        """Render a prompt."""
        params = {"name": name, "arguments": dict(arguments or {})}
        return _as(PromptResult, await self.arequest("prompts/get", params, answers=answers))

    async def acomplete(
        self,
        argument: str,
        value: str = "",
        *,
        prompt: str | None = None,
        resource: str | None = None,
        arguments: Mapping[str, str] | None = None,
    ) -> Suggestions:
        """Ask for suggestions for one argument of a prompt, or one variable of a resource template.

        Args:
            value: what was typed so far.
            arguments: the other arguments that are filled in already.
        """
        if (prompt is None) == (resource is None):
            raise TypeError("give either prompt= or resource=")
        ref = (
            {"type": "ref/prompt", "name": prompt} if prompt is not None else {"type": "ref/resource", "uri": resource}
        )
        params: dict[str, Any] = {"ref": ref, "argument": {"name": argument, "value": value}}
        if arguments is not None:
            params["context"] = {"arguments": dict(arguments)}
        return _as(Suggestions, await self.arequest("completion/complete", params))

    async def alist_tools(self) -> list[Tool]:
        """Return the tools that the caller sees, all pages of them."""
        return await self._list("tools/list", "tools", Tool)

    async def alist_resources(self) -> list[Resource]:
        """Return the resources that the caller sees, all pages of them."""
        return await self._list("resources/list", "resources", Resource)

    async def alist_templates(self) -> list[ResourceTemplate]:
        """Return the resource templates that the caller sees, all pages of them."""
        return await self._list("resources/templates/list", "resourceTemplates", ResourceTemplate)

    async def alist_prompts(self) -> list[Prompt]:
        """Return the prompts that the caller sees, all pages of them."""
        return await self._list("prompts/list", "prompts", Prompt)

    def request(self, method: str, params: Mapping[str, Any] | None = None, **options: Any) -> Reply:
        """Send any request; see `arequest`."""
        return async_to_sync(self.arequest)(method, params, **options)

    def call(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        answers: Answers | None = None,
        answer: bool = True,
        after: Reply | None = None,
        idempotency_key: str | None = None,
    ) -> CallResult:
        """Call a tool; see `acall`."""
        return async_to_sync(self.acall)(
            name, arguments, answers=answers, answer=answer, after=after, idempotency_key=idempotency_key
        )

    def read(self, uri: str, *, answers: Answers | None = None) -> ReadResult:
        """Read a resource."""
        return async_to_sync(self.aread)(uri, answers=answers)

    def prompt(
        self, name: str, arguments: Mapping[str, str] | None = None, *, answers: Answers | None = None
    ) -> PromptResult:
        """Render a prompt."""
        return async_to_sync(self.aprompt)(name, arguments, answers=answers)

    def complete(
        self,
        argument: str,
        value: str = "",
        *,
        prompt: str | None = None,
        resource: str | None = None,
        arguments: Mapping[str, str] | None = None,
    ) -> Suggestions:
        """Ask for suggestions; see `acomplete`."""
        return async_to_sync(self.acomplete)(argument, value, prompt=prompt, resource=resource, arguments=arguments)

    def list_tools(self) -> list[Tool]:
        """Return the tools that the caller sees."""
        return async_to_sync(self.alist_tools)()

    def list_resources(self) -> list[Resource]:
        """Return the resources that the caller sees."""
        return async_to_sync(self.alist_resources)()

    def list_templates(self) -> list[ResourceTemplate]:
        """Return the resource templates that the caller sees."""
        return async_to_sync(self.alist_templates)()

    def list_prompts(self) -> list[Prompt]:
        """Return the prompts that the caller sees."""
        return async_to_sync(self.alist_prompts)()

    async def _list(self, method: str, key: str, kind: type[M]) -> list[M]:
        entries: list[M] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            reply = await self.arequest(method, {} if cursor is None else {"cursor": cursor})
            entries += [kind.model_validate(entry) for entry in reply.raw[key]]
            cursor = reply.raw.get("nextCursor")
            if cursor is None:
                return entries
        raise RuntimeError(f"{method} has more than {MAX_PAGES} pages")


def _as(kind: type[R], reply: Reply) -> R:
    return kind(
        raw=reply.raw,
        status=reply.status,
        headers=reply.headers,
        progress=reply.progress,
        logs=reply.logs,
        questions=reply.questions,
        stopped=reply.stopped,
    )
