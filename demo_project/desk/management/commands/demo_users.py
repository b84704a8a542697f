"""`manage.py demo_users`: three users whose permissions differ, and what they sign in with."""

from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core import serializers
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import transaction

from demo_project.desk.credentials import (
    credentials_path,
    keep_credentials,
    read_credentials,
    settle_credentials,
)

FIXTURES = Path(__file__).resolve().parent.parent.parent / "fixtures"
USERS = {
    "admin": "superuser",
    "agent": "plans and books",
    "viewer": "looks at airports",
}


class Command(BaseCommand):
    """Make what is missing, change nothing that works, and print the credentials."""

    help = "Create the demo's users and print their passwords and access tokens."

    def handle(self, *args: Any, **options: Any) -> None:
        """Load the roles, add missing users, settle and keep their credentials."""
        path = credentials_path()
        kept = read_credentials(path)
        with transaction.atomic():
            call_command("loaddata", "roles", verbosity=0)
            for made in serializers.deserialize("json", (FIXTURES / "demo_users.json").read_text()):
                # By its natural key, a user who is there already has the row's own pk.
                if made.object.pk is None:
                    made.save()
            found = {name: settle_credentials(User.objects.get(username=name), kept.get(name)) for name in USERS}
        if found != kept:
            keep_credentials(path, found)
        if options["verbosity"]:
            self.stdout.write(f"Users (kept in {path}):")
            for name, does in USERS.items():
                self.stdout.write(
                    f"  {name}: {does}\n    password {found[name].password}\n    token    {found[name].token}"
                )
