"""The two functions that both servers serve: as cheap as a tool can be, so that the servers are what is measured."""


async def add(a: int, b: int) -> int:
    """Add two numbers on the event loop."""
    return a + b


def add_in_thread(a: int, b: int) -> int:
    """Add two numbers where the server runs synchronous code."""
    return a + b
