"""What is on Redis at the end. Streams and calls are read from the keys themselves, states through their store.

What is of an epoch that is over is as good as gone: nobody is told of it.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from django_mcp.core.address import address
from django_mcp.core.entry import CorruptManifest
from django_mcp.core.manifest import ManifestReader
from django_mcp.core.principal import Principal
from django_mcp.core.value import from_bytes
from django_mcp.exceptions import ConversationNotFound, CorruptBlob
from django_mcp.models import Conversation
from django_mcp.sessions.stores import Head, StateStore, state_store, store
from django_mcp.sessions.stores.cache import CacheStore
from tests.chaos.epochs import KEY
from tests.chaos.truth import KeptCall, KeptConversation, KeptStream


def is_on_redis() -> bool:
    return isinstance(store(), CacheStore)


def streams() -> tuple[KeptStream, ...]:
    client = _client()
    found = []
    for key, fields in _hashes(":stream:"):
        events = client.xrange(key.replace(":stream:", ":events:"))
        found.append(
            KeptStream(
                name=key.rpartition(":")[2],
                kind=fields["kind"],
                first=int(fields["first"]),
                last=int(fields["last"]),
                is_open=fields["open"] == "1",
                events={int(name.partition(b"-")[2]): event[b"b"].decode() for name, event in events},
            )
        )
    return tuple(found)


def calls() -> tuple[KeptCall, ...]:
    return tuple(
        KeptCall(
            id=key.rpartition(":")[2],
            state=fields["state"],
            fence=int(fields["fence"]),
            request_id=str(json.loads(fields["request"])),
            stream=fields["stream"],
        )
        for key, fields in _hashes(":call:")
        if fields["state"] != "void"
    )


def conversations() -> tuple[KeptConversation, ...]:
    kept = state_store()
    found = []
    for row in Conversation.objects.active():
        try:
            # As its owner finds it, who is told where it is lost.
            caller = Principal(kind="user", id=str(row.user_id))
            head = kept.find(row.pk, server=row.server, tenant=row.tenant, principal=caller, user=row.user)
            history = sorted(past.number for past in kept.history(head.conversation, 1_000_000))
        except ConversationNotFound:
            continue
        damages: list[str] = []
        past = [kept.snapshot(head.conversation, number) for number in history]
        states = [_values(kept, one, damages) for one in past]
        newest = states[-1] if states else {}
        found.append(
            KeptConversation(
                label=newest.get("label", ""),
                generation=head.generation,
                total=newest.get("total", 0),
                keys=tuple(newest.get("keys", ())),
                tallies=tuple(newest.get("tallies", ())),
                generations=tuple(history),
                lengths=tuple(len(state.get("keys", ())) for state in states),
                damages=tuple(damages),
            )
        )
    return tuple(found)


def _values(kept: StateStore, head: Head, damages: list[str]) -> dict[str, Any]:
    """Return the values of one snapshot; note what of it is missing, or is not what its name says."""
    if head.manifest and address(head.manifest) != head.snapshot:
        damages.append(f"generation {head.generation}: the manifest is not {head.snapshot}")
    try:
        reader = ManifestReader(head.manifest, lambda digest: kept.blob(head.conversation, digest))
        return {key: from_bytes(reader.body(entry)) for key, entry in reader.entries().items()}
    except (CorruptBlob, CorruptManifest, LookupError, ValueError) as error:
        damages.append(f"generation {head.generation}: {type(error).__name__} {error}")
        return {}


def _hashes(part: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    client = _client()
    epoch = client.hget(KEY, "epoch")
    for key in client.scan_iter(match=f"*{part}*", count=1_000):
        fields = client.hgetall(key)
        if fields.get(b"epoch") == epoch:
            yield key.decode(), {name.decode(): value.decode(errors="replace") for name, value in fields.items()}


def _client() -> Any:
    found = store()
    assert isinstance(found, CacheStore)
    return found.link.client
