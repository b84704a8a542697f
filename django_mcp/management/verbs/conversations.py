"""`manage.py mcp conversations …`: what an operator does with conversations and their states."""

import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from django.core.management.base import CommandError, OutputWrapper

from django_mcp.conf import mcp_settings
from django_mcp.core import document
from django_mcp.core.diff import diff
from django_mcp.management import layout
from django_mcp.management.faults import told
from django_mcp.management.numbers import whole
from django_mcp.management.portrait import Portrait
from django_mcp.management.records import add_id_argument, add_list_arguments, listed, named, owner
from django_mcp.management.states import head_in, reader_of, record_in, told_of, whole_reader_of
from django_mcp.management.transfer import exported, imported, server_for
from django_mcp.management.verbs.base import Verb
from django_mcp.models import Conversation
from django_mcp.models.conversation import ConversationKind, ConversationQuerySet, ConversationState
from django_mcp.registry.server import DEFAULT
from django_mcp.server.compile import store_alias_of
from django_mcp.sessions.stores import Head, StateStore, state_store, store_of

COLUMNS: Final = ("id", "kind", "user", "server", "tenant", "generation", "state", "created", "last used")


class ConversationsVerb(Verb):
    name = "conversations"
    help = "List, show, end, rewind, fork, export and import conversations and their states."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="action")

        def add(name: str, text: str, *, store: str | None = DEFAULT) -> ArgumentParser:
            made: ArgumentParser = actions.add_parser(name, help=text, description=text)
            alias = f"The alias in STORES (default: {store or 'that of the server'})."
            made.add_argument("--store", default=store, metavar="ALIAS", help=alias)
            return made

        def add_for_one(name: str, text: str) -> ArgumentParser:
            made = add(name, text)
            add_id_argument(made)
            return made

        def add_generation(made: ArgumentParser) -> None:
            made.add_argument("--generation", type=whole(), metavar="N", help="A kept generation (default: the head).")

        add_list_arguments(add("list", "List conversations, the last used first."), ConversationState.values)
        show = add_for_one("show", "Show a conversation, its keys with their values, and its history.")
        add_generation(show)
        show.add_argument("--json", action="store_true", help="Print JSON, for programs.")
        differ = add_for_one("diff", "Show what differs between two kept generations.")
        differ.add_argument("before", type=whole(), metavar="A")
        differ.add_argument("after", type=whole(), metavar="B")
        add_for_one("expire", "End a conversation as if its time were over.")
        revoke = add_for_one("revoke", "End a conversation, or only revoke its tokens.")
        revoke.add_argument("--tokens", action="store_true", help="Revoke the tokens it has given out, and keep it.")
        revoke.add_argument(
            "--up-to",
            type=whole(),
            metavar="N",
            help="With --tokens: those of generations up to N (default: the head).",
        )
        rewind = add_for_one("rewind", "Make a new generation that is as a kept one was.")
        rewind.add_argument("generation", type=whole(), metavar="N")
        add_generation(add_for_one("fork", "Begin a conversation of the same caller with the same state."))
        add_generation(add_for_one("export", "Write the state as one JSON document."))
        bring = add("import", "Begin a conversation with the state of an exported document.", store=None)
        bring.add_argument("file", help="The document; - is the standard input.")
        bring.add_argument("--user", required=True, help="The name of the user it will belong to.")
        bring.add_argument("--server", help="The name of the server in the project (default: the document's).")
        bring.add_argument("--tenant", help="The tenant (default: the document's).")

    def handle(self, options: Mapping[str, Any], stdout: OutputWrapper, stderr: OutputWrapper) -> None:
        with told():
            match options["action"]:
                case "list":
                    self.list(options, stdout, stderr)
                case "import":
                    self.bring(options, stdout, stderr)
                case _:
                    state = state_store(options["store"])
                    row = named(_rows(state).select_related("user"), options["id"], "conversation")
                    self.act(store_of(row), row, options, stdout, stderr)

    def act(
        self,
        state: StateStore,
        row: Conversation,
        options: Mapping[str, Any],
        stdout: OutputWrapper,
        stderr: OutputWrapper,
    ) -> None:
        """Do what is done to one conversation."""
        match options["action"]:
            case "show":
                stdout.write(_shown(state, row, options["generation"], is_json=options["json"]))
            case "diff":
                lines = _differences(state, row, options["before"], options["after"])
                if lines:
                    stdout.write("\n".join(lines))
                else:
                    stderr.write("Nothing differs.")
            case "expire":
                stdout.write(_ended(row, state.expire(record_in(state, row)), "expired"))
            case "revoke":
                stdout.write(_revoked(state, row, is_tokens=options["tokens"], up_to=options["up_to"]))
            case "rewind":
                with told_of(row):
                    head = state.rewind(record_in(state, row), options["generation"])
                stdout.write(
                    f"Conversation {row.fingerprint} is at generation {head.generation}, which is as "
                    f"{options['generation']} was."
                )
            case "fork":
                if row.kind == ConversationKind.USER:
                    raise CommandError("The state of a user is not forked; `export` and `import` copy it.")
                with told_of(row):
                    head = state.fork(record_in(state, row), options["generation"])
                _tell_begun(head, f"has the state of {row.fingerprint}", stdout, stderr)
            case "export":
                for piece in exported(state, head_in(state, row, options["generation"])):
                    stdout.write(piece, ending="")

    def list(self, options: Mapping[str, Any], stdout: OutputWrapper, stderr: OutputWrapper) -> None:
        found, has_more = listed(_rows(state_store(options["store"])), options)
        if not found:
            stderr.write("There are no such conversations.")
            return
        stdout.write(layout.table([COLUMNS, *map(_line, found)]))
        if has_more:
            stderr.write("There are more; --limit says how many are shown.")

    def bring(self, options: Mapping[str, Any], stdout: OutputWrapper, stderr: OutputWrapper) -> None:
        file = options["file"]
        try:
            data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
            found = document.read(data, max_depth=mcp_settings.STATE_MAX_DEPTH)
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}.") from None
        except document.UnreadableDocument as error:
            raise CommandError(f"{file} cannot be imported: {error}.") from None
        server = server_for(found, options["server"])
        state = state_store(options["store"] or store_alias_of(server))
        head = imported(state, found, server=server, user=options["user"], tenant=options["tenant"])
        _tell_begun(head, f"of {options['user']} has {len(found.values)} keys", stdout, stderr)


