"""The remote part of a state store on DynamoDB, whole: conversations, notes and collection beside the generations.

Times are those of the processes, which therefore agree on the time to within TOUCH_INTERVAL; that no blob goes which
is needed does not hang on it. DynamoDB forgets nothing that it acknowledged, so there is one epoch for ever.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Final

from django.utils import timezone

from django_mcp.sessions.stores.dynamodb_blobs import live
from django_mcp.sessions.stores.dynamodb_generations import (
    IN_TIME,
    OPEN,
    lives,
    present,
)
from django_mcp.sessions.stores.dynamodb_items import (
    EPOCH,
    SECOND,
    call_text,
    expiry,
    is_alive,
    lasting,
    line_name,
    line_number,
    note_name,
    note_of,
    number_of,
    record_of,
)
from django_mcp.sessions.stores.dynamodb_moves import DynamoDBMoves
from django_mcp.sessions.stores.dynamodb_table import Item, Value, Write
from django_mcp.sessions.stores.remote_state import Identity, KeptBlob, Place, RemoteNote, Terms
from django_mcp.sessions.stores.state import GRACE_SECONDS, CallNote

LIST_ROUNDS: Final = 20
_FLOOR: Final = GRACE_SECONDS * 500_000
"""Half the grace, in microseconds: younger than what is collected, by far more than two readings of a clock differ."""


class DynamoDBState(DynamoDBMoves):
    # Pointers

    def point(self, name: str, place: Place, *, seconds: float) -> None:
        item = {"place": f"{place.family}:{place.id}", **lasting(expiry(present(), seconds))}
        self.table.apply(Write(key=(self.partition("p", name), "p"), item=item))

    def follow(self, name: str) -> Place | None:
        found = self.table.get((self.partition("p", name), "p"))
        if found is None or not is_alive(found, present()):
            return None
        family, _, conversation = found["place"].partition(":")
        return Place(family=family, id=conversation)

    # Conversations

    def begin(self, identity: Identity, terms: Terms) -> None:
        now = present()
        record = {**record_of(identity, generation=0, is_foreseen=False), **lives(now, terms)}
        is_free = "attribute_not_exists(#item) OR #expires <= :seconds"
        values = {":seconds": now // SECOND}
        self.table.apply(Write(key=self.record(identity.place), item=record, condition=is_free, values=values))

    def touch(self, place: Place, at: datetime, terms: Terms, *, is_foreseen: bool) -> None:
        now, touched = present(), number_of(at)
        changes: dict[str, Value] = lasting(expiry(now, terms.record_seconds))
        if is_foreseen:
            changes["foreseen"] = True
        record = self._touch(place, {**changes, "touched": touched}, now)
        if record is None:
            record = self._touch(place, changes, now)
        if record is None:
            return
        if terms.record_seconds is not None and record.get("kept_until", 0) < changes["expires"]:
            self._prolong(place, now, terms)
        self._blobs.prolong(self.partition("f", place.family), now, terms.blob_seconds)

    def _touch(self, place: Place, changes: Mapping[str, Value], now: int) -> Item | None:
        """Make these changes, a touch among them if it is the latest; None if they are not to be made."""
        settings = ", ".join(f"#{name} = :{name}" for name in changes)
        values: dict[str, Value] = {f":{name}": value for name, value in changes.items()}
        latest = " AND #touched <= :touched" if "touched" in changes else ""
        return self.table.apply(
            Write(
                key=self.record(place),
                update=f"{'SET ' if settings else ''}{settings} REMOVE #garbage",
                condition=f"{OPEN} AND {IN_TIME}{latest}",
                values={**values, ":seconds": now // SECOND},
            )
        )

    def _prolong(self, place: Place, now: int, terms: Terms) -> None:
        """Let the history and the notes live longer, and then say so: a death on the way leaves it to do."""
        until = lives(now, terms)
        family = self.partition("f", place.family)
        for prefix in (f"c:{place.id}:g", f"m:{place.id}:", f"n:{place.id}:"):
            for item in self.table.query(family, prefix, "item"):
                self.table.apply(live((family, item["item"]), int(until["kept_until"])))
        self.table.apply(
            Write(
                key=self.record(place),
                update="SET #kept_until = :until",
                condition=f"{OPEN} AND #kept_until < :until",
                values={":until": until["kept_until"]},
            )
        )

    def adopt(self, place: Place, *, written_in: str, epoch: str) -> None:
        """Change nothing: no record is of another epoch than the only one."""

    def survived_until(self, epoch: str) -> datetime | None:
        return timezone.now() if epoch == EPOCH else None

    def end(self, place: Place) -> None:
        self.table.apply(
            Write(
                key=self.record(place),
                update="SET #ended = :yes",
                condition="attribute_exists(#item)",
                values={":yes": True},
            )
        )

    # Notes

    def note(self, place: Place, call: CallNote, *, kept: int, created: datetime | None = None) -> None:
        record = self.table.apply(
            Write(key=self.record(place), update="ADD #notes :one", condition=OPEN, values={":one": 1})
        )
        if record is None:
            return
        family = self.partition("f", place.family)
        at = present() if created is None else number_of(created)
        note = {"call": call_text(call), "created": at, "generation": record["generation"]}
        note |= lasting(record.get("kept_until"))
        self.table.apply(Write(key=(family, note_name(place.id, record["notes"])), item=note))
        if record["notes"] > kept:
            notes = self.table.query(family, f"n:{place.id}:", "item", newest_first=True)
            self.table.delete_all((family, over["item"]) for over in notes[kept:])

    def notes(self, place: Place, limit: int) -> list[RemoteNote]:
        if limit <= 0:
            return []
        family = self.partition("f", place.family)
        found = self.table.query(family, f"n:{place.id}:", limit=limit, newest_first=True)
        return [note_of(item) for item in found]

    # Collection

    def forget(self, place: Place, *, is_dry: bool = False) -> int:
        record = self.table.get(self.record(place))
        if record is not None and "ended" not in record:
            return 0
        family = self.partition("f", place.family)
        lines = self.table.query(family, f"c:{place.id}:g", "item")
        if is_dry:
            return len(lines)
        rest = [self.table.query(family, f"{kind}:{place.id}:", "item") for kind in ("m", "n")]
        self.table.delete_all((family, item["item"]) for items in (*rest, lines) for item in items)
        self.table.delete_all([self.record(place)])
        self._blobs.tidy(family)
        return len(lines)

    def snapshots(self, family: str) -> dict[str, tuple[Place, int]] | None:
        partition = self.partition("f", family)
        self._blobs.raise_floor(partition, present() - _FLOOR)
        before: list[Item] | None = None
        for _ in range(LIST_ROUNDS):
            listed = self.table.query(partition, "c:", "generation", "ended", "snapshot")
            if listed == before:
                return _addresses(family, listed)
            # What is the same twice was so in between, all of it at one time.
            before = listed
        return None

    def manifests(self, chosen: Iterable[tuple[Place, int]]) -> dict[tuple[Place, int], bytes]:
        wanted = {
            (self.partition("f", place.family), line_name(place.id, number)): (place, number)
            for place, number in chosen
        }
        found = self.table.get_all(wanted)
        read = {wanted[key]: self._manifest(wanted[key][0], line) for key, line in found.items()}
        return {where: manifest for where, manifest in read.items() if manifest is not None}

    def kept_blobs(self, family: str) -> tuple[datetime, list[KeptBlob]]:
        return timezone.now(), self._blobs.kept(self.partition("f", family))

    def drop_blobs(self, family: str, digests: Collection[str], *, before: datetime) -> set[str]:
        return self._blobs.drop(self.partition("f", family), digests, before)


def _addresses(family: str, listed: Iterable[Item]) -> dict[str, tuple[Place, int]]:
    """Return what the lines of the conversations that have not ended say."""
    items = list(listed)
    ended = {item["item"].split(":")[1] for item in items if "ended" in item}
    found: dict[str, tuple[Place, int]] = {}
    for item in items:
        conversation = item["item"].split(":")[1]
        if item.get("snapshot") and conversation not in ended:
            found[item["snapshot"]] = (Place(family=family, id=conversation), line_number(item))
    return found
