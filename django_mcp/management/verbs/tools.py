"""`manage.py mcp tools`: what can be called."""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import OutputWrapper
from mcp_types import Tool

from django_mcp.management import layout
from django_mcp.management.arguments import signature
from django_mcp.management.peer import add_peer_arguments, talk
from django_mcp.management.verbs.base import Verb


class ToolsVerb(Verb):
    name = "tools"
    help = "List the tools that a caller sees."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_peer_arguments(parser, asks=False)

    def handle(self, options: Mapping[str, Any], stdout: OutputWrapper, stderr: OutputWrapper) -> None:
        tools = talk(options, stderr, lambda peer: peer.alist_tools())
        if options["json"]:
            dumped = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
            stdout.write(layout.as_json(dumped))
        elif tools:
            stdout.write("\n\n".join(_shown(tool) for tool in tools))
        else:
            stderr.write("There are no tools that this caller sees.")


def _shown(tool: Tool) -> str:
    text = "\n\n".join(part for part in (tool.title, tool.description) if part)
    return "\n".join(part for part in (tool.name + signature(tool.input_schema), layout.wrapped(text)) if part)


verb = ToolsVerb()
