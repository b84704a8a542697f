"""What is in the database at the end: `python -m tests.chaos.truth FILE` writes it as JSON, for the judge.

Reads the tables themselves, not through the code that wrote them, except for the layout of a manifest.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import django

from django_mcp.core.address import address
from django_mcp.core.manifest import CorruptManifest, ManifestReader
from django_mcp.core.value import from_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRun:
    key: str
    tool: str
    process: int
    has_ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptStream:
    """A stream of the handshake era; `events` are its messages by number, as text."""

    name: str
    kind: str
    first: int
    last: int
    is_open: bool
    events: dict[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCall:
    """A call with a record; a `fence` above 1 says that another process took it over."""

    id: str
    state: str
    fence: int
    request_id: str
    stream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptConversation:
    """A conversation by its label; `generations` and `lengths` go together: how many keys each generation has."""

    label: str
    generation: int
    total: int
    keys: tuple[str, ...]
    tallies: tuple[str, ...]
    generations: tuple[int, ...]
    lengths: tuple[int, ...]
    damages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    runs: tuple[KeptRun, ...] = ()
    streams: tuple[KeptStream, ...] = ()
    calls: tuple[KeptCall, ...] = ()
    conversations: tuple[KeptConversation, ...] = ()
    tallies: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The keys of the rows, by the label of their conversation."""
    lost: tuple[str, ...] = ()
    """The hashes of the handles of those conversations that the store says it lost."""

    @classmethod
    def read(cls, path: Path) -> "Truth":
        """Read what was written to a file."""
        kept = json.loads(path.read_text())
        return cls(
            runs=tuple(KeptRun(**run) for run in kept["runs"]),
            streams=tuple(
                KeptStream(**{**stream, "events": {int(number): body for number, body in stream["events"].items()}})
                for stream in kept["streams"]
            ),
            calls=tuple(KeptCall(**call) for call in kept["calls"]),
            conversations=tuple(KeptConversation(**_frozen(one)) for one in kept["conversations"]),
            tallies={label: tuple(keys) for label, keys in kept["tallies"].items()},
            lost=tuple(kept["lost"]),
        )


def _frozen(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def main(path: str) -> None:
    django.setup()
    Path(path).write_text(json.dumps(asdict(find())))


def find() -> Truth:
    """Read the database, and the Redis of the store if that is where it keeps things."""
    from tests.chaos import truth_redis
    from tests.chaos.app.models import Run, Tally

    is_on_redis = truth_redis.is_on_redis()

    tallies: dict[str, tuple[str, ...]] = {}
    for label, key in Tally.objects.values_list("label", "key"):
        tallies[label] = (*tallies.get(label, ()), key)
    conversations = truth_redis.conversations() if is_on_redis else _conversations()
    return Truth(
        runs=tuple(
            KeptRun(key=run.key, tool=run.tool, process=run.process, has_ended=run.ended_at is not None)
            for run in Run.objects.all()
        ),
        streams=truth_redis.streams() if is_on_redis else _streams(),
        calls=truth_redis.calls() if is_on_redis else _calls(),
        conversations=conversations,
        tallies=tallies,
        lost=_lost(),
    )


def _lost() -> tuple[str, ...]:
    from django_mcp.models import Conversation

    digests = Conversation.objects.filter(has_lost=True).values_list("handle_digest", flat=True)
    return tuple(digest for digest in digests if digest is not None)


def _calls() -> tuple[KeptCall, ...]:
    from django_mcp.models import Call

    return tuple(
        KeptCall(
            id=call.pk,
            state=call.state,
            fence=call.fence,
            request_id=str(json.loads(call.request_id)),
            stream=call.stream,
        )
        for call in Call.objects.all()
    )


def _streams() -> tuple[KeptStream, ...]:
    from django_mcp.models import Event, Stream

    events: dict[str, dict[int, str]] = {}
    for name, number, body in Event.objects.values_list("stream_id", "sequence", "body"):
        events.setdefault(name, {})[number] = bytes(body).decode()
    return tuple(
        KeptStream(
            name=row.name,
            kind=row.kind,
            first=row.first,
            last=row.last,
            is_open=row.is_open,
            events=events.get(row.name, {}),
        )
        for row in Stream.objects.all()
    )


def _conversations() -> tuple[KeptConversation, ...]:
    from django_mcp.models import Conversation

    found = []
    for conversation in Conversation.objects.active():
        snapshots = list(conversation.snapshots.order_by("number"))
        blobs = _blobs(conversation.family_id)
        damages = [f"blob {name} is not what its name says" for name, body in blobs.items() if address(body) != name]
        states = [_state(snapshot, blobs, damages) for snapshot in snapshots]
        head = states[-1] if states else {}
        found.append(
            KeptConversation(
                label=head.get("label", ""),
                generation=conversation.generation,
                total=head.get("total", 0),
                keys=tuple(head.get("keys", ())),
                tallies=tuple(head.get("tallies", ())),
                generations=tuple(snapshot.number for snapshot in snapshots),
                lengths=tuple(len(state.get("keys", ())) for state in states),
                damages=tuple(damages),
            )
        )
    return tuple(found)


def _blobs(family: str) -> dict[str, bytes]:
    from django_mcp.models import Blob

    names = Blob.objects.filter(family_id=family).values_list("digest", flat=True)
    return Blob.objects.all().find(family, set(names))[0]


def _state(snapshot: Any, blobs: Mapping[str, bytes], damages: list[str]) -> dict[str, Any]:
    """Return the values of one snapshot; note what of it is missing, or is not what its name says."""
    manifest = bytes(snapshot.manifest)
    where = f"generation {snapshot.number}"
    if manifest and address(manifest) != snapshot.address:
        damages.append(f"{where}: the manifest is not {snapshot.address}")
    try:
        reader = ManifestReader(manifest, blobs.__getitem__)
        return {key: from_bytes(reader.body(entry)) for key, entry in reader.entries().items()}
    except (CorruptManifest, LookupError, ValueError) as error:
        damages.append(f"{where}: {type(error).__name__} {error}")
        return {}


if __name__ == "__main__":
    main(*sys.argv[1:])
