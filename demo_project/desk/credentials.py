"""The passwords and access tokens of the demo's users: made once, kept in a private file, checked at every start."""

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User

from demo_project.private_file import write_private
from django_mcp.models import MCPAccessToken

TOKEN_NAME = "demo"  # noqa: S105 - a name, not a secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What one user signs in with: at the admin by password, at the MCP endpoint by token."""

    username: str
    password: str
    token: str


def credentials_path() -> Path:
    """Return where the credentials are kept."""
    return Path(settings.VAR_DIR) / "demo-credentials.json"


def read_credentials(path: Path) -> dict[str, Credentials]:
    """Return what is kept, by username; nothing where there is no file."""
    try:
        kept = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return {username: Credentials(username=username, **values) for username, values in kept.items()}


def keep_credentials(path: Path, found: dict[str, Credentials]) -> None:
    """Replace the file."""
    kept = {username: asdict(one) for username, one in found.items()}
    for values in kept.values():
        del values["username"]
    write_private(path, json.dumps(kept, indent=2) + "\n")


def settle_credentials(user: User, kept: Credentials | None) -> Credentials:
    """Return credentials that work for `user`: the kept ones, with a new password or token only where needed."""
    password = kept.password if kept else secrets.token_urlsafe(12)
    if not user.check_password(password):
        user.set_password(password)
        user.save(update_fields=["password"])
    token = kept.token if kept else ""
    owner = MCPAccessToken.objects.authenticate(token) if token else None
    if owner is None or owner.user_id != user.pk:
        _, token = MCPAccessToken.objects.issue(user, TOKEN_NAME)
    return Credentials(username=user.username, password=password, token=token)
