"""Tools that go on while their clients come and go, paced by entries of the ledger, which any process can write.

`allow(name)` lets the tool that was called with this `name` take one more step. Each run of a body leaves an entry
`<name>: run`, and a body that was cancelled `<name>: cancelled`.
"""

import asyncio
import os
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from django.utils import timezone
from mcp_types import CreateMessageResult, ListRootsResult, SamplingMessage, TextContent
from pydantic import BaseModel

from django_mcp import Context, Elicit, ListRoots, Resolve, Sample, notify, resource, tool
from django_mcp.models import Call, Stream
from tests.live.ledger.models import Entry

LOOK_SECONDS = 0.05


class Colour(BaseModel):
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    process: int
    said: str = ""


def outcome(said: str = "") -> Outcome:
    return Outcome(process=os.getpid(), said=said)


@tool(read_only=True)
async def process() -> Outcome:
    """Tell which process runs this."""
    return outcome()


@tool
async def allow(name: str, steps: int = 1) -> int:
    """Let a tool take so many more steps."""
    entries = [Entry(note=f"{name}: step", process=os.getpid()) for _ in range(steps)]
    return len(await Entry.objects.abulk_create(entries))


@tool(idempotent=True)
async def follow(name: str, upto: int, ctx: Context) -> Outcome:
    """Report progress with each step, and end with the one after the last. It may run again."""
    return await _follow(name, upto, ctx)


@tool
async def follow_once(name: str, upto: int, ctx: Context) -> Outcome:
    """Do what `follow` does, which must not be done twice."""
    return await _follow(name, upto, ctx)


@tool
def follow_in_thread(name: str, upto: int, ctx: Context) -> Outcome:
    """Do what `follow_once` does, in a thread; leave when nobody waits any more."""
    Entry.objects.create(note=f"{name}: run", process=os.getpid())
    for number in range(1, upto + 2):
        while Entry.objects.filter(note=f"{name}: step").count() < number:
            if ctx.cancelled:
                Entry.objects.create(note=f"{name}: cancelled", process=os.getpid())
                return outcome("cancelled")
            time.sleep(LOOK_SECONDS)
        if number <= upto:
            ctx.progress(number, upto)
    return outcome()


@tool
async def follow_silently(name: str) -> Outcome:
    """Say nothing until the first step."""
    await _note(f"{name}: run")
    try:
        await _allowed(name, 1)
    except asyncio.CancelledError:
        await _note_cancelled(name)
        raise
    return outcome()


@tool(read_only=True)
async def log_steps(name: str, upto: int, ctx: Context) -> Outcome:
    """Log with each step what is worth knowing to somebody who debugs, then report progress."""
    for number in range(1, upto + 1):
        await _allowed(name, number)
        await ctx.adebug(f"step {number}")
        await ctx.aprogress(number, upto)
    return outcome()


@tool(idempotent=True)
async def pace(upto: int, pause_ms: int, ctx: Context) -> Outcome:
    """Report progress `upto` times, with a pause before each."""
    for number in range(1, upto + 1):
        await asyncio.sleep(pause_ms / 1000)
        await ctx.aprogress(number, upto)
    return outcome()


@tool(idempotent=True)
async def poll(name: str, upto: int, every: int, ctx: Context) -> Outcome:
    """Report progress with each step, and let the client come back for the rest after every so many."""
    for number in range(1, upto + 1):
        await _allowed(name, number)
        await ctx.aprogress(number, upto)
        if number % every == 0:
            await ctx.aclose_stream()
    await _allowed(name, upto + 1)
    return outcome()


# Questions.


def ask_colour(name: str) -> Elicit[Colour]:
    return Elicit(f"{name}: which colour?", Colour)


def ask_roots() -> ListRoots:
    return ListRoots()


def ask_model(name: str) -> Sample:
    return Sample([SamplingMessage(role="user", content=TextContent(type="text", text=name))], max_tokens=10)


@tool
async def paint(name: str, colour: Annotated[Colour, Resolve(ask_colour)]) -> Outcome:
    """Paint once the user has said how."""
    await _note(f"{name}: run")
    return outcome(colour.colour)


