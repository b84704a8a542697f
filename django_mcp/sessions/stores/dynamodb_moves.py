"""Conversations that leave or reach DynamoDB while they are in use.

What is brought is items that no commit makes otherwise: a number is never of two generations. The record comes last,
and says that it arrives.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from django_mcp.exceptions import StoreUnavailable
from django_mcp.sessions.stores.dynamodb_generations import DynamoDBGenerations, lives, present
from django_mcp.sessions.stores.dynamodb_items import (
    SECOND,
    call_text,
    is_alive,
    lasting,
    line_name,
    line_of,
    moving_of,
    note_name,
    number_of,
    record_of,
)
from django_mcp.sessions.stores.dynamodb_table import Item, Key, Write
from django_mcp.sessions.stores.remote_state import (
    IN_USE,
    Arrival,
    Identity,
    Moving,
    Place,
    RemoteGeneration,
    RemoteNote,
    Terms,
    microseconds,
)

ROUNDS: Final = 10
MADE_LENGTH: Final = 16


class DynamoDBMoves(DynamoDBGenerations):
    """What a state store on DynamoDB does to a conversation on its way."""

    def bring(
        self, place: Place, lines: Sequence[RemoteGeneration], manifests: Mapping[int, bytes], terms: Terms
    ) -> None:
        family = self.partition("f", place.family)
        items: dict[Key, Item] = {}
        for one in lines:
            line = one.line
            # The same name each time that it is brought, so that nothing is left behind.
            made = line.snapshot[:MADE_LENGTH] or "-"
            number, created = line.number, number_of(line.created)
            told = line_of(
                line.snapshot,
                made=made,
                size=line.bytes,
                now=created,
                call=line.call,
                copied_from=line.copied_from,
            )
            carried = self._carry(place, number, made, manifests[number], terms)
            items[family, line_name(place.id, number)] = {**told, **carried}
        self.table.put_all(items)

    def bring_blobs(self, family: str, blobs: Mapping[str, bytes], terms: Terms) -> None:
        partition = self.partition("f", family)
        for _ in range(ROUNDS):
            writes = self._blobs.keep(partition, blobs, present(), terms.blob_seconds)
            if not writes or self.table.transact(writes):
                return
            self._blobs.discard(partition, writes)
        raise StoreUnavailable("Others change the same blobs again and again")

    def arrive(
        self, identity: Identity, arrival: Moving, head: Arrival, notes: Sequence[RemoteNote], terms: Terms
    ) -> Moving | None:
        place, now = identity.place, present()
        family = self.partition("f", place.family)
        lived = lives(now, terms)
        there = self.table.get(self.record(place))
        if there is not None and "ended" not in there and is_alive(there, now):
            moving = moving_of(there)
            if moving is None or moving.ticket > arrival.ticket:
                return moving or IN_USE
        before = self.table.query(family, f"n:{place.id}:", "item")
        self.table.delete_all((family, item["item"]) for item in before)
        generations, noted = 0, 0
        items: dict[Key, Item] = {}
        for number, note in enumerate(notes, 1):
            generations = note.order - number
            noted = number
            told: Item = {"call": call_text(note.call), "created": number_of(note.created)}
            told["generation"] = head.cut + generations
            items[family, note_name(place.id, number)] = {**told, **lasting(_until(lived))}
        self.table.put_all(items)
        record = record_of(identity, generation=head.generation, is_foreseen=head.generation > 0)
        record |= {
            "revoked_up_to": head.revoked_up_to,
            "revoked_tokens": json.dumps(sorted(head.revoked_tokens)),
            "touched": number_of(head.touched_at),
            "notes": noted,
            "arriving": microseconds(arrival.ticket),
            **lived,
        }
        is_free = (
            "attribute_not_exists(#item) OR attribute_exists(#ended) OR #expires <= :seconds OR "
            "#arriving <= :ticket OR #leaving <= :ticket"
        )
        values = {":seconds": now // SECOND, ":ticket": microseconds(arrival.ticket)}
        if self.table.apply(Write(key=self.record(place), item=record, condition=is_free, values=values)) is not None:
            return None
        there = self.table.get(self.record(place))
        return (there and moving_of(there)) or IN_USE

    def open(self, place: Place, arrival: Moving) -> None:
        self._change(place, "REMOVE #arriving", "#arriving = :ticket", arrival)

    def seal(self, place: Place, generation: int, departure: Moving) -> bool:
        sealed = self.table.apply(
            Write(
                key=self.record(place),
                update="SET #leaving = :ticket",
                condition=(
                    "attribute_exists(#item) AND attribute_not_exists(#ended) AND attribute_not_exists(#arriving) "
                    "AND #generation = :base AND (attribute_not_exists(#leaving) OR #leaving <= :ticket)"
                ),
                values={":ticket": microseconds(departure.ticket), ":base": generation},
            )
        )
        return sealed is not None

    def unseal(self, place: Place, departure: Moving) -> None:
        self._change(place, "REMOVE #leaving", "#leaving = :ticket", departure)

    def give_up(self, place: Place, moving: Moving) -> bool:
        name = "#arriving" if moving.is_arriving else "#leaving"
        if self._change(place, "SET #ended = :yes", f"{name} = :ticket", moving):
            return True
        record = self.table.get(self.record(place))
        return record is None or "ended" in record

    def is_deserted(self, family: str) -> bool:
        return not self.table.query(self.partition("f", family), "c:", "item", limit=1)

    def _change(self, place: Place, update: str, condition: str, moving: Moving) -> bool:
        values: dict[str, int | bool | str | bytes] = {":ticket": microseconds(moving.ticket)}
        if ":yes" in update:
            values[":yes"] = True
        write = Write(key=self.record(place), update=update, condition=condition, values=values)
        return self.table.apply(write) is not None


def _until(lived: Mapping[str, object]) -> int | None:
    until = lived.get("kept_until")
    return until if isinstance(until, int) else None
