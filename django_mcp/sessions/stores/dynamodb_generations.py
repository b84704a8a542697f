"""The generations of conversations on DynamoDB: a head moves by one transaction, on the condition that it is the head.

Its record, its line of the history and all its blobs are there together or not at all. A step whose answer was lost
finds what it made by a random name, and is not done twice.
"""

import json
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from django.utils import timezone

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import StoreUnavailable
from django_mcp.sessions.stores.dynamodb_blobs import DynamoDBBlobs
from django_mcp.sessions.stores.dynamodb_items import (
    INLINE_BYTES,
    LINE,
    SECOND,
    closed,
    expiry,
    generation_of,
    head_of,
    is_alive,
    is_untouched,
    lasting,
    line_name,
    line_number,
    line_of,
    number_of,
    part_keys,
    parts_of,
    record_of,
)
from django_mcp.sessions.stores.dynamodb_table import DynamoDBTable, Item, Key, Value, Write
from django_mcp.sessions.stores.remote_state import (
    Change,
    Forked,
    Identity,
    Place,
    Refusal,
    Refused,
    RemoteGeneration,
    RemoteHead,
    RemoteState,
    Revocation,
    Terms,
)
from django_mcp.sessions.stores.state import is_kept

ROUNDS: Final = 20
READ_ROUNDS: Final = 10
TRIM_EVERY: Final = 10
"""History is cut in one commit of so many: the lines beyond it are not kept to any reader."""
TRIM_AT_ONCE: Final = 100
_PAUSE_SECONDS: Final = 0.05

OPEN: Final = "attribute_exists(#item) AND attribute_not_exists(#ended) AND attribute_not_exists(#arriving)"
STAYS: Final = "attribute_not_exists(#leaving)"
IN_TIME: Final = "(attribute_not_exists(#expires) OR #expires > :seconds)"
IS_HEAD: Final = "#generation = :base"
TOUCHED: Final = "#touched >= :stale AND (#generation > :zero OR #foreseen = :yes)"


