"""Whom a verb talks to: the project's own registry, in this process, or a server at a URL."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, OutputWrapper
from mcp.shared.exceptions import MCPError
from mcp_types import Tool

from django_mcp.management.remote import remote_client
from django_mcp.management.terminal import Terminal
from django_mcp.registry.server import DEFAULT
from django_mcp.testing import (
    CallResult,
    Client,
    MCPClientError,
    PromptResult,
    ReadResult,
    UnansweredQuestion,
    UnusableAnswer,
    cancel,
    decline,
)
from django_mcp.testing.answers import AnswerBook

T = TypeVar("T")


class Peer(Protocol):
    """What the verbs ask for."""

    async def alist_tools(self) -> list[Tool]: ...
    async def acall(self, name: str, arguments: Mapping[str, Any]) -> CallResult: ...
    async def aread(self, uri: str) -> ReadResult: ...
    async def aprompt(self, name: str, arguments: Mapping[str, str]) -> PromptResult: ...


def add_peer_arguments(parser: ArgumentParser, *, asks: bool = True) -> None:
    """Declare the options that say who is asked, and by whom.

    Args:
        asks: whether the server may ask back.
    """
    parser.add_argument("--server", default=DEFAULT, help="The name of the project's server (default: %(default)s).")
    parser.add_argument("--user", help="The name of the user who asks (default: an anonymous caller).")
    parser.add_argument("--url", help="The URL of a server to ask instead of this project's registry.")
    parser.add_argument("--token", help="The access token for --url.")
    parser.add_argument("--json", action="store_true", help="Print JSON, as it travels, for programs.")
    if asks:
        parser.add_argument(
            "--answer",
            action="append",
            default=[],
            metavar="NAME=JSON",
            help="The answer to the question called NAME; also `decline` or `cancel`. May be repeated.",
        )


def talk(options: Mapping[str, Any], stderr: OutputWrapper, conversation: Callable[[Peer], Awaitable[T]]) -> T:
    """Return what `conversation` returns, given the peer that the options name.

    Raises:
        CommandError: for everything that the caller can put right, and for what the server refuses.
    """
    terminal = Terminal(stderr)
    book = AnswerBook(terminal.ask).with_more(_answers(options.get("answer", ())))

    async def run() -> T:
        async with _peer(options, book, terminal) as peer:
            return await conversation(peer)

    try:
        return async_to_sync(run)()
    except Exception as error:
        explained = _explained(error, options)
        if explained is None:
            raise
        raise CommandError(explained) from error
    finally:
        terminal.clear()


@asynccontextmanager
async def _peer(options: Mapping[str, Any], book: AnswerBook, terminal: Terminal) -> AsyncIterator[Peer]:
    if options["url"] is None:
        if options["token"] is not None:
            raise CommandError("--token is for --url; for the project's own registry say who asks by --user.")
        yield await _local(options, book, terminal)
        return
    if options["user"] is not None or options["server"] != DEFAULT:
        raise CommandError("--user and --server are for the project's own registry, not for --url.")
    async with remote_client(options["url"], options["token"], book.respond, terminal.hear) as peer:
        yield peer


async def _local(options: Mapping[str, Any], book: AnswerBook, terminal: Terminal) -> Client:
    user = None
    if options["user"] is not None:
        model = get_user_model()
        try:
            user = await model._default_manager.aget(**{model.USERNAME_FIELD: options["user"]})
        except model.DoesNotExist:
            raise CommandError(f"There is no user {options['user']!r}.") from None
    try:
        return Client(
            user,
            server=options["server"],
            answers=book.reply,
            headers={"host": _host()},
            listener=terminal.hear,
            log_level="info",
        )
    except LookupError as error:
        raise CommandError(str(error)) from None


def _host() -> str:
    """Return a host that handlers can build URLs of."""
    return next((host for host in settings.ALLOWED_HOSTS if host.strip(".*")), "localhost").lstrip(".")


def _answers(given: list[str]) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for text in given:
        name, equals, answer = text.partition("=")
        if not equals:
            raise CommandError(f"--answer {text!r} is not NAME=JSON.")
        answers[name] = _answer(answer)
    return answers


def _answer(text: str) -> Any:
    if text in {"decline", "cancel"}:
        return decline() if text == "decline" else cancel()
    try:
        return json.loads(text)
    except ValueError:
        return text


def _explained(error: BaseException, options: Mapping[str, Any]) -> str | None:
    """Return the one line that an error is told by; None for a fault of the program."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case CommandError():
            return str(error)
        case UnansweredQuestion():
            label = error.question.label
            return f"The server asked {error.question}\nAnswer it by --answer {json.dumps(label)}=JSON."
        case MCPClientError():
            return error.message
        case MCPError():
            return f"{options['url']}: {error.error.message}"
        case ImproperlyConfigured() | UnusableAnswer():
            return str(error)
        case _ if options["url"] is not None and isinstance(error, Exception):
            return f"{options['url']} cannot be asked: {str(error) or type(error).__name__}"
    return None
