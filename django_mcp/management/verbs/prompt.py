"""`manage.py mcp prompt NAME key=value …`: render a prompt."""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import OutputWrapper

from django_mcp.management import layout
from django_mcp.management.arguments import HELP, read_texts
from django_mcp.management.blocks import block_text
from django_mcp.management.peer import add_peer_arguments, talk
from django_mcp.management.verbs.base import Verb


class PromptVerb(Verb):
    name = "prompt"
    help = "Render a prompt."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="The name of the prompt.")
        parser.add_argument("arguments", nargs="*", help=HELP)
        add_peer_arguments(parser)

    def handle(self, options: Mapping[str, Any], stdout: OutputWrapper, stderr: OutputWrapper) -> None:
        arguments = read_texts(options["arguments"])
        result = talk(options, stderr, lambda peer: peer.aprompt(options["name"], arguments))
        if options["json"]:
            stdout.write(layout.as_json(result.raw))
        else:
            stdout.write("\n\n".join(f"{one.role}: {block_text(one.content)}" for one in result.messages))


verb = PromptVerb()
