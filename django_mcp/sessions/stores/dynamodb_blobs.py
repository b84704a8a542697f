"""The blobs of families on DynamoDB: an item each, the large ones with parts beside it.

A commit writes what its blobs need before it, and then, in its own transaction, says that all of them are there: each
is made or touched `at` one time, which is above the *floor* of the family, and the floor is still below that time.
Whoever collects raises the floor to the age that it takes blobs of before it lists what needs them. So a commit that
it does not see has its blobs younger than what goes, and one that dawdled touches them again, whatever the clocks of
the two say.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from django_mcp.exceptions import StoreUnavailable
from django_mcp.sessions.stores.collection import chunks
from django_mcp.sessions.stores.dynamodb_items import (
    INLINE_BYTES,
    expiry,
    is_alive,
    lasting,
    number_of,
    part_keys,
    parts_of,
    time_of,
)
from django_mcp.sessions.stores.dynamodb_table import DynamoDBTable, Item, Key, Value, Write
from django_mcp.sessions.stores.remote_state import KeptBlob

ROUNDS: Final = 10
WRITES: Final = 90
"""Blobs of one transaction: room is left for the head, its line and the family."""
SLACK_SECONDS: Final = 60
"""Lives that differ by so little are the same."""
READ_AT_ONCE: Final = 50


class DynamoDBBlobs:
    """Families are named by the key of their partition here."""

    def __init__(self, table: DynamoDBTable) -> None:
        self.table = table

    def keep(self, family: str, blobs: Mapping[str, bytes], now: int, seconds: float | None) -> list[Write]:
        """Make or touch these blobs, and return the writes that a commit has to do along with its own.

        `seconds` is how long they live from `now` at the least, None for ever.
        """
        if not blobs:
            return []
        made: dict[tuple[str, int | None], Item] = {}
        for _ in range(ROUNDS):
            names = ("touched", "expires", "floor", "until")
            found = self.table.get_all([(family, "s"), *((family, f"b:{digest}") for digest in blobs)], *names)
            span = found.get((family, "s"), {})
            until = expiry(now, seconds)
            if until is not None and "until" in span:
                if span["until"] + SLACK_SECONDS < until:
                    self.prolong(family, now, seconds)
                    continue
                until = span["until"]
            at = max(now, span.get("floor", 0) + 1)
            writes = []
            for digest, body in blobs.items():
                there = found.get((family, f"b:{digest}"))
                if there is not None and is_alive(there, now) and _lasts(there, until):
                    writes.append(_touch((family, f"b:{digest}"), there["touched"], at))
                    continue
                if (digest, until) not in made:
                    made[digest, until] = self._upload(family, digest, body, until)
                writes.append(_make((family, f"b:{digest}"), {**made[digest, until], "touched": at}, there))
            *before, last = chunks(writes, WRITES)
            if all(self.table.transact(chunk) for chunk in before):
                return [*last, _above(family, span, at, until)]
        raise StoreUnavailable("Others change the same blobs again and again")

    def discard(self, family: str, writes: Iterable[Write]) -> None:
        """Delete the parts of what was to be made by writes that were not done."""
        items = ({**write.item, "item": write.key[1]} for write in writes if write.item is not None)
        self.table.delete_all(key for item in items for key in _parts(family, item))

    def _upload(self, family: str, digest: str, body: bytes, until: int | None) -> Item:
        """Write the parts of a large body; return what its own item says of it."""
        told: Item = {"size": len(body), **lasting(until)}
        if len(body) <= INLINE_BYTES:
            return {**told, "body": body}
        made = secrets.token_hex(8)
        parts = parts_of(family, f"p:{digest}:{made}", body)
        self.table.put_all({key: {**part, **lasting(until)} for key, part in parts.items()})
        return {**told, "made": made, "parts": len(parts)}

    def read(self, family: str, digests: Sequence[str]) -> dict[str, bytes]:
        """Return what is there under these names."""
        bodies: dict[str, bytes] = {}
        for chunk in chunks(digests, READ_AT_ONCE):
            # Twice: what was collected and made anew in between has other parts.
            for _ in range(2):
                bodies |= self._read(family, [digest for digest in chunk if digest not in bodies])
        return bodies

    def _read(self, family: str, digests: Sequence[str]) -> dict[str, bytes]:
        found = self.table.get_all((family, f"b:{digest}") for digest in digests)
        parts = {key: _parts(family, item) for key, item in found.items() if "parts" in item}
        got = self.table.get_all(part for keys in parts.values() for part in keys)
        bodies: dict[str, bytes] = {}
        for key, item in found.items():
            wanted = parts.get(key)
            if wanted is None:
                bodies[key[1][2:]] = item["body"]
            elif all(part in got for part in wanted):
                bodies[key[1][2:]] = b"".join(got[part]["body"] for part in wanted)
        return bodies

    def prolong(self, family: str, now: int, seconds: float | None) -> None:
        """Let the blobs of a family live for so long from `now`, if they would not."""
        until = expiry(now, seconds)
        span = self.table.get((family, "s")) or {}
        if until is None or span.get("until", until) + SLACK_SECONDS >= until:
            return
        for blob in self.table.query(family, "b:", "made", "parts"):
            for key in (*_parts(family, blob), (family, blob["item"])):
                self.table.apply(live(key, until))
        self.table.apply(
            Write(
                key=(family, "s"),
                update="SET #until = :until, #expires = :until",
                condition="#until < :until",
                values={":until": until},
            )
        )

    # Collection

    def kept(self, family: str) -> list[KeptBlob]:
        return [
            KeptBlob(digest=item["item"][2:], size=item["size"], touched_at=time_of(item["touched"]))
            for item in self.table.query(family, "b:", "size", "touched")
        ]

    def raise_floor(self, family: str, at: int) -> None:
        """Let no commit go on whose blobs were touched no later than that."""
        self.table.apply(
            Write(
                key=(family, "s"),
                update="SET #floor = :at",
                condition="attribute_not_exists(#floor) OR #floor < :at",
                values={":at": at},
            )
        )

    def drop(self, family: str, digests: Collection[str], before: datetime) -> set[str]:
        """Delete those that are not younger than `before`; return which were deleted."""
        cutoff = number_of(before)
        self.raise_floor(family, cutoff)
        gone: set[str] = set()
        for digest in sorted(digests):
            old = self.table.apply(
                Write(
                    key=(family, f"b:{digest}"),
                    is_delete=True,
                    condition="#touched <= :cutoff",
                    values={":cutoff": cutoff},
                )
            )
            if old:
                gone.add(digest)
                self.table.delete_all(_parts(family, {**old, "item": f"b:{digest}"}))
        self.tidy(family)
        return gone

    def tidy(self, family: str) -> None:
        """Delete what is left of a family that has neither conversations nor blobs any more."""
        if not any(self.table.query(family, prefix, "item", limit=1) for prefix in ("c:", "b:")):
            self.table.delete_all((family, item["item"]) for item in self.table.query(family, "", "item"))


def live(key: Key, until: int) -> Write:
    """Return the write that lets what is there live until then."""
    return Write(
        key=key,
        update="SET #expires = :until",
        condition="attribute_exists(#item) AND #expires < :until",
        values={":until": until},
    )


def _touch(key: Key, seen: int, at: int) -> Write:
    if seen >= at:
        return Write(key=key, condition="#touched >= :at", values={":at": at})
    return Write(key=key, update="SET #touched = :at", condition="#touched = :seen", values={":at": at, ":seen": seen})


def _make(key: Key, item: Item, there: Item | None) -> Write:
    if there is None:
        return Write(key=key, item=item, condition="attribute_not_exists(#item)")
    return Write(key=key, item=item, condition="#touched = :seen", values={":seen": there["touched"]})


def _above(family: str, span: Item, at: int, until: int | None) -> Write:
    """Return the write that asks whether the family is as it was when its blobs were made or touched `at`."""
    condition = "(attribute_not_exists(#floor) OR #floor < :at)"
    values: dict[str, Value] = {":at": at}
    if until is None:
        return Write(key=(family, "s"), condition=condition, values=values)
    values[":until"] = until
    if "until" in span:
        return Write(key=(family, "s"), condition=f"{condition} AND #until = :until", values=values)
    return Write(
        key=(family, "s"),
        update="SET #until = :until, #expires = :until",
        condition=f"{condition} AND attribute_not_exists(#until)",
        values=values,
    )


def _lasts(item: Item, until: int | None) -> bool:
    return until is None or item.get("expires", until) + SLACK_SECONDS >= until


def _parts(family: str, item: Item) -> list[Key]:
    return part_keys(family, f"p:{item['item'][2:]}:{item.get('made')}", item.get("parts", 0))