class DynamoDBGenerations(RemoteState):
    """What a state store on DynamoDB does to one conversation."""

    def __init__(self, table: DynamoDBTable) -> None:
        self.table = table
        self._blobs = DynamoDBBlobs(table)

    # Read

    def load(self, place: Place, generation: int | None = None) -> RemoteHead | None:
        head, is_torn = self._look(place, generation)
        for _ in range(READ_ROUNDS):
            if not is_torn:
                break
            head, is_torn = self._look(place, generation)
        return head

    def _look(self, place: Place, generation: int | None) -> tuple[RemoteHead | None, bool]:
        """Return what `load()` does, and whether a commit in between made of it what never was."""
        now = present()
        record, line = self._read(place) if generation is None else self._read_past(place, generation)
        if record is None or not is_alive(record, now):
            return None, False
        chosen: int = record["generation"] if generation is None else generation
        manifest = None if line is None else self._manifest(place, line)
        is_whole = chosen == 0 or manifest is not None or (line is None and generation is not None)
        return head_of(place, record, line, manifest, chosen, now), not is_whole

    def _read(self, place: Place) -> tuple[Item | None, Item | None]:
        """Return the record and the line of the head: it is the last one, unless a commit came in between."""
        family = self.partition("f", place.family)
        items = self.table.query(family, f"c:{place.id}:", limit=2, newest_first=True)
        if not items or items[0]["item"] != f"c:{place.id}:r":
            return None, None
        line = items[1] if len(items) > 1 and line_number(items[1]) == items[0]["generation"] else None
        return items[0], line

    def _read_past(self, place: Place, generation: int) -> tuple[Item | None, Item | None]:
        line = (self.partition("f", place.family), line_name(place.id, generation))
        found = self.table.get_all([self.record(place), line])
        return found.get(self.record(place)), found.get(line)

    def _manifest(self, place: Place, line: Item) -> bytes | None:
        """Return the manifest of a line, None where a part of it is gone, as the line is by now."""
        if "parts" not in line:
            manifest: bytes = line["manifest"]
            return manifest
        keys = self._parts(place, line)
        found = self.table.get_all(keys)
        return b"".join(found[key]["body"] for key in keys) if len(found) == len(keys) else None

    def history(self, place: Place, history: int) -> list[RemoteGeneration]:
        if history <= 0:
            return []
        family = self.partition("f", place.family)
        lines = self.table.query(family, f"c:{place.id}:g", *LINE, limit=history, newest_first=True)
        return [generation_of(line) for line in lines if line_number(line) > line_number(lines[0]) - history]

    def blobs(self, family: str, digests: Sequence[str]) -> dict[str, bytes]:
        return self._blobs.read(self.partition("f", family), digests)

    # Make

    def commit(self, place: Place, base_generation: int, change: Change, terms: Terms) -> Refused | None:
        made, number = secrets.token_hex(8), base_generation + 1
        family = self.partition("f", place.family)
        size = len(change.manifest) + sum(map(len, change.blobs.values()))
        if change.blobs or len(change.manifest) > INLINE_BYTES:
            # Nothing is written for what would be refused anyhow.
            refused = self._refused(self.load(place), base_generation, terms)
            if refused is not None:
                return refused
        body = self._carry(place, number, made, change.manifest, terms)
        for attempt in range(ROUNDS):
            now = present()
            line = line_of(change.snapshot, made=made, size=size, now=now, call=change.call)
            blobs = self._blobs.keep(family, change.blobs, now, terms.blob_seconds)
            if self.table.transact([*self._push(place, base_generation, {**line, **body}, now, terms), *blobs]):
                self._trim(place, number, terms)
                return None
            head = self.load(place)
            if head is not None and head.generation >= number and self._has_made(place, number, made):
                return None
            self._blobs.discard(family, blobs)
            refused = self._refused(head, base_generation, terms)
            if refused is not None:
                self.table.delete_all(self._parts(place, {**line, **body, "item": line_name(place.id, number)}))
                return refused
            _pause(attempt)
        raise StoreUnavailable("The conversation changes too fast")

    def _refused(self, head: RemoteHead | None, base: int, terms: Terms) -> Refused | None:
        """Return why `base` is not followed by anything now."""
        why = closed(head)
        if head is not None and why is None:
            if head.generation != base:
                why = "moved"
            elif is_untouched(head, terms):
                why = "untouched"
        return None if why is None else Refused(why=why, head=head)

    def copy(
        self, place: Place, generation: int | None, terms: Terms, *, revocation: Revocation | None = None
    ) -> RemoteHead | Refused:
        made = secrets.token_hex(8)
        for attempt in range(ROUNDS):
            now = present()
            head = self.load(place, generation)
            why = closed(head) or _unkept(head, terms)
            if head is None or why is not None:
                return self._no(place, why or "missing")
            revoked = _revoked(head, revocation)
            if revoked is None:
                return self._no(place, "too many")
            if is_untouched(head, terms):
                return self._no(place, "untouched")
            number, size = head.generation + 1, len(head.manifest)
            line = line_of(head.snapshot or "", made=made, size=size, now=now, copied_from=head.chosen)
            line |= self._carry(place, number, made, head.manifest, terms)
            changes: dict[str, Value] = {
                "revoked_up_to": revoked.revoked_up_to,
                "revoked_tokens": json.dumps(sorted(revoked.revoked_tokens)),
            }
            is_done = self.table.transact(self._push(place, head.generation, line, now, terms, changes))
            if is_done or self._has_made(place, number, made):
                self._trim(place, number, terms)
                return replace(revoked, generation=number, chosen=number)
            self.table.delete_all(self._parts(place, {**line, "item": line_name(place.id, number)}))
            _pause(attempt)
        raise StoreUnavailable("The conversation changes too fast")

    def fork(
        self, source: Place, generation: int | None, made: Identity, terms: Terms, *, is_foreseen: bool
    ) -> Forked | Refused:
        new, name = made.place, secrets.token_hex(8)
        family = self.partition("f", new.family)
        self._blobs.prolong(family, present(), terms.blob_seconds)
        for attempt in range(ROUNDS):
            now = present()
            head = self.load(source, generation)
            why = closed(head) or _unkept(head, terms)
            if head is None or why is not None:
                return self._no(source, why or "missing")
            if head.snapshot and not is_foreseen:
                return self._no(source, "untouched")
            record = record_of(made, generation=1 if head.snapshot else 0, is_foreseen=is_foreseen)
            is_same = Write(
                key=self.record(source),
                condition=f"{OPEN} AND {STAYS} AND {IS_HEAD}",
                values={":base": head.generation},
            )
            is_new = "attribute_not_exists(#item)"
            writes = [
                is_same,
                Write(key=self.record(new), item={**record, **lives(now, terms)}, condition=is_new),
            ]
            if head.snapshot:
                line = line_of(head.snapshot, made=name, size=len(head.manifest), now=now, copied_from=head.chosen)
                line |= self._carry(new, 1, name, head.manifest, terms)
                writes.append(Write(key=(family, line_name(new.id, 1)), item=line, condition=is_new))
            if self.table.transact(writes) or self.table.get(self.record(new)) is not None:
                return Forked(snapshot=head.snapshot or "", manifest=head.manifest)
            _pause(attempt)
        raise StoreUnavailable("The conversation changes too fast")

    def _no(self, place: Place, why: Refusal) -> Refused:
        return Refused(why=why, head=self.load(place))

    def _push(
        self,
        place: Place,
        base: int,
        line: Item,
        now: int,
        terms: Terms,
        changes: Mapping[str, Value] | None = None,
    ) -> list[Write]:
        """Return the writes that make `line` the head after `base`, if that is the head and may move."""
        number = base + 1
        stale = now - round(terms.touch_seconds * SECOND)
        changed = {"generation": number, **(changes or {}), **lasting(expiry(now, terms.record_seconds))}
        return [
            Write(
                key=self.record(place),
                update="SET " + ", ".join(f"#{name} = :new_{name}" for name in changed),
                condition=f"{OPEN} AND {STAYS} AND {IN_TIME} AND {IS_HEAD} AND {TOUCHED}",
                values={
                    **{f":new_{name}": value for name, value in changed.items()},
                    ":seconds": now // SECOND,
                    ":base": base,
                    ":stale": stale,
                    ":zero": 0,
                    ":yes": True,
                },
            ),
            Write(
                key=(self.partition("f", place.family), line_name(place.id, number)),
                item=line,
                condition="attribute_not_exists(#item)",
            ),
        ]

    def _carry(self, place: Place, number: int, made: str, manifest: bytes, terms: Terms) -> Item:
        """Return what a line has of its manifest, a large one's parts written beforehand."""
        lasts = lasting(expiry(present(), _twice(terms.record_seconds)))
        if len(manifest) <= INLINE_BYTES:
            return {"manifest": manifest, **lasts}
        parts = parts_of(self.partition("f", place.family), f"m:{place.id}:{number:020d}:{made}", manifest)
        self.table.put_all({key: {**part, **lasts} for key, part in parts.items()})
        return {"parts": len(parts), **lasts}

    def _parts(self, place: Place, line: Item) -> list[Key]:
        stem = f"m:{place.id}:{line_number(line):020d}:{line['made']}"
        return part_keys(self.partition("f", place.family), stem, line.get("parts", 0))

    def _has_made(self, place: Place, number: int, made: str) -> bool:
        line = self.table.get((self.partition("f", place.family), line_name(place.id, number)))
        return line is not None and line["made"] == made

    def _trim(self, place: Place, number: int, terms: Terms) -> None:
        """Cut the history now and then."""
        last = number - terms.history
        if number % TRIM_EVERY or last <= 0:
            return
        family = self.partition("f", place.family)
        lines = self.table.query(family, f"c:{place.id}:g", "made", "parts", limit=TRIM_AT_ONCE)
        over = [line for line in lines if line_number(line) <= last]
        self.table.delete_all((family, line["item"]) for line in over)
        self.table.delete_all(key for line in over for key in self._parts(place, line))
        if over:
            garbage = Write(
                key=self.record(place), update="SET #garbage = :yes", condition=OPEN, values={":yes": True}
            )
            self.table.apply(garbage)

    # Names

    def partition(self, kind: str, name: str) -> str:
        return f"{mcp_settings.KEY_PREFIX}:{self.table.alias}:{kind}:{name}"

    def record(self, place: Place) -> Key:
        return self.partition("f", place.family), f"c:{place.id}:r"


