"""Tell every client of changes: `manage.py announce tools`, or `prompts`, `resources`, or URIs of resources."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from django_mcp import notify


class Command(BaseCommand):
    help = "Tell every client of changes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("what", nargs="+")

    def handle(self, *args: Any, what: list[str], **options: Any) -> None:
        lists = {
            "tools": notify.tools_changed,
            "prompts": notify.prompts_changed,
            "resources": notify.resources_changed,
        }
        for one in what:
            if one in lists:
                lists[one]()
            else:
                notify.resource_updated(one)
