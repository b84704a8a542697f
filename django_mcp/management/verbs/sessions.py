"""`manage.py mcp sessions list|show|expire|revoke`: the sessions of the handshake era."""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any, Final

from django.core.management.base import OutputWrapper

from django_mcp.management import layout
from django_mcp.management.faults import told
from django_mcp.management.records import add_id_argument, add_list_arguments, listed, named, owner
from django_mcp.management.verbs.base import Verb
from django_mcp.models import MCPSession
from django_mcp.models.session import MCPSessionQuerySet, SessionState

COLUMNS: Final = ("id", "user", "server", "tenant", "client", "protocol", "state", "created", "last used")


class SessionsVerb(Verb):
    name = "sessions"
    help = "List, show and end the sessions of the handshake era."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="action")
        listing = actions.add_parser("list", help="List sessions, the last used first.")
        add_list_arguments(listing, SessionState.values)
        for name, text in (
            ("show", "Show all there is about a session."),
            ("expire", "End a session as if its time were over; its client begins another one."),
            ("revoke", "End a session; its client begins another one, if it still may."),
        ):
            add_id_argument(actions.add_parser(name, help=text))

    def handle(self, options: Mapping[str, Any], stdout: OutputWrapper, stderr: OutputWrapper) -> None:
        with told():
            if options["action"] == "list":
                self.list(options, stdout, stderr)
                return
            session = named(_rows(), options["id"], "session")
            match options["action"]:
                case "show":
                    stdout.write(layout.value(_shown(session)))
                case "expire":
                    stdout.write(_ended(session, session.expire(), "expired"))
                case "revoke":
                    stdout.write(_ended(session, session.revoke(), "revoked"))

    def list(self, options: Mapping[str, Any], stdout: OutputWrapper, stderr: OutputWrapper) -> None:
        found, has_more = listed(_rows(), options)
        if not found:
            stderr.write("There are no such sessions.")
            return
        stdout.write(layout.table([COLUMNS, *(_row(session) for session in found)]))
        if has_more:
            stderr.write("There are more; --limit says how many are shown.")


def _rows() -> MCPSessionQuerySet:
    rows = MCPSession.objects.all()
    return rows.using(rows.write_alias)


def _row(session: MCPSession) -> tuple[str, ...]:
    return (
        session.fingerprint,
        owner(session),
        session.server,
        layout.printable(session.tenant),
        _client(session),
        session.protocol_version,
        session.state,
        layout.moment(session.created_at),
        layout.moment(session.last_used_at),
    )


def _shown(session: MCPSession) -> dict[str, Any]:
    return {
        "id": session.key,
        "server": session.server,
        "tenant": layout.printable(session.tenant),
        "principal": layout.printable(session.principal),
        "user": owner(session) if session.user else "-",
        "address": layout.printable(session.address),
        "protocol": session.protocol_version,
        "client": _client(session),
        "client info": layout.ascii_json(session.client_info_data),
        "capabilities": layout.ascii_json(session.capabilities_data),
        "log level": layout.printable(session.log_level),
        "subscriptions": layout.ascii_json(session.subscription_uris),
        "state": session.state,
        "used": "yes" if session.used else "no",
        "created": layout.moment(session.created_at),
        "last used": layout.moment(session.last_used_at),
        "ended": layout.moment(session.ended_at),
    }


def _client(session: MCPSession) -> str:
    return layout.printable(f"{session.client_name} {session.client_version}".strip())


def _ended(session: MCPSession, is_news: bool, how: str) -> str:
    return (
        f"Session {session.fingerprint} is {how}." if is_news else f"Session {session.fingerprint} had ended before."
    )


verb = SessionsVerb()
