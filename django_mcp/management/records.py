"""Rows of sessions and conversations as an operator names them: by what they belong to, or by the start of an id."""

import re
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from django.core.management.base import CommandError
from django.db.models import QuerySet

from django_mcp.management import layout
from django_mcp.management.numbers import whole
from django_mcp.management.users import user_named
from django_mcp.models import Conversation, MCPSession
from django_mcp.models.transactions import outages
from django_mcp.registry.server import servers
from django_mcp.server.compile import key_of

LISTED: Final = 50
MOST_NAMED: Final = 5
_START: Final = re.compile(r"[0-9a-f]{1,64}")

R = TypeVar("R", Conversation, MCPSession)


def add_list_arguments(parser: ArgumentParser, states: Iterable[str]) -> None:
    parser.add_argument("--user", help="The name of the user they belong to.")
    parser.add_argument("--server", help="The name of the server, in the project or as it is kept.")
    parser.add_argument("--tenant", help="The tenant.")
    parser.add_argument("--state", choices=sorted(states), help="The state they are in.")
    parser.add_argument(
        "--limit", type=whole(1), default=LISTED, metavar="N", help="The most that are shown (default: %(default)s)."
    )


def add_id_argument(parser: ArgumentParser) -> None:
    parser.add_argument("id", help="As `list` shows it: the whole id, or its beginning.")


def listed(rows: "QuerySet[R]", options: Mapping[str, Any]) -> tuple[list[R], bool]:
    """Return the rows that the options describe, last used first, and whether there are more."""
    found = rows.select_related("user").order_by("-last_used_at", "pk")
    if options["user"] is not None:
        found = found.filter(user_id=user_named(options["user"]).pk)
    if options["server"] is not None:
        name = options["server"]
        found = found.filter(server=key_of(name) if name in servers else name)
    for field in ("tenant", "state"):
        if options[field] is not None:
            found = found.filter(**{field: options[field]})
    limit = options["limit"]
    with outages(rows.db):
        shown = list(found[: limit + 1])
    return shown[:limit], len(shown) > limit


def named(rows: "QuerySet[R]", given: str, noun: str) -> R:
    """Return the row whose id begins like this. Raises CommandError if there is not exactly one."""
    start = given.rstrip("…").lower()
    found: list[R] = []
    if _START.fullmatch(start):
        with outages(rows.db):
            found = list(rows.filter(pk__startswith=start).order_by("pk")[: MOST_NAMED + 1])
    if not found:
        raise CommandError(f"There is no {noun} {given!r}; `manage.py mcp {noun}s list` shows them.")
    if len(found) > 1:
        names = ", ".join(str(row.pk) for row in found[:MOST_NAMED])
        more = " and more" if len(found) > MOST_NAMED else ""
        raise CommandError(f"Several {noun}s begin with {given!r}, give more of the one you mean: {names}{more}.")
    return found[0]


def owner(row: Conversation | MCPSession) -> str:
    """Return the name of the user, or of the principal where there is none."""
    return layout.printable(row.principal if row.user is None else row.user.get_username())
