"""A log store that is filled at random from a seed, and what can be read of it by the contract."""

import random
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django_mcp.core.principal import Principal, scope_digest
from django_mcp.sessions.stores import CallHold, CallRecord, Claimed, LogStore, NewCall, QuestionRecord
from django_mcp.sessions.stores.base import ChangeKind
from django_mcp.sessions.stores.streams import MAX_EVENTS

TEXTS = ("", "né", 'a"b\\', "🙂 \ud800", "x" * 3_000)
PRINCIPALS = tuple(Principal(kind="user", id=str(number)) for number in range(2))
ALL = 100_000


@dataclass(kw_only=True)
class Content:
    """The names of what was put into a store; who keeps them may use it at another store too."""

    servers: list[str] = field(default_factory=list)
    streams: list[tuple[str, str]] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    calls: list[CallHold] = field(default_factory=list)
    questions: list[tuple[str, str]] = field(default_factory=list)
    claims: list[tuple[str, str, str]] = field(default_factory=list)
    results: list[tuple[str, str, str, Principal]] = field(default_factory=list)
    cursors: list[tuple[str, int]] = field(default_factory=list)


def fill(store: LogStore, seed: int) -> Content:
    """Put something of everything into a store. Nothing runs any more, and nothing is over while a test lasts."""
    chance = random.Random(seed)
    made = Content(servers=[f"server-{secrets.token_hex(4)}-né" for _ in range(2)])
    for server in made.servers:
        made.cursors.append((server, store.changes_since(server, None)[0]))
        for _ in range(chance.choice((1, 2, 4))):
            kind: ChangeKind = chance.choice(("tools", "prompts", "resource"))
            store.publish_change(server, kind, f"file:///{chance.choice(TEXTS)}" if kind == "resource" else "")
            made.cursors.append((server, store.changes_since(server, None)[0]))
    for _ in range(chance.randint(2, 4)):
        _fill_session(store, chance, made)
    for _ in range(chance.randint(1, 3)):
        _fill_calls(store, chance, made, None)
    for _ in range(chance.randint(3, 8)):
        _fill_claim(store, chance, made)
    for _ in range(chance.randint(1, 4)):
        tenant, principal, server = chance.choice(TEXTS[:2]), chance.choice(PRINCIPALS), chance.choice(made.servers)
        body = chance.randbytes(chance.choice((0, 10, 5_000)))
        name = store.put_result(server, tenant, principal, "text/plain", body, lifetime_seconds=900)
        made.results.append((name, server, tenant, principal))
    return made


def _body(chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice((0, 1, 200, 9_000)))


def _fill_session(store: LogStore, chance: random.Random, made: Content) -> None:
    session = secrets.token_hex(32)
    made.sessions.append(session)
    for _ in range(chance.randint(0, 3)):
        stream = store.open_stream(session, "standalone")
        made.streams.append((session, stream))
        for _ in range(chance.randint(0, 3)):
            store.push(session, [_body(chance) for _ in range(chance.randint(1, 4))])
        if chance.random() < 0.2:
            store.push(session, [b"%d" % number for number in range(MAX_EVENTS)])
        if chance.random() < 0.5:
            store.take_reader(session, stream)
        store.feed_changes(session, after=store.change_cursor(session), upto=chance.randint(1, 9), bodies=[b"tools"])
    for _ in range(chance.randint(0, 3)):
        stream = store.open_stream(session, "post")
        made.streams.append((session, stream))
        for _ in range(chance.randint(0, 4)):
            store.append(session, stream, [_body(chance) for _ in range(chance.randint(1, 4))])
        if chance.random() < 0.5:
            _fill_calls(store, chance, made, session, stream)
        elif chance.random() < 0.5:
            store.append(session, stream, [b"terminal"], close=True)
    for _ in range(chance.randint(0, 4)):
        call = chance.choice(("", secrets.token_hex(16)))
        question = store.ask(
            session, lifetime_seconds=chance.choice((0, 900)), call=call, key=chance.choice(TEXTS[:3])
        )
        made.questions.append((session, question))
        if chance.random() < 0.4:
            store.answer(session, question, {"text": chance.choice(TEXTS), "n": [1, 2.5, None]})
        elif chance.random() < 0.3:
            store.withdraw(session, [question])


def _fill_calls(store: LogStore, chance: random.Random, made: Content, session: str | None, stream: str = "") -> None:
    calls = [
        NewCall(request_id=f'"{number}"', digest=secrets.token_hex(32), payload=chance.choice(TEXTS[:3]))
        for number in range(chance.randint(1, 3))
    ]
    holds = store.begin_calls(
        chance.choice(made.servers), "scope", calls, owner="one", lease_seconds=60, session=session, stream=stream
    )
    made.calls += holds
    for hold in holds:
        if chance.random() < 0.5:
            store.note_progress(hold, chance.random() * 100)
        store.finish_call(hold, chance.choice(("succeeded", "failed", "cancelled")), event=_body(chance))


def _fill_claim(store: LogStore, chance: random.Random, made: Content) -> None:
    name = (
        chance.choice(made.servers),
        scope_digest("", chance.choice(PRINCIPALS)),
        chance.choice(TEXTS) + secrets.token_hex(4),
    )
    claimed = store.claim(
        *name, lease_seconds=chance.choice((0, 600)), lifetime_seconds=900, digest=chance.choice(("", "d" * 64))
    )
    assert isinstance(claimed, Claimed)
    made.claims.append(name)
    if chance.random() < 0.5:
        store.settle(*name, claimed.fence, {"text": chance.choice(TEXTS)})


def reads(store: LogStore, made: Content) -> dict[str, Any]:
    """Return all that the contract tells of what was made, by times to the millisecond."""
    return {
        "streams": {name: store.read_stream(session, name, limit=ALL) for session, name in made.streams},
        "ends": {name: store.read_stream(session, name, 2, limit=1) for session, name in made.streams},
        "cursors": {session: store.change_cursor(session) for session in made.sessions},
        "calls": {hold.id: _call(store.find_call(hold.id)) for hold in made.calls},
        "questions": {
            name: _question(store.read_questions(session, [name])[name]) for session, name in made.questions
        },
        "asked": {
            record.call: {question.id for question in store.questions_of(record.call)}
            for session, name in made.questions
            for record in store.read_questions(session, [name]).values()
        },
        "claims": {
            name: [store.peek(*name), store.peek(*name, digest="d" * 64), store.peek(*name, digest="")]
            for name in made.claims
        },
        "results": [
            store.get_result(name, server=server, tenant=tenant, principal=principal)
            for name, server, tenant, principal in made.results
        ],
        "changes": [store.changes_since(server, cursor) for server, cursor in made.cursors],
        "newest": [store.changes_since(server, None) for server in made.servers],
    }


def pushes(store: LogStore, made: Content) -> list[str | None]:
    """Return to which stream of each session goes what is pushed."""
    return [store.push(session, [b"pushed"]) for session in made.sessions]


def _call(record: CallRecord | None) -> CallRecord | None:
    if record is None:
        return None
    ended = None if record.ended_at is None else _rounded(record.ended_at)
    lease, begun = _rounded(record.lease_until), _rounded(record.begun_at)
    return replace(record, lease_until=lease, begun_at=begun, ended_at=ended)


def _question(record: QuestionRecord) -> QuestionRecord:
    return replace(record, asked_at=_rounded(record.asked_at), expires_at=_rounded(record.expires_at))


def _rounded(moment: datetime) -> Any:
    return round(moment.timestamp() * 1_000)
