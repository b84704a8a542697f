"""`manage.py mcp token create|list|revoke`: access tokens from the command line."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.management.base import CommandError, OutputWrapper
from django.utils import timezone

from django_mcp.management import layout
from django_mcp.management.users import user_named
from django_mcp.management.verbs.base import Verb
from django_mcp.models import MCPAccessToken
from django_mcp.models.access_token import MAX_NAME_LENGTH, UNLIMITED

COLUMNS: Final = ("fingerprint", "user", "name", "state", "created", "expires", "last used")
MAX_DAYS: Final = 36_500


class TokenVerb(Verb):
    name = "token"
    help = "Create, list and revoke access tokens."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="action")
        create = actions.add_parser("create", help="Create a token; the secret is printed this once.")
        create.add_argument("user", help="The name of the user that the token is for.")
        create.add_argument("--name", default="command line", help="Where it will be used (default: %(default)s).")
        create.add_argument("--days", type=_days, help="Its life; 0 is for ever (default: ACCESS_TOKEN_DAYS).")
        listing = actions.add_parser("list", help="List the tokens of a user, or of everybody.")
        listing.add_argument("user", nargs="?", help="The name of a user.")
        revoke = actions.add_parser("revoke", help="Revoke a token, at once and for good.")
        revoke.add_argument("fingerprint", help="As `list` shows it.")

    def handle(self, options: Mapping[str, Any], stdout: OutputWrapper, stderr: OutputWrapper) -> None:
        match options["action"]:
            case "create":
                self.create(options["user"], options["name"], options["days"], stdout, stderr)
            case "list":
                self.list(options["user"], stdout)
            case "revoke":
                self.revoke(options["fingerprint"], stdout)

    def create(self, username: str, name: str, days: int | None, stdout: OutputWrapper, stderr: OutputWrapper) -> None:
        if not name or len(name) > MAX_NAME_LENGTH:
            raise CommandError(f"The name must have 1 to {MAX_NAME_LENGTH} characters.")
        lifetime = None if days is None else timedelta(days=days) if days else UNLIMITED
        token, secret = MCPAccessToken.objects.issue(user_named(username), name, lifetime=lifetime)
        stdout.write(secret)
        end = f"expires {layout.moment(token.expires_at)}" if token.expires_at else "never expires"
        stderr.write(f"Access token {token.fingerprint} of {username}, {end}. It is not shown again.")

    def list(self, username: str | None, stdout: OutputWrapper) -> None:
        tokens = MCPAccessToken.objects.select_related("user").order_by("id")
        if username is not None:
            tokens = tokens.filter(user=user_named(username))
        now = timezone.now()
        stdout.write(layout.table([COLUMNS, *(_row(token, now) for token in tokens)]))

    def revoke(self, fingerprint: str, stdout: OutputWrapper) -> None:
        found = list(MCPAccessToken.objects.filter(fingerprint=fingerprint.rstrip("…").lower()))
        if not found:
            raise CommandError(f"There is no access token {fingerprint!r}; `manage.py mcp token list` shows them.")
        if len(found) > 1:
            raise CommandError(f"{len(found)} access tokens have the fingerprint {fingerprint!r}; use the admin.")
        revoked = found[0].revoke()
        stdout.write(f"Access token {found[0].fingerprint} {'is revoked' if revoked else 'was revoked before'}.")


def _days(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_DAYS:
        raise ArgumentTypeError(f"{text!r} is not a number of days between 0 and {MAX_DAYS}")
    return int(text)


def _row(token: MCPAccessToken, now: datetime) -> tuple[str, ...]:
    state = "revoked" if token.revoked_at else "live" if token.is_live(now) else "expired"
    return (
        token.fingerprint,
        token.user.get_username(),
        token.name,
        state,
        layout.moment(token.created_at),
        layout.moment(token.expires_at),
        layout.moment(token.last_used_at),
    )


verb = TokenVerb()