@tool
async def paint_by_model(name: str, reply: Annotated[CreateMessageResult, Resolve(ask_model)]) -> Outcome:
    """Paint once the client's model has said how."""
    await _note(f"{name}: run")
    return outcome(getattr(reply.content, "text", ""))


@tool
async def paint_by_roots(name: str, roots: Annotated[ListRootsResult, Resolve(ask_roots)]) -> Outcome:
    """Paint what is below the client's roots."""
    await _note(f"{name}: run")
    return outcome(" ".join(str(root.uri) for root in roots.roots))


@tool
async def paint_while_asking(name: str, ctx: Context) -> Outcome:
    """Ask the user in the body, and end with the first step."""
    await _note(f"{name}: run")
    answer = await ctx.aelicit(f"{name}: which colour?", Colour)
    await _allowed(name, 1)
    return outcome(answer.data.colour)


@tool
async def sample_while_running(name: str, ctx: Context) -> Outcome:
    """Ask the client's model in the body."""
    await _note(f"{name}: run")
    reply = await ctx.asample(ask_model(name))
    return outcome(reply.content.text)


@tool
async def list_roots_while_running(name: str, ctx: Context) -> Outcome:
    """Ask for the client's roots in the body."""
    await _note(f"{name}: run")
    return outcome(" ".join(str(root.uri) for root in (await ctx.alist_roots()).roots))


# Changes.


@resource("ledger://watched/{name}", name="watched", mime_type="text/plain")
def watched(name: str) -> str:
    """Be subscribed to."""
    return name


@tool
def tell(*, tools: bool = False, prompts: bool = False, resources: bool = False, uri: str = "") -> Outcome:
    """Tell everybody of changes, the resource at `uri` first."""
    if uri:
        notify.resource_updated(uri)
    if tools:
        notify.tools_changed()
    if prompts:
        notify.prompts_changed()
    if resources:
        notify.resources_changed()
    return outcome()


@tool
def forget_stream(stream: str) -> int:
    """Let the time of a closed stream run out."""
    over = timezone.now() - timedelta(seconds=1)
    return Stream.objects.filter(pk=stream, is_open=False).update(expires_at=over)


@tool
def end_leases(process: int) -> int:
    """Let the time of the leases run out that a process holds on calls, as it does once that is dead."""
    over = timezone.now() - timedelta(seconds=1)
    return Call.objects.running().filter(owner__contains=f":{process}:").update(lease_until=over)


# What goes wrong in the middle of a stream.


@tool(read_only=True)
async def break_off(how: str, ctx: Context) -> Any:
    """Fail after the response has begun."""
    await ctx.aprogress(1)
    if how == "raise":
        raise RuntimeError("secret-of-the-server")
    if how == "progress":
        await ctx.aprogress(float("nan"))
    elif how == "log":
        await ctx.ainfo({"a set": {1, 2}})
    elif how == "surrogate":
        await ctx.ainfo("\ud800")
    return {"unencodable": object()} if how == "result" else how


_poured: dict[str, int] = {}


@tool(read_only=True)
async def pour(name: str, messages: int, size: int, ctx: Context) -> int:
    """Send so many log messages of `size` characters."""
    _poured[name] = 0
    for _ in range(messages):
        await ctx.awarning("x" * size)
        _poured[name] += size
    return messages


@tool(read_only=True)
async def poured(name: str) -> int:
    """Return how many characters `pour` has been rid of in this process."""
    return _poured.get(name, 0)


async def _follow(name: str, upto: int, ctx: Context) -> Outcome:
    await _note(f"{name}: run")
    try:
        for number in range(1, upto + 1):
            await _allowed(name, number)
            await ctx.aprogress(number, upto)
        await _allowed(name, upto + 1)
    except asyncio.CancelledError:
        await _note_cancelled(name)
        raise
    return outcome()


async def _allowed(name: str, steps: int) -> None:
    # Another process may write them, of which no event of this one tells.
    while await Entry.objects.filter(note=f"{name}: step").acount() < steps:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_SECONDS)


async def _note(note: str) -> None:
    await Entry.objects.acreate(note=note, process=os.getpid())


async def _note_cancelled(name: str) -> None:
    await asyncio.shield(asyncio.create_task(_note(f"{name}: cancelled")))