def _rows(state: StateStore) -> ConversationQuerySet:
    """Return the index, where the store writes it."""
    rows = Conversation.objects.all()
    return rows.using(getattr(state, "write_alias", rows.write_alias))


def _line(row: Conversation) -> tuple[str, ...]:
    return (
        row.fingerprint,
        row.kind,
        owner(row),
        row.server,
        layout.printable(row.tenant),
        str(row.generation),
        row.state,
        layout.moment(row.created_at),
        layout.moment(row.last_used_at),
    )


def _shown(state: StateStore, row: Conversation, generation: int | None, *, is_json: bool) -> str:
    head = head_in(state, row, generation)
    portrait = Portrait.of(state, row, head, whole_reader_of(state, head))
    return portrait.json if is_json else portrait.text


def _differences(state: StateStore, row: Conversation, before: int, after: int) -> list[str]:
    old, new = (reader_of(state, head_in(state, row, number)) for number in (before, after))
    return [str(difference) for difference in diff(old, new)]


def _ended(row: Conversation, is_news: bool, how: str) -> str:
    return f"Conversation {row.fingerprint} {f'is {how}' if is_news else 'had ended before'}."


def _revoked(state: StateStore, row: Conversation, *, is_tokens: bool, up_to: int | None) -> str:
    record = record_in(state, row)
    if not is_tokens:
        if up_to is not None:
            raise CommandError("--up-to is for --tokens; without it the whole conversation is revoked.")
        return _ended(row, state.revoke(record), "revoked")
    with told_of(row):
        head = state.revoke_tokens(record, up_to_generation=up_to)
    return (
        f"The tokens of conversation {row.fingerprint} up to generation {head.conversation.revoked_up_to} are "
        f"revoked; it is at generation {head.generation}."
    )


def _tell_begun(head: Head, what: str, stdout: OutputWrapper, stderr: OutputWrapper) -> None:
    """Write the id and the handle, which is known this once."""
    stdout.write(f"{head.conversation.id}\n{head.conversation.handle}")
    stderr.write(
        f"Conversation {head.conversation.id[:8]} {what}. The second line is its handle, for the argument `handle` of "
        "a tool; it is not shown again."
    )


verb = ConversationsVerb()
