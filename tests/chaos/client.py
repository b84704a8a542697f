"""What clients of both eras share: who they are, where they knock, how they rest, and how a piece of work is noted."""

import asyncio
import contextlib
import itertools
import json
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.chaos.app.topics import uri_of
from tests.chaos.connection import Cut, NoAnswer, Response, Unreached, send
from tests.chaos.conversation import Shared
from tests.chaos.history import Broke, Ended, Era, Got, History, Outcome, Refused, Sent
from tests.chaos.jobs import Job, Work
from tests.chaos.options import Options
from tests.chaos.strangers import Loot, What

PATH: Final = "/mcp"
BUSY: Final = frozenset({429, 502, 503, 504})
"""Statuses after which the request may have been seen by a server or not, and which pass."""
SILENCE_SECONDS: Final = 20.0
RETRY_SECONDS: Final = 0.5
STORE_DOWN: Final = "The store is unavailable"
MOST_CUTS: Final = 3
IDEMPOTENCY_KEY: Final = "org.django-mcp/idempotencyKey"


class Doors:
    """The ports that serve: each is as good as any other."""

    def __init__(self, *ports: int) -> None:
        self._ports = itertools.cycle(ports)

    def next(self) -> int:
        return next(self._ports)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Who a client is; `principal` is the user and the tenant."""

    number: int
    principal: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What all clients of a run have in common."""

    options: Options
    doors: Doors
    history: History
    loot: Loot
    shared: dict[str, Shared]
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    crashes: list[BaseException] = field(default_factory=list)
    """What the clients themselves did wrong: the run then says nothing of the servers."""
    _bounds: set[asyncio.Timeout] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def patience(self) -> AsyncIterator[None]:
        """Raise TimeoutError where what is done here has not ended so long after it began and the last fault is over.

        While processes die faster than leases end, a call may be taken over again and again.
        """
        async with asyncio.timeout(self.options.patience if self.stop.is_set() else None) as bound:
            self._bounds.add(bound)
            try:
                yield
            finally:
                self._bounds.discard(bound)

    def end(self) -> None:
        """Let every client come to an end: the last fault is over."""
        self.stop.set()
        for bound in self._bounds:
            bound.reschedule(asyncio.get_running_loop().time() + self.options.patience)


class Busy(Exception):
    """The answer was that it cannot be answered now."""


class Expired(Exception):
    """The rest of the answer is not kept any more: nobody knows what became of the call."""


class Strange(Exception):
    """The answer was one that a well-behaved client should never get."""


