"""Users of a live server and their access tokens: `python -m tests.live.accounts make`, or `deactivate NAME`.

`make` prints a JSON object of secrets: `alice` and `bob` are good, the others tell by their names what they are.
"""

import json
import sys
from datetime import timedelta

import django


def main(verb: str, *names: str) -> None:
    django.setup()
    from django.contrib.auth.models import User

    if verb == "deactivate":
        User.objects.filter(username__in=names).update(is_active=False)
    elif verb == "make":
        print(json.dumps(make()))
    else:
        sys.exit(f"unknown verb {verb!r}")


def make() -> dict[str, str]:
    """Create the users, and return the secrets of their tokens."""
    from django.contrib.auth.models import User
    from django.utils import timezone

    from django_mcp.models import MCPAccessToken

    secrets = {}
    for name in ("alice", "bob", "inactive"):
        user = User.objects.create_user(name, is_active=name != "inactive")
        secrets[name] = MCPAccessToken.objects.issue(user, name)[1]
    alice = User.objects.get(username="alice")
    expired, secrets["expired"] = MCPAccessToken.objects.issue(alice, "expired", lifetime=timedelta(days=1))
    MCPAccessToken.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(days=1))
    revoked, secrets["revoked"] = MCPAccessToken.objects.issue(alice, "revoked")
    revoked.revoke()
    return secrets


if __name__ == "__main__":
    main(*sys.argv[1:])
