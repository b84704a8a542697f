"""`manage.py mcp read URI`: read a resource."""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import OutputWrapper

from django_mcp.management import layout
from django_mcp.management.blocks import block_text
from django_mcp.management.peer import add_peer_arguments, talk
from django_mcp.management.verbs.base import Verb


class ReadVerb(Verb):
    name = "read"
    help = "Read a resource."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("uri", help="The URI of the resource.")
        add_peer_arguments(parser)

    def handle(self, options: Mapping[str, Any], stdout: OutputWrapper, stderr: OutputWrapper) -> None:
        result = talk(options, stderr, lambda peer: peer.aread(options["uri"]))
        if options["json"]:
            stdout.write(layout.as_json(result.raw))
        else:
            stdout.write("\n".join(block_text(contents) for contents in result.contents))


verb = ReadVerb()
