"""`manage.py mcp VERB …`: one command; each verb is a module of `django_mcp.management.verbs`."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from django_mcp.management.verbs import verbs


class Command(BaseCommand):
    help = "Look at and work with the MCP server of this project."

    def add_arguments(self, parser: CommandParser) -> None:
        subparsers = parser.add_subparsers(dest="verb", required=True, metavar="verb")
        for name, verb in verbs().items():
            verb.add_arguments(subparsers.add_parser(name, help=verb.help, description=verb.help))

    def handle(self, *args: Any, **options: Any) -> None:
        verbs()[options["verb"]].handle(options, self.stdout, self.stderr)
