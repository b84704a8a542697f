"""`manage.py mcp table`: create the DynamoDB tables that stores keep their state in."""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, OutputWrapper

from django_mcp.management.faults import told
from django_mcp.management.verbs.base import Verb
from django_mcp.sessions.stores import store, stores
from django_mcp.sessions.stores.dynamodb import DynamoDBStore


class TableVerb(Verb):
    name = "table"
    help = "Create the DynamoDB table of each store that keeps its state there, where it is not there yet."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("store", nargs="*", help="Aliases of STORES (default: all that are on DynamoDB).")

    def handle(self, options: Mapping[str, Any], stdout: OutputWrapper, stderr: OutputWrapper) -> None:
        with told():
            named = {alias: store(alias) for alias in options["store"] or stores}
            found = {alias: backend for alias, backend in named.items() if isinstance(backend, DynamoDBStore)}
            if missed := [alias for alias in options["store"] if alias not in found]:
                raise CommandError(f"The store {missed[0]!r} is not on DynamoDB.")
            if not found:
                raise CommandError("No store in STORES is on DynamoDB.")
            for alias, backend in found.items():
                table = backend.state.table
                is_new = table.create()
                stdout.write(f"{alias}: the table {table.name} {'was created' if is_new else 'is there'}.")


verb = TableVerb()
