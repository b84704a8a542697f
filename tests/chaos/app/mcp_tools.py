"""Tools that run for a while, ask, keep state and tell of changes. Each takes the key of its call and says it back.

`count`, `ask` and their like come in two: one that may be run again after a crash, and one that may not.
"""

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Annotated, Final

from django.db import transaction
from django.db.models import F
from pydantic import BaseModel

from django_mcp import Context, Elicit, Resolve, State, ToolError, notify, resource, tool
from tests.chaos.app.models import Run, Tally, Topic
from tests.chaos.app.topics import uri_of

LONGEST_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a run says of itself; `word` is what its user answered."""

    key: str
    run: int
    process: int
    word: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    key: str
    label: str
    total: int
    process: int


class Answer(BaseModel):
    word: str


@tool
async def count(key: str, steps: int, pause: float, pad: int, ctx: Context) -> Ran:
    """Count up to `steps`, and tell of each."""
    return await _count("count", key, steps, pause, pad, ctx)


@tool(idempotent=True)
async def count_again(key: str, steps: int, pause: float, pad: int, ctx: Context) -> Ran:
    """Count up to `steps`, from the beginning where the process died in the middle of it."""
    return await _count("count_again", key, steps, pause, pad, ctx)


@tool
def write(key: str, pause: float) -> Ran:
    """Take some time, and say nothing meanwhile."""
    run = Run.objects.begin(key, "write")
    time.sleep(pause)
    run.end()
    return _ran(run)


@tool
async def ask(key: str, ctx: Context) -> Ran:
    """Ask in the middle of the body."""
    return await _ask("ask", key, ctx)


@tool(idempotent=True)
async def ask_again(key: str, ctx: Context) -> Ran:
    """Ask in the middle of a body that may be run again."""
    return await _ask("ask_again", key, ctx)


def ask_first(key: str) -> Elicit[Answer]:
    return Elicit(f"{key}?", Answer)


@tool
def agree(key: str, answer: Annotated[Answer, Resolve(ask_first)]) -> Ran:
    """Run once the user has answered."""
    run = Run.objects.begin(key, "agree")
    run.end()
    return _ran(run, answer.word)


@tool
def wait(key: str, ctx: Context) -> Ran:
    """Tell of progress until the call is cancelled."""
    run = Run.objects.begin(key, "wait")
    ends_at = time.monotonic() + LONGEST_SECONDS
    number = 0
    while not ctx.cancelled and time.monotonic() < ends_at:
        number += 1
        ctx.progress(number, message=f"{key} {number}")
        time.sleep(0.1)
    run.end()
    return _ran(run)


@tool
def add(key: str, label: str, by: int, state: State) -> Sum:
    """Add to a conversation's total, and note the key of the call in its state."""
    run = Run.objects.begin(key, "add")
    state.update("label", lambda _: label)
    state.update("keys", lambda keys: [*keys, key], default=[])
    total = state.update("total", lambda total: total + by, default=0)
    run.end()
    return _sum(key, label, total)


@tool
async def add_async(key: str, label: str, by: int, state: State) -> Sum:
    """Add to a conversation's total, from the event loop."""
    run = await Run.objects.abegin(key, "add_async")
    await state.aupdate("label", lambda _: label)
    await state.aupdate("keys", lambda keys: [*keys, key], default=[])
    total = await state.aupdate("total", lambda total: total + by, default=0)
    await run.aend()
    return _sum(key, label, total)


@tool(atomic=True)
def add_row(key: str, label: str, by: int, state: State) -> Sum:
    """Add to a conversation's total, and write a row in the same transaction."""
    Tally.objects.create(label=label, key=key)
    state.update("label", lambda _: label)
    state.update("keys", lambda keys: [*keys, key], default=[])
    state.update("tallies", lambda keys: [*keys, key], default=[])
    total = state.update("total", lambda total: total + by, default=0)
    return _sum(key, label, total)


@tool(read_only=True)
def look(key: str, state: State) -> Sum:
    """Return a conversation's total."""
    return _sum(key, state.get("label", ""), state.get("total", 0))


@tool
def touch(key: str, topic: str) -> Ran:
    """Change a topic, and tell those who subscribed to it."""
    run = Run.objects.begin(key, "touch")
    with transaction.atomic():
        if not Topic.objects.filter(name=topic).update(version=F("version") + 1):
            raise ToolError(f"There is no topic {topic!r}.")
        notify.resource_updated(uri_of(topic))
    run.end()
    return _ran(run)


@resource("chaos://topics/{name}", name="topic", mime_type="text/plain")
def topic(name: str) -> str:
    """Return the version of a topic."""
    return str(Topic.objects.get(name=name).version)


async def _count(tool: str, key: str, steps: int, pause: float, pad: int, ctx: Context) -> Ran:
    run = await Run.objects.abegin(key, tool)
    for number in range(1, steps + 1):
        await ctx.aprogress(number, steps, f"{key} {number} {'.' * pad}")
        await asyncio.sleep(pause)
    await ctx.ainfo(f"{key} done")
    await run.aend()
    return _ran(run)


async def _ask(tool: str, key: str, ctx: Context) -> Ran:
    run = await Run.objects.abegin(key, tool)
    answer = await ctx.aelicit(f"{key}?", Answer)
    await run.aend()
    data = getattr(answer, "data", None)
    return _ran(run, data.word if isinstance(data, Answer) else "")


def _ran(run: Run, word: str = "") -> Ran:
    return Ran(key=run.key, run=run.pk, process=run.process, word=word)


def _sum(key: str, label: str, total: int) -> Sum:
    return Sum(key=key, label=label, total=total, process=os.getpid())
