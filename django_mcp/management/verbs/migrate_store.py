"""`manage.py mcp migrate-store FROM TO`: move what one store keeps to another, while calls go on."""

import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError, OutputWrapper
from tqdm import tqdm

from django_mcp.management import layout
from django_mcp.management.faults import told
from django_mcp.management.numbers import whole
from django_mcp.management.verbs.base import Verb
from django_mcp.registry.definition import ToolDefinition
from django_mcp.registry.server import servers
from django_mcp.server.compile import store_alias_of
from django_mcp.server.keeper import worker_lost
from django_mcp.sessions.migration import ConversationPart, LogPart, Outcome, Part, Progress
from django_mcp.sessions.migration.conversations import ROWS, WORKERS
from django_mcp.sessions.migration.part import Report
from django_mcp.sessions.stores import StateStore, store
from django_mcp.setting import SETTING

COLUMNS = ("part", "moved", "already there", "left", "bytes", "seconds")
LINE_SECONDS = 5.0
"""How often a line is written where nobody watches a terminal."""


class MigrateStoreVerb(Verb):
    name = "migrate-store"
    help = "Move conversations with their history, streams and calls from one store to another, while calls go on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", metavar="FROM", help="The alias in STORES that keeps them.")
        parser.add_argument("target", metavar="TO", help="The alias in STORES that is to keep them.")
        parser.add_argument("--dry-run", action="store_true", help="Count what would be moved; change nothing.")
        parser.add_argument(
            "--batch",
            type=whole(1),
            default=ROWS,
            metavar="N",
            help="How many rows of the index are read at once (default: %(default)s).",
        )
        parser.add_argument(
            "--workers",
            type=whole(1),
            default=WORKERS,
            metavar="N",
            help="How many are moved at once, each by a connection of its own (default: %(default)s).",
        )

    def handle(self, options: Mapping[str, Any], stdout: OutputWrapper, stderr: OutputWrapper) -> None:
        with told():
            parts = _parts(options)
            if options["dry_run"]:
                counts = [(part.name, "?" if (count := part.count()) is None else str(count)) for part in parts]
                stdout.write(layout.table([("part", "to move"), *counts]))
                stderr.write("Nothing was changed.")
                return
            rows: list[tuple[str, ...]] = [COLUMNS]
            reasons: list[str] = []
            for part in parts:
                began = time.monotonic()
                with _shown(part, stderr) as report:
                    outcome = part.run(report)
                rows.append(_line(part, outcome, time.monotonic() - began))
                reasons += _reasons(part, outcome)
        stdout.write(layout.table(rows))
        if reasons:
            raise CommandError("\n".join([*reasons, "Run it again to go on with what is left."]))


def _parts(options: Mapping[str, Any]) -> list[Part]:
    old, new = store(options["source"]), store(options["target"])
    source, target = old.state, new.state
    _check(source, target)
    return [
        ConversationPart(source, target, batch=options["batch"], workers=options["workers"]),
        LogPart(old, new, interrupted=worker_lost),
    ]


def _check(source: StateStore, target: StateStore) -> None:
    """Raise CommandError for what cannot be moved."""
    if source.write_alias != target.write_alias:
        raise CommandError(
            f"The index of {source.alias!r} is in the database {source.write_alias!r}, that of {target.alias!r} in "
            f"{target.write_alias!r}. A conversation moves where both are in one: set USING in the OPTIONS of "
            f"{SETTING}['STORES'][{target.alias!r}]."
        )
    if source.keeper == target.keeper:
        raise CommandError(f"{source.alias!r} and {target.alias!r} keep conversations in the same place.")
    if source.supports_transactions and not target.supports_transactions:
        names = sorted(_atomic_tools(source.alias))
        if names:
            raise CommandError(
                f"{target.alias!r} takes no part in transactions, which these tools need: {', '.join(names)}. Declare "
                f"them without `atomic=True`, or leave the conversations of their server in {source.alias!r}."
            )


def _atomic_tools(alias: str) -> Iterator[str]:
    for server in servers.values():
        if store_alias_of(server) != alias:
            continue
        for definition in server.definitions:
            if isinstance(definition, ToolDefinition) and definition.atomic:
                yield f"{definition.name} ({server.name})"


@contextmanager
def _shown(part: Part, stderr: OutputWrapper) -> Iterator[Report]:
    """Give what shows progress: a bar on a terminal, now and then a line elsewhere."""
    if not stderr.isatty():
        next_at = time.monotonic() + LINE_SECONDS

        def write(progress: Progress) -> None:
            nonlocal next_at
            if time.monotonic() >= next_at or progress.done == progress.total:
                next_at = time.monotonic() + LINE_SECONDS
                stderr.write(f"{part.name}: {progress.done} of {progress.total} {progress.what}")

        yield write
        return
    out: Any = stderr
    with tqdm(file=out._out, unit="", desc=part.name) as bar:

        def draw(progress: Progress) -> None:
            if bar.desc != f"{part.name}: {progress.what}: ":
                bar.reset()
                bar.set_description(f"{part.name}: {progress.what}", refresh=False)
            bar.total = progress.total
            bar.update(progress.done - bar.n)

        yield draw


def _line(part: Part, outcome: Outcome, seconds: float) -> tuple[str, ...]:
    return (
        part.name,
        str(outcome.moved),
        str(outcome.there),
        str(sum(outcome.left.values())),
        str(outcome.bytes),
        f"{seconds:.1f}",
    )


def _reasons(part: Part, outcome: Outcome) -> list[str]:
    if not outcome.left:
        return []
    told = ", ".join(f"{count} {why}" for why, count in sorted(outcome.left.items()))
    such = f" ({'; '.join(outcome.examples)})" if outcome.examples else ""
    return [f"Left of the {part.name}: {told}{such}."]


verb = MigrateStoreVerb()
