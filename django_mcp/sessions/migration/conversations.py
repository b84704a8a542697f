"""All conversations of one store move to another: family by family, in as many passes as it takes."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Final, TypeVar

from django.db import connections
from django.utils import timezone

from django_mcp.core.entry import CorruptManifest
from django_mcp.core.manifest import references
from django_mcp.exceptions import StoreUnavailable
from django_mcp.models import Conversation
from django_mcp.models.conversation import ConversationQuerySet, ConversationState
from django_mcp.models.transactions import outages
from django_mcp.sessions.migration.mover import Damaged, Luggage, Mover
from django_mcp.sessions.migration.part import Outcome, Part, Progress, Report
from django_mcp.sessions.stores.database_generations import record_of
from django_mcp.sessions.stores.state import References, StateStore

logger = logging.getLogger("django_mcp.stores")

T = TypeVar("T")

ROWS: Final = 200
WORKERS: Final = 2
VAIN_PASSES: Final = 3
"""After so many in which nothing moved what is left stays."""
EXAMPLES: Final = 5
PAUSES: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between the tries where a store is away."""
BUSY: Final = "changed all the time"
DAMAGED: Final = "cannot be read"
NEWER: Final = "began meanwhile"


class ConversationPart(Part):
    """Args:
    batch: rows of the index that are read at once.
    workers: families that move at once.
    """

    name = "conversations"

    def __init__(
        self,
        source: StateStore,
        target: StateStore,
        *,
        needs: References = references,
        batch: int = ROWS,
        workers: int = WORKERS,
    ) -> None:
        self._mover = Mover(source, target, needs)
        self._source, self._target = source, target
        self._batch = batch
        self._workers = workers
        self._lock = threading.Lock()
        self._outcome = Outcome()
        self._left: Counter[str] = Counter()
        self._examples: list[str] = []
        self._total = 0
        self._report: Report = lambda progress: None

    def count(self) -> int:
        with outages(self._source.write_alias):
            return self._mover.rows().count()

    def run(self, report: Report) -> Outcome:
        self._report = report
        self._outcome = Outcome(there=self._kept_there().active().count())
        began, vain = timezone.now(), 0
        self._total = self.count()
        while vain < VAIN_PASSES:
            before = self._outcome.moved
            self._left, self._examples = Counter(), []
            self._pass()
            if not self._steadily(lambda: self._older_than(began)):
                break
            vain = 0 if self._outcome.moved > before else vain + 1
        self._outcome.left, self._outcome.examples = self._left, self._examples
        newer = self._steadily(self.count) - sum(self._left.values())
        if newer > 0:
            self._outcome.left[NEWER] += newer
        self._clear()
        return self._outcome

    def _older_than(self, began: datetime) -> bool:
        with outages(self._source.write_alias):
            return self._mover.rows().filter(created_at__lte=began).exists()

    # Move

    def _pass(self) -> None:
        """Move every family that is there now, each as a whole."""
        families = self._families()
        if self._workers == 1:
            for family in families:
                self._move_family(family)
            return

        def work() -> None:
            try:
                while True:
                    with self._lock:
                        family = next(families, None)
                    if family is None:
                        return
                    self._move_family(family)
            finally:
                connections.close_all()

        with ThreadPoolExecutor(self._workers) as pool:
            for done in [pool.submit(work) for _ in range(self._workers)]:
                done.result()

    def _families(self) -> Iterator[str]:
        """Yield each family when its first row is met, and perhaps again."""
        for rows in self._portions(self._mover.rows):
            yield from dict.fromkeys(row.family_id for row in rows)

    def _portions(self, those: Callable[[], ConversationQuerySet]) -> Iterator[list[Conversation]]:
        last = ""
        while rows := self._steadily(lambda: self._read(those().filter(pk__gt=last))):  # noqa: B023 - called at once
            yield rows
            last = rows[-1].pk

    def _read(self, rows: ConversationQuerySet) -> list[Conversation]:
        with outages(self._source.write_alias):
            return list(rows.order_by("pk")[: self._batch])

    def _move_family(self, family: str) -> None:
        luggage = Luggage()
        for conversation in self._steadily(lambda: self._mover.members(family)):
            try:
                result = self._steadily(lambda: self._mover.move(conversation, luggage))  # noqa: B023 - called at once
            except (Damaged, CorruptManifest) as error:
                logger.error("conversation %s… is left where it is: %s", conversation[:8], error)
                self._leave(DAMAGED, conversation)
                continue
            if result == "busy":
                self._leave(BUSY, conversation)
            elif result == "moved":
                with self._lock:
                    self._outcome.moved += 1
                    done = self._outcome.moved
                    self._total = max(self._total, done)
                    self._report(Progress(done=done, total=self._total, what="moved"))
        with self._lock:
            self._outcome.bytes += luggage.bytes

    def _leave(self, why: str, conversation: str) -> None:
        with self._lock:
            self._left[why] += 1
            if len(self._examples) < EXAMPLES:
                self._examples.append(f"{conversation[:8]} {why}")

    # Clear

    def _kept_there(self) -> ConversationQuerySet:
        return Conversation.objects.using(self._target.write_alias).kept_by(self._target.keeper)

    def _clear(self) -> None:
        """Delete what has moved where it was, this time or in a run that was cut off."""
        with outages(self._target.write_alias):
            total = self._kept_there().count()
        done = 0
        for rows in self._portions(self._kept_there):
            for row in self._steadily(lambda: self._source.remaining(rows)):  # noqa: B023 - called at once
                self._steadily(lambda: self._clear_one(row))  # noqa: B023 - called at once
            done += len(rows)
            self._report(Progress(done=done, total=max(done, total), what="cleared"))

    def _clear_one(self, row: Conversation) -> None:
        if not self._target.open(row) and row.state == ConversationState.ACTIVE:
            logger.error("conversation %s… is not in %r, and stays in both", row.fingerprint, self._target.alias)
            return
        self._take_notes_along(row)
        self._source.leave(row)

    def _take_notes_along(self, row: Conversation) -> None:
        """Take what was noted after the copy was made."""
        late = list(self._source.late_notes(row))
        if not late or row.state != ConversationState.ACTIVE:
            return
        record = record_of(row)
        known = self._target.image(record).notes
        first = min((note.created for note in known), default=None)
        for note in late:
            if note not in known and (first is None or note.created > first):
                self._target.note(record, note.call, created=note.created)

    def _steadily(self, do: Callable[[], T]) -> T:
        """Return what it returns, once the stores are there. Raises StoreUnavailable where they stay away."""
        for pause in PAUSES:
            try:
                return do()
            except StoreUnavailable as error:
                logger.warning("a store is away: %s", error)
                time.sleep(pause)
        return do()