def present() -> int:
    return number_of(timezone.now())


def lives(now: int, terms: Terms) -> dict[str, Value]:
    """Return how long a record lives, and until when at the least all its lines and notes do."""
    if terms.record_seconds is None:
        return {}
    kept_until = expiry(now, _twice(terms.record_seconds)) or 0
    return {**lasting(expiry(now, terms.record_seconds)), "kept_until": kept_until}


def _twice(seconds: float | None) -> float | None:
    return None if seconds is None else 2 * seconds


def _unkept(head: RemoteHead | None, terms: Terms) -> Refusal | None:
    if head is None:
        return None
    is_there = head.snapshot is not None and is_kept(head.chosen, head=head.generation, history=terms.history)
    return None if is_there else "not kept"


def _revoked(head: RemoteHead, revocation: Revocation | None) -> RemoteHead | None:
    """Return the head with these tokens revoked; None where they are too many."""
    if revocation is None:
        return head
    token = revocation.fingerprint
    if token is None:
        asked = revocation.up_to_generation
        least = head.generation if asked is None else min(asked, head.generation)
        return replace(head, revoked_up_to=max(head.revoked_up_to, least))
    if token not in head.revoked_tokens and len(head.revoked_tokens) >= revocation.limit:
        return None
    return replace(head, revoked_tokens=head.revoked_tokens | {token})


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0, _PAUSE_SECONDS) * min(attempt + 1, 10))  # noqa: S311 - only jitter
