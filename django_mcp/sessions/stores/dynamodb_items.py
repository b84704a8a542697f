"""What the items of a state store on DynamoDB look like: their names, and the values that the contract knows.

In the partition of a family, `{prefix}:{alias}:f:{family}`, by the name of the item:

    c:{id}:g{number}             a line of the history; its manifest, where that is not too large
    c:{id}:r                     the record of a conversation, behind its lines: the last two are the head
    m:{id}:{number}:{made}:{n}   a part of a large manifest
    n:{id}:{number}              a note of a call
    b:{digest}                   a blob; its body, where that is not too large
    p:{digest}:{made}:{n}        a part of a large blob
    s                            what holds for all blobs of the family

`made` is a random name of whoever made it, so that what was left behind is never taken for what came after it. Times
are microseconds since 1970, `expires` seconds.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from django_mcp.sessions.stores.dynamodb_table import PART_BYTES, Item, Key, Value
from django_mcp.sessions.stores.remote_state import (
    Identity,
    Moving,
    Place,
    Refusal,
    RemoteGeneration,
    RemoteHead,
    RemoteNote,
    Terms,
)
from django_mcp.sessions.stores.state import CallNote, Generation, Kind

EPOCH: Final = "1"
"""The only one: DynamoDB forgets nothing that it acknowledged."""
INLINE_BYTES: Final = 16 * 1024
"""A larger body is kept in parts, so that the most that one transaction writes stays far below its 4 MB."""
NOTES_BETWEEN: Final = 10**12
"""How many notes there are, at the most, between two generations."""
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
SECOND: Final = 1_000_000


def number_of(at: datetime) -> int:
    return (at - _START) // timedelta(microseconds=1)


def time_of(number: int) -> datetime:
    return _START + timedelta(microseconds=number)


def expiry(now: int, seconds: float | None) -> int | None:
    """Return the second that is so many after `now`; None is never."""
    return None if seconds is None else math.ceil(now / SECOND + seconds)


def is_alive(item: Mapping[str, Any] | None, now: int) -> bool:
    """Say whether an item is there and its time is not over, whether or not DynamoDB has deleted it."""
    return item is not None and ("expires" not in item or item["expires"] * SECOND > now)


def lasting(until: int | None) -> dict[str, Value]:
    """Return the attributes of what is kept until then."""
    return {} if until is None else {"expires": until}


def line_name(conversation: str, number: int) -> str:
    return f"c:{conversation}:g{number:020d}"


def line_number(item: Item) -> int:
    return int(item["item"].rpartition(":g")[2])


def parts_of(family: str, stem: str, body: bytes) -> dict[Key, Item]:
    """Return the parts of a large body, by their keys."""
    starts = range(0, len(body), PART_BYTES)
    return {
        (family, f"{stem}:{number:04d}"): {"body": body[start : start + PART_BYTES]}
        for number, start in enumerate(starts)
    }


def part_keys(family: str, stem: str, count: int) -> list[Key]:
    return [(family, f"{stem}:{number:04d}") for number in range(count)]


# Conversations


def record_of(identity: Identity, *, generation: int, is_foreseen: bool) -> Item:
    told = {name: getattr(identity, name) for name in ("kind", "server", "tenant", "principal", "user")}
    record: Item = {
        "identity": json.dumps({**told, "created": identity.created_at.isoformat()}, separators=(",", ":")),
        "generation": generation,
        "revoked_up_to": -1,
        "revoked_tokens": "[]",
        "touched": number_of(identity.created_at),
        "notes": 0,
    }
    return {**record, "foreseen": True} if is_foreseen else record


def head_of(
    place: Place, record: Item, line: Item | None, manifest: bytes | None, chosen: int, now: int
) -> RemoteHead:
    """Return what was read; generation 0 has no line, of any other without a line or its manifest there is nothing."""
    snapshot = "" if chosen == 0 else None
    if line is not None and manifest is not None:
        snapshot = line["snapshot"]
    return RemoteHead(
        identity=_identity(place, record["identity"]),
        is_ended="ended" in record,
        generation=record["generation"],
        chosen=chosen,
        snapshot=snapshot,
        manifest=manifest or b"",
        revoked_up_to=record["revoked_up_to"],
        revoked_tokens=frozenset(json.loads(record["revoked_tokens"])),
        touched_at=time_of(record["touched"]),
        is_foreseen="foreseen" in record,
        has_garbage="garbage" in record,
        written_in=EPOCH,
        epoch=EPOCH,
        now=time_of(now),
        moving=moving_of(record),
    )


def moving_of(record: Item) -> Moving | None:
    """Return whether a conversation is on its way, from the microseconds of its ticket."""
    for name in ("arriving", "leaving"):
        if name in record:
            return Moving(time_of(record[name]), is_arriving=name == "arriving")
    return None


def _identity(place: Place, text: str) -> Identity:
    told = json.loads(text)
    created = datetime.fromisoformat(told.pop("created"))
    return Identity(place=place, kind=cast("Kind", told.pop("kind")), created_at=created, **told)


def closed(head: RemoteHead | None) -> Refusal | None:
    """Say why nothing may change a conversation, if so."""
    if head is None:
        return "missing"
    if head.is_ended:
        return "ended"
    return None if head.moving is None else "moving"


def is_untouched(head: RemoteHead, terms: Terms) -> bool:
    """Say whether the index has to be told of its use before its head may move."""
    is_stale = head.now - head.touched_at > timedelta(seconds=terms.touch_seconds)
    return is_stale or (head.generation == 0 and not head.is_foreseen)


# History and notes


def line_of(
    snapshot: str, *, made: str, size: int, now: int, call: CallNote | None = None, copied_from: int | None = None
) -> Item:
    line: Item = {"snapshot": snapshot, "made": made, "size": size, "created": now, "call": call_text(call)}
    return line if copied_from is None else {**line, "copied_from": copied_from}


LINE: Final = ("snapshot", "size", "created", "call", "copied_from")
"""What of a line the history tells."""


def generation_of(line: Item) -> RemoteGeneration:
    number = line_number(line)
    return RemoteGeneration(
        line=Generation(
            number=number,
            snapshot=line["snapshot"],
            created=time_of(line["created"]),
            bytes=line["size"],
            call=CallNote(**json.loads(line["call"])) if line["call"] else None,
            copied_from=line.get("copied_from"),
        ),
        order=number * NOTES_BETWEEN,
    )


def note_name(conversation: str, number: int) -> str:
    return f"n:{conversation}:{number:020d}"


def note_of(item: Item) -> RemoteNote:
    number = int(item["item"].rpartition(":")[2])
    order = item["generation"] * NOTES_BETWEEN + number
    return RemoteNote(call=CallNote(**json.loads(item["call"])), created=time_of(item["created"]), order=order)


def call_text(call: CallNote | None) -> str:
    return "" if call is None else json.dumps(asdict(call), separators=(",", ":"))