class Client(ABC):
    """One client, that does one piece of work after the other until the scene stops."""

    era: Era

    def __init__(self, seat: Seat, scene: Scene) -> None:
        self.seat = seat
        self.scene = scene
        self.options = scene.options
        self.history = scene.history
        self.rng = random.Random(f"{scene.options.seed} {seat.number}")
        shared = scene.shared[seat.principal]
        self.work = Work(self.rng, self.era, f"own-{seat.number}", shared, scene.options)
        self.repeatable: list[Job] = []
        self._ops = itertools.count(1)
        self._cuts: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def live(self) -> None:
        """Work until the scene stops, then look at every conversation a last time."""
        try:
            while not self.scene.stop.is_set():
                if self.scene.crashes:
                    raise self.scene.crashes[0]
                await self.rest()
                await self.turn()
            for conversation in (*self.work.own, self.scene.shared[self.seat.principal].newest):
                if conversation.handle is not None and not conversation.is_lost:
                    await self.perform(Job.look(conversation))
        finally:
            await self.leave()

    async def turn(self) -> None:
        """Do one piece of work: something new, or, under the same idempotency key, what was done before."""
        if self.repeatable and self.rng.random() < 0.05:
            await self.perform(self.rng.choice(self.repeatable))
            return
        job = self.work.choose()
        ended = await self.perform(job)
        if job.idempotency and ended.outcome != "unanswered":
            self.repeatable.append(replace(job, key=ended.op))

    async def perform(self, job: Job) -> Ended:
        """Do one piece of work and note how it ended."""
        op, began, label = self.name_op(), self.history.now(), job.label
        outcome: Outcome
        value, detail = None, ""
        try:
            async with self.scene.patience():
                outcome, value, detail = await self._bring_to_an_end(op, job)
        except TimeoutError:
            outcome = "hung"
        ended = Ended(
            at=self.history.now(),
            op=op,
            key=job.key or op,
            client=self.seat.number,
            tool=job.tool,
            began=began,
            outcome=outcome,
            value=value,
            detail=detail,
            conversation=label,
            idempotency=job.idempotency,
            uri=uri_of(job.arguments["topic"]) if "topic" in job.arguments else "",
        )
        self.history.add(ended)
        is_told = job.conversation is not None and job.conversation.handle is not None
        job.settle(ended)
        if job.conversation is not None and job.conversation.handle is not None and not is_told:
            self.loot("handle", job.conversation.handle)
        return ended

    async def rest(self) -> None:
        """Rest a while, less where the scene stops."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.rng.uniform(0, 2 * self.options.pause)):
                await self.scene.stop.wait()

    async def wait_a_while(self) -> None:
        """Wait before something is tried again."""
        await asyncio.sleep(self.rng.uniform(0.5, 1.5) * RETRY_SECONDS)

    @abstractmethod
    async def attempt(self, op: str, attempts: Iterator[int], job: Job) -> dict[str, Any]:
        """Bring a call to its answer, a JSON-RPC message.

        Raises Unreached where it was never sent, NoAnswer and Busy where nobody knows what became of it, Strange.
        """

    async def leave(self) -> None:
        """Let go of everything."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # For both eras.

    def name_op(self) -> str:
        return f"c{self.seat.number}-{next(self._ops)}"

    async def send(self, method: str, headers: Mapping[str, str], message: Any = None) -> Response:
        """Send a request to any process."""
        body = b"" if message is None else json.dumps(message).encode()
        return await send(self.scene.doors.next(), method, PATH, {**self.seat.headers, **headers}, body)

    def note_sent(self, op: str, attempt: int, job: Job) -> None:
        self.history.add(
            Sent(
                at=self.history.now(),
                op=op,
                key=job.key or op,
                attempt=attempt,
                client=self.seat.number,
                principal=self.seat.principal,
                era=self.era,
                tool=job.tool,
                is_repeatable=job.is_repeatable,
                idempotency=job.idempotency,
                conversation=job.label,
                amount=job.arguments.get("by", 0),
            )
        )

    def note_got(self, op: str, attempt: int, body: str, event_id: str = "") -> Got:
        stream, _, rest = event_id.partition(".")
        sequence = int(rest.partition(".")[0]) if stream else 0
        got = Got(
            at=self.history.now(),
            op=op,
            attempt=attempt,
            body=body,
            event_id=event_id,
            stream=stream,
            sequence=sequence,
        )
        self.history.add(got)
        return got

    def leaves(self, op: str) -> bool:
        """Decide whether to cut the connection on which `op` goes on; not for ever, or nothing long would ever end."""
        if self._cuts.get(op, 0) >= MOST_CUTS or self.rng.random() >= self.options.cuts:
            return False
        self._cuts = {op: self._cuts.get(op, 0) + 1}
        self.note_broken(op, by_client=True)
        return True

    def note_broken(self, op: str, *, by_client: bool) -> None:
        self.history.add(Broke(at=self.history.now(), op=op, by="client" if by_client else "server"))

    async def refuse(self, op: str, what: str, response: Response, *, is_expected: bool = False) -> Busy | Strange:
        """Note an answer that is no success, and return what to raise for it."""
        body = ""
        with contextlib.suppress(Cut):
            body = (await response.read()).decode(errors="replace")[:300]
        if body.startswith("<"):
            body = "a page"  # of what stands in front
        again = response.headers.get("retry-after", "")
        return self.note_refused(op, what, response.status, body, again, is_expected=is_expected)

    def note_refused(
        self, op: str, what: str, status: int, detail: str, retry_after: str = "", *, is_expected: bool = False
    ) -> Busy | Strange:
        """Note an answer that is no success, and return what to raise for it."""
        passes = status in BUSY
        self.history.add(
            Refused(
                at=self.history.now(),
                op=op,
                client=self.seat.number,
                what=what,
                status=status,
                detail=detail,
                retry_after=retry_after,
                is_expected=passes or is_expected,
            )
        )
        return Busy(detail) if passes else Strange(f"{status} {detail}")

    async def bounded(self, work: Coroutine[Any, Any, None], what: str) -> None:
        """Do what is no call, within the same bound."""
        began = self.history.now()
        try:
            async with self.scene.patience():
                await work
        except TimeoutError:
            op = self.name_op()
            self.history.add(
                Ended(
                    at=self.history.now(),
                    op=op,
                    key=op,
                    client=self.seat.number,
                    tool=what,
                    began=began,
                    outcome="hung",
                )
            )
        except Strange:
            return  # and it is noted

    def loot(self, what: What, value: str) -> None:
        """Let strangers have one of the client's names."""
        self.scene.loot.drop(what, self.seat.principal, value)

    async def body_of(self, response: Response) -> str:
        """Return a whole body; raise NoAnswer where it does not come whole."""
        try:
            return (await response.read()).decode()
        except Cut as error:
            raise NoAnswer(str(error)) from error

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end_task)
        return task

    def _end_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Strange):
            self.scene.crashes.append(error)

    async def _bring_to_an_end(self, op: str, job: Job) -> tuple[Outcome, dict[str, Any] | None, str]:
        attempts = itertools.count(1)
        while True:
            try:
                ended = outcome_of(await self.attempt(op, attempts, job))
                if ended[0] != "unavailable" or not job.may_be_sent_again:
                    return ended
            except Unreached:
                pass
            except (NoAnswer, Busy, Expired) as error:
                if not job.may_be_sent_again:
                    return "unanswered", None, str(error)
            except Gone:
                return "cancelled", None, ""
            except Strange as error:
                return "refused", None, str(error)
            await self.wait_a_while()


class Gone(Exception):
    """The stream of a call that was cancelled has ended without an answer."""


def outcome_of(message: Mapping[str, Any]) -> tuple[Outcome, dict[str, Any] | None, str]:
    """Return how a call ended, by its answer."""
    if "error" in message:
        error = message["error"]
        data = error.get("data")
        reason = data.get("reason", "") if isinstance(data, Mapping) else ""
        detail = f"{error['code']} {reason} {error['message']}"
        if reason == "worker_lost":
            return "worker_lost", None, detail
        # Where the stream had begun, it was too late for a 503.
        return ("unavailable" if error["message"] == STORE_DOWN else "refused"), None, detail
    result = message["result"]
    if result.get("isError"):
        return "failed", None, " ".join(block.get("text", "") for block in result.get("content", ()))
    return "answered", result.get("structuredContent"), ""
