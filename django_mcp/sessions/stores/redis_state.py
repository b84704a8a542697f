"""The remote part of a state store on Redis: each step is one script, whose keys share the hash tag of a family.

Records, lines of the history and manifests are hashes, a blob is a key of its own. Whoever is known by a pointer (the
hash of a handle or of a name, a fork's id) is looked up by one key more, under a tag of its own.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from django_mcp.sessions.stores.redis_link import Argument, RedisLink, Step
from django_mcp.sessions.stores.remote_state import (
    IN_USE,
    Arrival,
    Change,
    Forked,
    Identity,
    KeptBlob,
    Moving,
    Place,
    Refusal,
    Refused,
    RemoteGeneration,
    RemoteHead,
    RemoteNote,
    RemoteState,
    Revocation,
    Terms,
    microseconds,
)
from django_mcp.sessions.stores.state import CallNote, Generation, Kind

ENDED_SECONDS: Final = 86_400
"""How long what has ended can be read if nothing collects it."""
AT_ONCE: Final = 500
_EPOCH_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LIST_ROUNDS: Final = 20


def _step(name: str, *, writes: bool = True) -> Step:
    return Step(f"state_{name}", writes=writes, shared="state")


# What may be done twice to the same effect needs no trace of having been done.
LOAD: Final = _step("load", writes=False)
BEGIN: Final = _step("begin", writes=False)
TOUCH: Final = _step("touch", writes=False)
ADOPT: Final = _step("adopt", writes=False)
END: Final = _step("end", writes=False)
COMMIT: Final = _step("commit")
COPY: Final = _step("copy")
FORK: Final = _step("fork")
HISTORY: Final = _step("history", writes=False)
NOTE: Final = _step("note")
SPAN: Final = _step("span", writes=False)
PROLONG: Final = _step("prolong", writes=False)
FORGET: Final = _step("forget")
LIST: Final = _step("list", writes=False)
BLOBS: Final = _step("blobs", writes=False)
DROP: Final = _step("drop")
BRING: Final = _step("bring", writes=False)
KEEP: Final = _step("keep", writes=False)
ARRIVE: Final = _step("arrive", writes=False)
OPEN: Final = _step("open", writes=False)
SEAL: Final = _step("seal", writes=False)
UNSEAL: Final = _step("unseal", writes=False)
GIVE_UP: Final = _step("give_up", writes=False)


class RedisState(RemoteState):
    def __init__(self, link: RedisLink) -> None:
        self.link = link

    # Pointers

    def point(self, name: str, place: Place, *, seconds: float) -> None:
        with self.link.outages():
            key = self.link.key(f"p:{name}")
            self.link.client.set(key, f"{place.family}:{place.id}", px=timedelta(seconds=seconds))

    def follow(self, name: str) -> Place | None:
        with self.link.outages():
            found = self.link.client.get(self.link.key(f"p:{name}"))
        if found is None:
            return None
        family, _, conversation = cast("bytes", found).decode().partition(":")
        return Place(family=family, id=conversation)

    # Conversations

    def begin(self, identity: Identity, terms: Terms) -> None:
        touched = _number_of(identity.created_at)
        life = _milliseconds(terms.record_seconds)
        self._run(BEGIN, identity.place, [identity.place.id, _identity_text(identity), touched, life])

    def load(self, place: Place, generation: int | None = None) -> RemoteHead | None:
        found = self._run(LOAD, place, ["" if generation is None else generation])
        return _head(place, found) if found else None

    def touch(self, place: Place, at: datetime, terms: Terms, *, is_foreseen: bool) -> None:
        lives = [_milliseconds(terms.record_seconds), _milliseconds(terms.blob_seconds)]
        if self._run(TOUCH, place, [_number_of(at), int(is_foreseen), *lives]):
            self._prolong(place, terms)

    def _prolong(self, place: Place, terms: Terms) -> None:
        """Let the blobs live longer. A commit meanwhile does so for its own; a death on the way leaves it to do."""
        if terms.blob_seconds is None:
            return
        ends, digests = self._run(SPAN, place, [_milliseconds(terms.blob_seconds)])
        for chunk in _chunks([digest.decode() for digest in digests], AT_ONCE):
            self._run(PROLONG, place, [ends, ""], _blob_keys(chunk))
        self._run(PROLONG, place, [ends, 1])

    def adopt(self, place: Place, *, written_in: str, epoch: str) -> None:
        self._run(ADOPT, place, [written_in, epoch])

    def survived_until(self, epoch: str) -> datetime | None:
        survived = self.link.survived_until(epoch)
        return None if survived is None else _time(survived)

    def end(self, place: Place) -> None:
        self._run(END, place, [_milliseconds(ENDED_SECONDS)])

    # Generations

    def commit(self, place: Place, base_generation: int, change: Change, terms: Terms) -> Refused | None:
        args: list[Argument] = [
            *(base_generation, change.manifest, change.snapshot, _call_text(change.call)),
            *(_milliseconds(terms.touch_seconds), terms.history),
            *(_milliseconds(terms.record_seconds), _milliseconds(terms.blob_seconds)),
        ]
        for digest, body in change.blobs.items():
            args += [digest, body]
        return _refusal(place, self._run(COMMIT, place, args, _blob_keys(change.blobs)))

    def copy(
        self, place: Place, generation: int | None, terms: Terms, *, revocation: Revocation | None = None
    ) -> RemoteHead | Refused:
        args: list[Argument] = [
            *("" if generation is None else generation, _milliseconds(terms.touch_seconds), terms.history),
            _milliseconds(terms.record_seconds),
        ]
        if revocation is None:
            args += [""]
        elif revocation.fingerprint is not None:
            args += ["one", revocation.fingerprint, revocation.limit]
        else:
            args += ["up to", "" if revocation.up_to_generation is None else revocation.up_to_generation]
        answer = self._run(COPY, place, args)
        return _refusal(place, answer) or _head(place, answer[1])

    def fork(
        self, source: Place, generation: int | None, made: Identity, terms: Terms, *, is_foreseen: bool
    ) -> Forked | Refused:
        new = made.place
        self._prolong(source, terms)
        args: list[Argument] = [
            *("" if generation is None else generation, terms.history, new.id, _identity_text(made)),
            *(_number_of(made.created_at), int(is_foreseen), _milliseconds(terms.record_seconds)),
        ]
        answer = self._run(FORK, source, args, [f"c:{new.id}", f"l:{new.id}", f"m:{new.id}"])
        if refused := _refusal(source, answer):
            return refused
        return Forked(snapshot="" if answer[2] == b"-" else answer[2].decode(), manifest=answer[3])

    def history(self, place: Place, history: int) -> list[RemoteGeneration]:
        head, pairs = self._run(HISTORY, place)
        lines = sorted(((int(pairs[at]), pairs[at + 1]) for at in range(0, len(pairs), 2)), reverse=True)
        newest = int(head or 0)
        return [_generation(number, line) for number, line in lines if number > newest - history]

    def blobs(self, family: str, digests: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        tag = _tag(family)
        with self.link.outages():
            for chunk in _chunks(digests, AT_ONCE):
                bodies = self.link.client.mget([self.link.key(tag, key) for key in _blob_keys(chunk)])
                pairs = zip(chunk, cast("list[bytes | None]", bodies), strict=True)
                found |= {digest: body for digest, body in pairs if body is not None}
        return found

    def note(self, place: Place, call: CallNote, *, kept: int, created: datetime | None = None) -> None:
        self._run(NOTE, place, [_call_text(call), kept, "" if created is None else _exact(created)])

    def notes(self, place: Place, limit: int) -> list[RemoteNote]:
        if limit <= 0:
            return []
        with self.link.outages():
            key = self.link.key(_tag(place.family), f"n:{place.id}")
            lines = cast("list[bytes]", self.link.client.lrange(key, 0, limit - 1))
        notes = []
        for line in lines:
            created, order, call = line.split(b" ", 2)
            notes.append(RemoteNote(call=CallNote(**json.loads(call)), created=_time(created), order=int(order)))
        return notes

    # Moves

    def bring(
        self, place: Place, lines: Sequence[RemoteGeneration], manifests: Mapping[int, bytes], terms: Terms
    ) -> None:
        args: list[Argument] = [place.id, _milliseconds(terms.record_seconds)]
        for line in lines:
            args += [line.line.number, _line_text(line), manifests[line.line.number]]
        self._run(BRING, place, args)

    def bring_blobs(self, family: str, blobs: Mapping[str, bytes], terms: Terms) -> None:
        args: list[Argument] = [_milliseconds(terms.blob_seconds)]
        for digest, body in blobs.items():
            args += [digest, body]
        self._run(KEEP, Place(family=family, id=family), args, _blob_keys(blobs))

    def arrive(
        self, identity: Identity, arrival: Moving, head: Arrival, notes: Sequence[RemoteNote], terms: Terms
    ) -> Moving | None:
        place = identity.place
        args: list[Argument] = [
            *(place.id, _identity_text(identity), microseconds(arrival.ticket), head.generation, head.cut, head.order),
            *(head.revoked_up_to, json.dumps(sorted(head.revoked_tokens)), _number_of(head.touched_at)),
            _milliseconds(terms.record_seconds),
        ]
        args += [f"{_exact(note.created)} {note.order} {_call_text(note.call)}" for note in reversed(notes)]
        there = self._run(ARRIVE, place, args)
        if there is None:
            return None
        return Moving.read(there.decode()) if there else IN_USE

    def open(self, place: Place, arrival: Moving) -> None:
        self._run(OPEN, place, [arrival.text])

    def seal(self, place: Place, generation: int, departure: Moving) -> bool:
        return bool(self._run(SEAL, place, [generation, microseconds(departure.ticket)]))

    def unseal(self, place: Place, departure: Moving) -> None:
        self._run(UNSEAL, place, [departure.text])

    def give_up(self, place: Place, moving: Moving) -> bool:
        return bool(self._run(GIVE_UP, place, [moving.text]))

    def is_deserted(self, family: str) -> bool:
        with self.link.outages():
            return not self.link.client.exists(self.link.key(_tag(family), "members"))

    # Collection

    def forget(self, place: Place, *, is_dry: bool = False) -> int:
        return int(self._run(FORGET, place, [place.id, int(is_dry)]))

    def snapshots(self, family: str) -> dict[str, tuple[Place, int]] | None:
        found: dict[str, tuple[Place, int]] = {}
        for _ in range(_LIST_ROUNDS):
            with self.link.outages():
                members = cast("set[bytes]", self.link.client.smembers(self.link.key(_tag(family), "members")))
            ids = sorted(member.decode() for member in members)
            keys = [f"{what}:{member}" for member in ids for what in ("c", "l")]
            answer = self._run(LIST, Place(family=family, id=family), ids, keys)
            if answer is None:
                continue
            for member, *lines in answer:
                place = Place(family=family, id=member.decode())
                for at in range(0, len(lines), 2):
                    if lines[at + 1] != b"-":
                        found[lines[at + 1].decode()] = (place, int(lines[at]))
            return found
        return None

    def manifests(self, chosen: Iterable[tuple[Place, int]]) -> dict[tuple[Place, int], bytes]:
        numbers: dict[Place, list[int]] = {}
        for place, number in chosen:
            numbers.setdefault(place, []).append(number)
        keys = [self.link.key(_tag(place.family), f"m:{place.id}") for place in numbers]
        answers = self.link.send([("HMGET", key, *wanted) for key, wanted in zip(keys, numbers.values(), strict=True)])
        return {
            (place, number): manifest
            for (place, wanted), found in zip(numbers.items(), answers, strict=True)
            for number, manifest in zip(wanted, found, strict=True)
            if manifest is not None
        }

    def kept_blobs(self, family: str) -> tuple[datetime, list[KeptBlob]]:
        place = Place(family=family, id=family)
        now, pairs = self._run(BLOBS, place)
        touched = {pairs[at].decode(): _time(float(pairs[at + 1])) for at in range(0, len(pairs), 2)}
        kept: list[KeptBlob] = []
        for chunk in _chunks(sorted(touched), AT_ONCE):
            _, sizes = self._run(BLOBS, place, chunk, _blob_keys(chunk))
            kept += [
                KeptBlob(digest=digest, size=size, touched_at=touched[digest])
                for digest, size in zip(chunk, sizes, strict=True)
            ]
        return _time(now), kept

    def drop_blobs(self, family: str, digests: Collection[str], *, before: datetime) -> set[str]:
        gone: set[str] = set()
        for chunk in _chunks(sorted(digests), AT_ONCE):
            args = [_number_of(before), *chunk]
            found = self._run(DROP, Place(family=family, id=family), args, _blob_keys(chunk))
            gone.update(digest.decode() for digest in found)
        return gone

    def _run(self, step: Step, place: Place, args: Sequence[Argument] = (), keys: Sequence[str] = ()) -> Any:
        own = [*(f"{what}:{place.id}" for what in "clmn"), "members", "blobs", "span", *keys]
        return self.link.run(step, _tag(place.family), own, args)


def _tag(family: str) -> str:
    return f"f:{family}"


def _blob_keys(digests: Iterable[str]) -> list[str]:
    return [f"b:{digest}" for digest in digests]


def _milliseconds(seconds: float | None) -> int | str:
    return "" if seconds is None else max(1, round(seconds * 1000))


def _number_of(at: datetime) -> int:
    return (at - _EPOCH_START) // timedelta(milliseconds=1)


def _time(milliseconds: bytes | float) -> datetime:
    return _EPOCH_START + timedelta(milliseconds=float(milliseconds))


def _identity_text(identity: Identity) -> str:
    told = {name: getattr(identity, name) for name in ("kind", "server", "tenant", "principal", "user")}
    return json.dumps({**told, "created": identity.created_at.isoformat()}, separators=(",", ":"))


def _identity(place: Place, text: bytes) -> Identity:
    told = json.loads(text)
    created = datetime.fromisoformat(told.pop("created"))
    return Identity(place=place, kind=cast("Kind", told.pop("kind")), created_at=created, **told)


def _head(place: Place, answer: Sequence[Any]) -> RemoteHead:
    identity, ended, generation, up_to, tokens, touched, foreseen, garbage, written_in, moving = answer[:10]
    epoch, now, chosen, line, manifest = answer[10:]
    address: str | None = "" if chosen == b"0" else None
    if line is not None and manifest is not None:
        address = line.split(b" ", 5)[4].decode()
    return RemoteHead(
        identity=_identity(place, identity),
        is_ended=ended is not None,
        generation=int(generation),
        chosen=int(chosen),
        snapshot="" if address == "-" else address,
        manifest=manifest or b"",
        revoked_up_to=int(up_to),
        revoked_tokens=frozenset(json.loads(tokens)),
        touched_at=_time(touched),
        is_foreseen=foreseen is not None,
        has_garbage=garbage is not None,
        written_in=written_in.decode(),
        epoch=epoch.decode(),
        now=_time(now),
        moving=None if moving is None else Moving.read(moving.decode()),
    )


def _refusal(place: Place, answer: Sequence[Any]) -> Refused | None:
    if answer[0] != b"refused":
        return None
    head = answer[2] if len(answer) > 2 else None
    return Refused(why=cast("Refusal", answer[1].decode()), head=_head(place, head) if head else None)


def _generation(number: int, line: bytes) -> RemoteGeneration:
    created, order, size, copied, address, call = line.split(b" ", 5)
    return RemoteGeneration(
        line=Generation(
            number=number,
            snapshot="" if address == b"-" else address.decode(),
            created=_time(created),
            bytes=int(size),
            call=CallNote(**json.loads(call)) if call else None,
            copied_from=None if copied == b"-" else int(copied),
        ),
        order=int(order),
    )


def _line_text(one: RemoteGeneration) -> str:
    line = one.line
    copied = "-" if line.copied_from is None else line.copied_from
    call = _call_text(line.call)
    return f"{_exact(line.created)} {one.order} {line.bytes} {copied} {line.snapshot or '-'} {call}"


def _exact(at: datetime) -> str:
    """Return a time that another store kept, in milliseconds to three decimals."""
    whole, rest = divmod(microseconds(at), 1_000)
    return f"{whole}.{rest:03}" if rest else str(whole)


def _call_text(call: CallNote | None) -> str:
    return "" if call is None else json.dumps(asdict(call), separators=(",", ":"))


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
