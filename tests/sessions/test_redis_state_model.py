"""Whatever is done in whatever order, the store on Redis says what the model says that the database's is held to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import settings

from django_mcp.sessions.stores.redis_link import RedisLink, Step
from django_mcp.sessions.stores.redis_state import RedisState
from django_mcp.sessions.stores.state import StateStore
from tests import services
from tests.redis_stores import cache_on, make_state
from tests.sessions.indexed_machine import IndexedMachine, ModelTests, UncheckedCommit
from tests.sessions.state_machine import SETTINGS, StateMachine
from tests.sessions.state_model import Modelled

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]

CLOCK = "the clock"
NOW = f"{{redis.call('GET', '{CLOCK}'), 0}}"


class RedisMachine(IndexedMachine):
    """Here a commit cuts the history each time."""

    writes = ((RedisLink, "run"),)
    cache: ClassVar[str]
    trim_every: ClassVar[int] = 1

    def _made(self) -> StateStore:
        self.on_redis = make_state(self.cache)
        self.client = self.on_redis.link.client
        self._pass(timedelta())
        return self.on_redis

    def _pass(self, time: timedelta) -> None:
        super()._pass(time)
        self.client.set(CLOCK, int(self.clock.seconds()))

    def teardown(self) -> None:
        super().teardown()
        self.client.flushdb()

    def _key(self, family: str, *parts: str) -> str:
        return self.on_redis.link.key(f"f:{family}", *parts)

    def _blobs_of(self, family: str) -> set[str]:
        names: Any = self.client.zrange(self._key(family, "blobs"), 0, -1)
        return {name.decode() for name in names}

    def _lines_of(self, of: Modelled, what: str) -> dict[bytes, bytes]:
        found: Any = self.client.hgetall(self._key(of.record.family, f"{what}:{of.record.id}"))
        return dict(found)

    def _manifests_of(self, of: Modelled) -> list[bytes]:
        return list(self._lines_of(of, "m").values())

    def _is_more_than_needed(self) -> bool:
        return any(self._lines_of(of, what) for of in self.known if of.is_over for what in "clm")

    def _stored(self) -> dict[str, tuple[Any, ...]]:
        stored: dict[str, tuple[Any, ...]] = {}
        for of in self._live:
            lines = self._lines_of(of, "l")
            numbers = sorted(map(int, lines))
            assert numbers == sorted(map(int, self._lines_of(of, "m")))
            stored[of.record.id] = (of.head, numbers, lines, self._blobs_of(of.record.family))
        return stored


class UncheckedRedis(UncheckedCommit, RedisState):
    """The remote part on Redis, with commits that are not checked."""


class TestOnRedis(ModelTests):
    runs = SETTINGS
    few_runs = settings(SETTINGS, max_examples=20)
    broken = ("django_mcp.sessions.stores.cache_state.RedisState", UncheckedRedis)

    @pytest.fixture
    def machine(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[StateMachine]]:
        """Yield a machine whose Redis has the time of its clock."""
        source: Callable[[Step], str] = Step.source
        monkeypatch.setattr(Step, "source", lambda step: source(step).replace("redis.call('TIME')", NOW))
        with services.redis() as service, cache_on(service) as cache:
            RedisMachine.seen = Counter()
            RedisMachine.cache = cache
            yield RedisMachine
