"""All there is about a conversation at one generation: for people, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from django_mcp.core.diff import shown
from django_mcp.core.entry import BlobRef, Entry
from django_mcp.core.manifest import ManifestReader
from django_mcp.core.value import UnreadableValue, from_bytes
from django_mcp.exceptions import CorruptBlob
from django_mcp.management import layout
from django_mcp.management.records import owner
from django_mcp.management.states import bytes_of
from django_mcp.models import Conversation
from django_mcp.sessions.stores import CallNote, Generation, Head, StateStore

KEYS: Final = ("key", "type", "bytes", "value")
HISTORY: Final = ("generation", "created", "bytes", "call", "copied from")
DAMAGED: Final = "(damaged)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Portrait:
    row: Conversation
    head: Head
    reader: ManifestReader
    types: dict[str, str]
    """The type of each value, by key, or DAMAGED."""
    history: list[Generation]

    @classmethod
    def of(cls, state: StateStore, row: Conversation, head: Head, reader: ManifestReader) -> Portrait:
        """Read what there is, large values one after the other."""
        entries = reader.entries()
        return cls(
            row=row,
            head=head,
            reader=reader,
            types={key: _type(state, head, entry) for key, entry in entries.items()},
            history=state.history(head.conversation),
        )

    @property
    def newest(self) -> int:
        """The number of the head; the row was read before it."""
        return max(self.row.generation, self.head.generation)

    @property
    def text(self) -> str:
        record = self.head.conversation
        facts = {
            "id": record.id,
            "kind": record.kind,
            "user": owner(self.row),
            "principal": layout.printable(record.principal),
            "server": record.server,
            "tenant": layout.printable(record.tenant),
            "state": self.row.state,
            "generation": f"{self.head.generation} of {self.newest}",
            "snapshot": self.head.snapshot or "-",
            "keys": f"{len(self.reader)}, {self.reader.size} bytes",
            "tokens revoked": _revoked(record.revoked_up_to, len(record.revoked_tokens)),
            "forked from": self.row.forked_from or "-",
            "created": layout.moment(record.created_at),
            "last used": layout.moment(self.row.last_used_at),
            "ended": layout.moment(self.row.ended_at),
        }
        parts = [layout.value(facts)]
        entries = self.reader.entries()
        if entries:
            lines = [(repr(key), self.types[key], str(entry.size), shown(entry)) for key, entry in entries.items()]
            parts.append(layout.table([KEYS, *lines]))
        if self.history:
            parts.append(layout.table([HISTORY, *map(_line, self.history)]))
        return "\n\n".join(parts)

    @property
    def json(self) -> str:
        record = self.head.conversation
        return layout.ascii_json(
            {
                "id": record.id,
                "kind": record.kind,
                "user": self.row.user.get_username() if self.row.user else None,
                "principal": record.principal,
                "server": record.server,
                "tenant": record.tenant,
                "state": self.row.state,
                "head": self.newest,
                "generation": self.head.generation,
                "snapshot": self.head.snapshot,
                "bytes": self.reader.size,
                "revoked_up_to": record.revoked_up_to,
                "revoked_tokens": sorted(record.revoked_tokens),
                "forked_from": self.row.forked_from or None,
                "created_at": record.created_at.isoformat(),
                "last_used_at": self.row.last_used_at.isoformat(),
                "ended_at": self.row.ended_at.isoformat() if self.row.ended_at else None,
                "keys": {key: self._key(key, entry) for key, entry in self.reader.entries().items()},
                "history": [
                    {
                        "generation": one.number,
                        "snapshot": one.snapshot,
                        "created_at": one.created.isoformat(),
                        "bytes": one.bytes,
                        "call": asdict(one.call) if one.call else None,
                        "copied_from": one.copied_from,
                    }
                    for one in self.history
                ],
            },
            indent=2,
        )

    def _key(self, key: str, entry: Entry) -> dict[str, Any]:
        found: dict[str, Any] = {"type": self.types[key], "bytes": entry.size}
        if isinstance(entry, BlobRef):
            return {**found, "blob": entry.digest}
        return {**found, "value": json.loads(entry.data)}


def _type(state: StateStore, head: Head, entry: Entry) -> str:
    try:
        return type(from_bytes(bytes_of(state, head.conversation, entry))).__name__
    except (CorruptBlob, UnreadableValue):
        return DAMAGED


def _revoked(up_to: int, single: int) -> str:
    parts = [f"up to generation {up_to}"] if up_to >= 0 else []
    return ", ".join([*parts, *([f"{single} single ones"] if single else [])]) or "none"


def _line(one: Generation) -> tuple[str, ...]:
    copied = "-" if one.copied_from is None else str(one.copied_from)
    return str(one.number), layout.moment(one.created), str(one.bytes), _call(one.call), copied


def _call(call: CallNote | None) -> str:
    if call is None:
        return "-"
    took = "" if call.milliseconds is None else f" in {call.milliseconds} ms"
    return layout.printable(f"{call.name} {call.outcome}{took}")
