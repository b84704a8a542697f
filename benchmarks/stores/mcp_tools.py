"""What is called: a tool that keeps a value of a size, one that keeps nothing, and one that says much."""

import secrets
from typing import TypedDict

from django_mcp import Context, State, tool

WORDS = 20


class Kept(TypedDict):
    former: int


@tool
def keep(size: int, state: State) -> Kept:
    """Keep a new value of `size` bytes in place of the former one, and return the size of that."""
    former = state.get("value", b"")
    state["value"] = secrets.token_bytes(size)
    return {"former": len(former)}


@tool(read_only=True)
def answer() -> str:
    """Keep nothing and say one word."""
    return "answer"


@tool(read_only=True)
async def talk(ctx: Context) -> str:
    """Say WORDS messages before the answer."""
    for number in range(WORDS):
        await ctx.ainfo(f"message {number}")
    return "answer"
