"""`manage.py mcp call NAME key=value …`: run a tool."""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, OutputWrapper

from django_mcp.management import layout
from django_mcp.management.arguments import HELP, read_arguments
from django_mcp.management.blocks import block_text
from django_mcp.management.peer import Peer, add_peer_arguments, talk
from django_mcp.management.verbs.base import Verb
from django_mcp.testing import CallResult


class CallVerb(Verb):
    name = "call"
    help = "Call a tool."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="The name of the tool.")
        parser.add_argument("arguments", nargs="*", help=HELP)
        add_peer_arguments(parser)

    def handle(self, options: Mapping[str, Any], stdout: OutputWrapper, stderr: OutputWrapper) -> None:
        async def call(peer: Peer) -> CallResult:
            tools = {tool.name: tool for tool in await peer.alist_tools()}
            if options["name"] not in tools:
                raise CommandError(f"There is no tool {options['name']!r}; `manage.py mcp tools` lists them.")
            schema = tools[options["name"]].input_schema
            return await peer.acall(options["name"], read_arguments(options["arguments"], schema))

        result = talk(options, stderr, call)
        if options["json"]:
            stdout.write(layout.as_json(result.raw))
        if result.is_error:
            raise CommandError("The tool failed." if options["json"] else result.text or "The tool failed.")
        if not options["json"]:
            stdout.write(_shown(result))


def _shown(result: CallResult) -> str:
    structured = result.structured
    if structured is None:
        return "\n".join(block_text(block) for block in result.content)
    notes = [block_text(block) for block in result.content[1:]] if len(result.content) > 1 else []
    if isinstance(structured, dict) and structured.keys() == {"result"}:
        rows = structured["result"]
        if isinstance(rows, list):
            # The rows are the first blocks; what follows was added to them.
            notes = [block_text(block) for block in result.content[len(rows) :]]
        structured = rows
    return "\n".join([layout.value(structured), *notes])


verb = CallVerb()
