"""Conversations of a live server, made and read in its stores: `python -m tests.live.conversations make 300`.

`make` begins so many, each with generations, large values, notes and revoked tokens, some of them forks and states of
users. `export FILE` writes of each a line, its id and a hash of all that its store keeps of it.
"""

import hashlib
import json
import secrets
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import django

SERVER: Final = "tests/live"
TEMPLATES: Final = 25
ROWS: Final = 500


def main(verb: str, *words: str) -> None:
    django.setup()
    if verb == "make":
        print(make(int(words[0])))
    elif verb == "export":
        with Path(words[0]).open("w") as file:
            file.writelines(f"{line}\n" for line in export())
    else:
        sys.exit(f"unknown verb {verb!r}")


# Make


def make(count: int) -> int:
    """Make that many at least, and return how many there are."""
    from django_mcp.models import Conversation

    families = [_template(number) for number in range(TEMPLATES)]
    numbers = iter(range(TEMPLATES, 10**9))
    made = Conversation.objects.count()
    while made < count:
        chosen = [(families[number % TEMPLATES], number) for number, _ in zip(numbers, range(ROWS), strict=False)]
        left, several = count - made, []
        for family, number in chosen:
            if left <= 0:
                break
            several.append((family, number))
            left -= len(family)
        _copy(several)
        made = Conversation.objects.count()
    return made


def _template(number: int) -> list[str]:
    """Begin a family through the store, and return the ids of its members."""
    from django_mcp.core.principal import Principal
    from django_mcp.sessions.scope import Scope
    from django_mcp.sessions.stores import CallNote, state_store
    from tests.sessions.calls import Call

    store = state_store()
    owner = Scope(server=SERVER, tenant="", principal=Principal(kind="user", id=f"template {number}"))
    kind: Any = "user" if number % 5 == 4 else "conversation"
    record = store.begin(**owner.owner, kind=kind, name=f"session:{number}" if number % 5 == 3 else None).conversation
    for step in range(3 + number % 4):
        call = Call(store, store.find(record.id, **owner.owner))
        call.state["number"] = step
        call.state["text"] = f"{number}/{step} " * (20_000 if number % 6 == 0 else 40)
        call.commit()
        store.note(record, CallNote(name="look", outcome="failed", milliseconds=step))
    if number % 4 == 0:
        store.revoke_tokens(record, fingerprint=f"token {number}")
        store.revoke_tokens(record, up_to_generation=1)
    if kind == "conversation" and number % 3 == 0:
        fork = store.fork(record, 2).conversation
        call = Call(store, store.find(fork.id, **owner.owner))
        call.state["fork"] = "its own way " * 100
        call.commit()
        return [record.id, fork.id]
    return [record.id]


def _copy(several: Iterable[tuple[list[str], int]]) -> None:
    """Insert rows as those of the templates, each family with new ids and an owner of its own."""
    from django_mcp.models import Blob, Conversation, PastCall, Snapshot

    made: dict[type[Any], list[Any]] = {Conversation: [], Snapshot: [], PastCall: [], Blob: []}
    for family, number in several:
        names = {name: secrets.token_hex(16) for name in family}
        for row in Conversation.objects.filter(pk__in=family).order_by("root"):
            digests = {name: getattr(row, name) and secrets.token_hex(32) for name in ("name_digest", "handle_digest")}
            for name, digest in digests.items():
                setattr(row, name, digest)
            row.owner_digest = hashlib.sha256(str(number).encode()).hexdigest()
            row.principal = f"user:{number}"
            row.root_id = names.get(row.root_id or "")
            row.forked_from = names.get(row.forked_from, "")
            row.pk = names[row.pk]
            made[Conversation].append(row)
        for kind, owner in ((Snapshot, "conversation_id"), (PastCall, "conversation_id"), (Blob, "family_id")):
            for item in kind.objects.filter(**{f"{owner}__in": family}).order_by("pk"):
                setattr(item, owner, names[getattr(item, owner)])
                item.pk = None
                made[kind].append(item)
    roots = [row for row in made[Conversation] if row.root_id is None]
    Conversation.objects.bulk_create(roots, batch_size=ROWS)
    Conversation.objects.bulk_create([row for row in made[Conversation] if row.root_id], batch_size=ROWS)
    for kind in (Snapshot, PastCall, Blob):
        kind.objects.bulk_create(made[kind], batch_size=50)


# Read


def export() -> Iterator[str]:
    """Give of each conversation its id and a hash of its head, history, manifests, blobs, notes and revocations."""
    from django_mcp.core.manifest import references
    from django_mcp.models import Conversation
    from django_mcp.sessions.stores import stores
    from django_mcp.sessions.stores.database_generations import record_of

    for row in Conversation.objects.active().filter(server=SERVER).order_by("pk").iterator(chunk_size=ROWS):
        store, record = stores.keeper("default", row.store), record_of(row)
        image = store.image(record)
        manifests = store.manifests(record, [line.number for line in image.generations])
        needed: set[str] = set()
        for manifest in filter(None, manifests.values()):
            needed |= references(manifest, lambda digest: store.blobs_there(record, [digest])[digest])  # noqa: B023
        blobs = store.blobs_there(record, sorted(needed))
        told = {
            "head": [image.generation, image.revoked_up_to, sorted(image.revoked_tokens), row.state, row.kind],
            "past": [*map(asdict, image.generations), *map(asdict, image.notes)],
            "manifests": {number: hashlib.sha256(manifests[number]).hexdigest() for number in sorted(manifests)},
            "blobs": {digest: len(blobs[digest]) for digest in sorted(blobs)},
        }
        text = json.dumps(told, default=str)
        yield f"{row.pk} {hashlib.sha256(text.encode()).hexdigest()}"


if __name__ == "__main__":
    main(*sys.argv[1:])
