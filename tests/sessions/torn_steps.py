"""Steps on Redis that are torn: a read and then a write, as separate commands, stand in the place of the script."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import pytest

from django_mcp.sessions.stores.redis_link import Argument, RedisLink, Sending, Step
from tests.databases import together

T = TypeVar("T")

BOUND_SECONDS: Final = 20


class Turn:
    """Of two, the first stops once, when it has looked, until the second is done; then it writes.

    With `is_open` nobody stops, and the two race.
    """

    def __init__(self, *, is_open: bool = False) -> None:
        self._looked, self._done = threading.Event(), threading.Event()
        self._places = iter(range(1))
        if is_open:
            self._looked.set()
            self._done.set()

    def wait(self) -> None:
        """Stop here; whoever sets the stage, and whoever comes later, goes on."""
        is_in_the_race = threading.current_thread() is not threading.main_thread()
        if is_in_the_race and next(self._places, None) is not None:
            self._looked.set()
            assert self._done.wait(BOUND_SECONDS)

    def take(self, first: Callable[[], T], second: Callable[[], T]) -> list[T | BaseException]:
        """Run both, each on a thread of its own, and return what came of them."""

        def work(number: int) -> T:
            if number == 0:
                try:
                    return first()
                finally:
                    self._looked.set()
            assert self._looked.wait(BOUND_SECONDS)
            try:
                return second()
            finally:
                self._done.set()

        return together(2, work)


def stale(link: RedisLink, tag: str, keys: Sequence[str], wait: Callable[[], object]) -> None:
    """Read the keys of a step, wait, and write them back as they were."""
    client: Any = link.client
    names = [link.key(tag, key) for key in keys]
    read = [(client.dump(name), max(client.pttl(name), 0)) for name in names]
    wait()
    for name, (value, life) in zip(names, read, strict=True):
        if value is None:
            client.delete(name)
        else:
            client.restore(name, life, value, replace=True)


def break_step(monkeypatch: pytest.MonkeyPatch, broken: str, wait: Callable[[], object]) -> None:
    """Run one step on what was read of its keys before `wait()` was over."""
    run, run_many, written = RedisLink.run, RedisLink.run_many, threading.Lock()

    def run_stale(
        self: RedisLink, step: Step, tag: str, keys: Sequence[str] = (), args: Sequence[Argument] = ()
    ) -> Any:
        if step.name != broken:
            return run(self, step, tag, keys, args)

        def meet() -> None:
            wait()
            written.acquire()

        stale(self, tag, keys, meet)
        try:
            return run(self, step, tag, keys, args)
        finally:
            written.release()

    def run_many_stale(
        self: RedisLink, sendings: Sequence[Sending], *, before: Sequence[Sequence[Argument]] = ()
    ) -> list[Any]:
        if all(one.step.name != broken for one in sendings):
            return run_many(self, sendings, before=before)
        self.send(before)
        return [run_stale(self, one.step, one.tag, one.keys, one.args) for one in sendings]

    monkeypatch.setattr(RedisLink, "run", run_stale)
    monkeypatch.setattr(RedisLink, "run_many", run_many_stale)
