"""Pieces of work: which tool is called with what, and what a client may do when it hears nothing."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.app.topics import TOPICS
from tests.chaos.conversation import Conversation, Shared
from tests.chaos.history import Ended, Era
from tests.chaos.options import Options

MOST_OWN: Final = 3
REFUSED: Final = "The handle is not valid"
"""How the refusal of a handle begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One call.

    Args:
        key: names the call to its tool, in a repeat of an earlier call; the piece of work does otherwise.
        arguments: those besides the key and the handle.
        cancels: whether the client cancels it once it has heard of it.
    """

    tool: str
    key: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    is_repeatable: bool = False
    idempotency: str = ""
    conversation: Conversation | None = None
    cancels: bool = False

    @classmethod
    def look(cls, conversation: Conversation) -> "Job":
        return cls(tool="look", is_repeatable=True, conversation=conversation)

    @property
    def label(self) -> str:
        """The label of its conversation: of a repeat, the one that it had in the first place."""
        return str(self.arguments.get("label", self.conversation.label if self.conversation is not None else ""))

    @property
    def may_be_sent_again(self) -> bool:
        """Whether a client that knows nothing of its call may send it once more."""
        return self.is_repeatable or bool(self.idempotency)

    def params(self, op: str) -> dict[str, Any]:
        """Return the name and the arguments of the call."""
        arguments = {"key": self.key or op, **self.arguments}
        if self.conversation is not None and self.conversation.handle is not None:
            arguments["handle"] = self.conversation.handle
        return {"name": self.tool, "arguments": arguments}

    def settle(self, ended: Ended) -> None:
        """Take from the outcome what later work needs."""
        if self.conversation is None:
            return
        if self.conversation.handle is not None:
            if ended.outcome == "failed" and ended.detail.startswith(REFUSED):
                self.conversation.is_lost = True
            return
        if ended.value is not None and "handle" in ended.value:
            self.conversation.adopt(ended.value["handle"], ended.value["label"])
        else:
            self.conversation.forget()


class Work:
    """The work of one client, which it chooses at random."""

    def __init__(self, rng: random.Random, era: Era, name: str, shared: Shared, options: Options) -> None:
        self.own: list[Conversation] = []
        self._rng = rng
        self._name = name
        self._shared = shared
        self._options = options
        self._makers = [(make, weight) for make, weight, eras in _MAKERS if era in eras]

    def choose(self) -> Job:
        """Return the next piece of work."""
        makers, weights = zip(*self._makers, strict=True)
        maker: Callable[[Work], Job] = self._rng.choices(makers, weights)[0]
        return maker(self)

    def _count(self) -> Job:
        return Job(tool="count", arguments=self._steps(), idempotency=self._key())

    def _count_again(self) -> Job:
        return Job(tool="count_again", arguments=self._steps(), is_repeatable=True, idempotency=self._key())

    def _write(self) -> Job:
        return Job(tool="write", arguments={"pause": self._rng.uniform(0, 0.3)}, idempotency=self._key())

    def _ask(self) -> Job:
        return Job(tool="ask", idempotency=self._key())

    def _ask_again(self) -> Job:
        return Job(tool="ask_again", is_repeatable=True)

    def _agree(self) -> Job:
        return Job(tool="agree", idempotency=self._key())

    def _wait(self) -> Job:
        return Job(tool="wait", cancels=True)

    def _touch(self) -> Job:
        return Job(tool="touch", arguments={"topic": self._rng.choice(TOPICS)}, idempotency=self._key())

    def _look(self) -> Job:
        conversation = self._conversation()
        return self._add() if conversation.handle is None else Job.look(conversation)

    def _add(self) -> Job:
        conversation = self._conversation()
        # Only the database writes rows and a state together.
        tool = self._rng.choices(("add", "add_async", "add_row"), (5, 3, 0 if self._options.is_on_redis else 2))[0]
        arguments = {"label": conversation.label, "by": self._rng.randint(1, 9)}
        return Job(tool=tool, arguments=arguments, idempotency=self._key(), conversation=conversation)

    def _steps(self) -> dict[str, Any]:
        rng = self._rng
        pad = rng.choice((0, 0, 10, 3_000))
        return {"steps": rng.randint(1, 30), "pause": rng.uniform(0.01, 0.3), "pad": pad}

    def _key(self) -> str:
        """Return an idempotency key, or none."""
        if not self._options.keys or self._rng.random() < 0.3:
            return ""
        return f"key-{self._rng.getrandbits(64):x}"

    def _conversation(self) -> Conversation:
        """Return one to go on with or to begin: one of the client's own, or the one that its principal shares."""
        shared = self._shared.newest
        if shared.handle is None and not shared.is_claimed:
            shared.is_claimed = True
            return shared
        self.own = [one.successor() if one.is_lost else one for one in self.own]
        begun = [one for one in self.own if one.handle is not None]
        unbegun = [one for one in self.own if one.handle is None]
        if unbegun:
            return unbegun[0]
        if not begun or (len(begun) < MOST_OWN and self._rng.random() < 0.2):
            self.own.append(Conversation(name=f"{self._name}-{len(self.own)}"))
            return self.own[-1]
        return self._rng.choice([*begun, shared] if shared.handle is not None else begun)


_BOTH: Final[tuple[Era, ...]] = ("handshake", "modern")
_ASKS: Final[tuple[Era, ...]] = ("handshake",)
_MAKERS: Final[tuple[tuple[Callable[[Work], Job], int, tuple[Era, ...]], ...]] = (
    (Work._count, 10, _BOTH),
    (Work._count_again, 10, _BOTH),
    (Work._write, 10, _BOTH),
    (Work._ask, 6, _ASKS),
    (Work._ask_again, 6, _ASKS),
    (Work._agree, 10, _BOTH),
    (Work._wait, 4, _BOTH),
    (Work._touch, 4, _BOTH),
    (Work._look, 8, _BOTH),
    (Work._add, 30, _BOTH),
)
