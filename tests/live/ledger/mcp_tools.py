"""Tools that count their runs in the database, and tools that tell of the process they run in."""

import asyncio
import itertools
import os
import threading
from typing import Annotated, Any

from pydantic import BaseModel

from django_mcp import Context, Elicit, Resolve, resource, tool
from tests.live.ledger import state_tools, stream_tools
from tests.live.ledger.models import Entry

__all__ = ["state_tools", "stream_tools"]

BARRIER_PARTIES = 10
WAIT_SECONDS = 30
FLOOD_CHARACTERS = 10_000

_barrier = threading.Barrier(BARRIER_PARTIES)
_gate = threading.Event()


class Consent(BaseModel):
    ok: bool


def ask_consent(note: str) -> Elicit[Consent]:
    return Elicit(f"Write {note!r} into the ledger?", Consent)


@tool
def write_entry(note: str, consent: Annotated[Consent, Resolve(ask_consent)]) -> dict[str, Any]:
    """Write one entry once the user agrees."""
    entry = Entry.objects.create(note=note if consent.ok else "refused", process=os.getpid())
    return {"entry": entry.pk, "process": entry.process}


@tool
def write_slowly(note: str, consent: Annotated[Consent, Resolve(ask_consent)], ctx: Context) -> dict[str, Any]:
    """Write one entry once the user agrees, one more when the client is gone, and one when `let_go` is called."""
    first = Entry.objects.create(note=note, process=os.getpid())
    while not (ctx.cancelled or _gate.wait(0.02)):
        pass
    if ctx.cancelled:
        Entry.objects.create(note=f"{note}: alone", process=os.getpid())
    _gate.wait(WAIT_SECONDS)
    last = Entry.objects.create(note=note, process=os.getpid())
    return {"entries": [first.pk, last.pk]}


@tool
def add_entry(note: str) -> dict[str, Any]:
    """Write one entry, and one more when `let_go` is called."""
    return _write_two(note)


@tool(idempotent=True)
def put_entry(note: str) -> dict[str, Any]:
    """Do what `add_entry` does, and say that doing it twice does no harm."""
    return _write_two(note)


@tool(read_only=True)
def count_entries(note: str) -> int:
    """Count the entries with a note."""
    return Entry.objects.filter(note=note).count()


@tool(read_only=True)
def meet() -> str:
    """Wait until enough calls run at the same time."""
    Entry.objects.count()
    _barrier.wait(WAIT_SECONDS)
    return "met"


@tool(read_only=True)
def hold(ctx: Context) -> str:
    """Keep a thread until `let_go` is called."""
    ctx.progress(1)
    _gate.wait(WAIT_SECONDS)
    return "held"


@tool(read_only=True)
async def let_go() -> str:
    """Let every call of `hold` end, those that come later too."""
    _gate.set()
    return "let go"


@tool(read_only=True)
async def close_gate() -> str:
    """Let later calls of `hold` wait again."""
    _gate.clear()
    return "closed"


@tool(read_only=True)
def in_thread() -> str:
    """Return the name of the thread that runs synchronous tools, after a query."""
    Entry.objects.count()
    return threading.current_thread().name


@tool(read_only=True)
async def list_threads() -> list[str]:
    """List the threads of this process."""
    return sorted(thread.name for thread in threading.enumerate())


@tool(read_only=True)
async def wait_for_cancel(note: str, ctx: Context) -> str:
    """Report progress, wait until cancelled, and leave an entry when that happens."""
    await ctx.aprogress(1, message="waiting")
    try:
        await asyncio.sleep(WAIT_SECONDS)
    except asyncio.CancelledError:
        await asyncio.shield(asyncio.create_task(_leave(note)))
        raise
    return "never cancelled"


@tool(read_only=True)
async def work_for(seconds: float, ctx: Context) -> str:
    """Report progress, and take so long."""
    await ctx.aprogress(1)
    await asyncio.sleep(seconds)
    return "worked"


@tool(read_only=True)
async def flood(ctx: Context) -> str:
    """Report progress in long words for as long as anybody takes it."""
    for step in itertools.count(1):
        await ctx.aprogress(step, message="x" * FLOOD_CHARACTERS)
        await asyncio.sleep(0)
    return "never done"


@tool(read_only=True)
def crash() -> str:
    """Raise what is not meant for the client."""
    raise RuntimeError("secret-of-the-server")


@tool(read_only=True)
def who(ctx: Context) -> str:
    """Name the caller."""
    return str(ctx.user) or "anonymous"


@resource("ledger://crash", name="crash", mime_type="text/plain")
def crash_resource() -> str:
    """Raise what is not meant for the client."""
    raise RuntimeError("secret-of-the-server")


def _write_two(note: str) -> dict[str, Any]:
    first = Entry.objects.create(note=note, process=os.getpid())
    _gate.wait(WAIT_SECONDS)
    last = Entry.objects.create(note=note, process=os.getpid())
    return {"entries": [first.pk, last.pk], "process": os.getpid()}


async def _leave(note: str) -> None:
    await Entry.objects.acreate(note=note, process=os.getpid())
