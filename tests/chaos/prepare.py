"""Make the database ready, once: `python -m tests.chaos.prepare 4` prints the tokens of so many users as JSON."""

import json
import sys

import django
from django.core.management import call_command

from tests.chaos.app.topics import TOPICS


def main(users: str) -> None:
    django.setup()
    from django.contrib.auth.models import User

    from django_mcp.models import MCPAccessToken
    from tests.chaos.app.models import Topic

    call_command("migrate", verbosity=0)
    for name in TOPICS:
        Topic.objects.create(name=name)
    names = [f"user-{number}" for number in range(int(users))]
    print(json.dumps({name: MCPAccessToken.objects.issue(User.objects.create_user(name), name)[1] for name in names}))


if __name__ == "__main__":
    main(*sys.argv[1:])
