"""`manage.py mcp gc`: what is over goes, what is needed stays, and the command says how much it was."""

import io
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings

from django_mcp.core.manifest import build, entry_of
from django_mcp.core.principal import Principal, scope_digest
from django_mcp.core.value import to_bytes
from django_mcp.exceptions import ConfigurationError
from django_mcp.models import Blob, Claim, Conversation, MCPSession, Snapshot
from django_mcp.models.session import TOMBSTONE_DAYS
from django_mcp.sessions.stores import ConversationRecord, state_store, store
from django_mcp.sessions.stores.database import DatabaseStore

pytestmark = pytest.mark.django_db

ALICE = Principal(kind="user", id="1")
LARGE = b"x" * 20_000
DATABASE = "django_mcp.sessions.stores.database.DatabaseStore"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(*words: str, stderr: io.StringIO | None = None) -> tuple[str, str]:
    stdout, stderr = io.StringIO(), stderr or io.StringIO()
    call_command("mcp", "gc", *words, stdout=stdout, stderr=stderr, no_color=True)
    return stdout.getvalue(), stderr.getvalue()


def counted(stdout: str) -> list[list[str]]:
    heading, *rows = [line.split() for line in stdout.splitlines()[:-2]]
    assert heading == ["store", "expired", "conversations", "snapshots", "blobs", "bytes", "records"]
    return rows


def kept(*values: Any) -> ConversationRecord:
    """Return a conversation that has a generation for each value, under one key."""
    state = state_store()
    head = state.begin(server="s", tenant="", principal=ALICE)
    for value in values:
        data = to_bytes(value)
        entry = entry_of(data, inline_bytes=100)
        packed = build({"key": entry})
        blobs = packed.blobs | ({} if len(data) <= 100 else {entry.digest: data})  # type: ignore[union-attr]
        head = state.commit(
            head.conversation,
            base_generation=head.generation,
            manifest=packed.root,
            snapshot=packed.address,
            blobs=blobs,
        )
    return head.conversation


def make_due(*records: ConversationRecord) -> None:
    rows = Conversation.objects.filter(pk__in=[record.id for record in records])
    rows.update(last_used_at=timezone.now() - timedelta(days=8))


def age_blobs() -> None:
    Blob.objects.update(touched_at=timezone.now() - timedelta(hours=1))


def begin_session(**changes: Any) -> None:
    session, _ = MCPSession.objects.begin(
        server="s", principal=ALICE, protocol_version="2025-11-25", client_info={}, capabilities={}
    )
    MCPSession.objects.filter(pk=session.pk).update(**changes)


def claim(key: str, **changes: Any) -> None:
    store().claim("s", scope_digest("", ALICE), key, lease_seconds=30, lifetime_seconds=60)
    Claim.objects.filter(expires_at__gt=timezone.now()).update(**changes)


def test_what_is_over_goes_and_what_is_needed_stays() -> None:
    live = kept(LARGE, 1)
    due = kept("y" * 30_000)
    make_due(due)
    age_blobs()
    stdout, stderr = run()
    assert counted(stdout) == [["default", "1", "0", "1", "1", "30002", "0"]]
    assert stdout.splitlines()[-2] == "Sessions that are over: 0"
    assert stderr == ""
    assert Conversation.objects.get(pk=due.id).state == "expired"
    assert not Snapshot.objects.filter(conversation_id=due.id).exists()
    assert state_store().snapshot(live, 1).manifest
    assert {blob.family_id for blob in Blob.objects.all()} == {live.id}
    assert counted(run()[0]) == [["default", "0", "0", "0", "0", "0", "0"]]


def test_rounds_follow_each_other_until_nothing_is_left_and_each_is_told() -> None:
    make_due(*(kept("y" * 200) for _ in range(5)))
    age_blobs()
    stdout, stderr = run("--limit", "2")
    assert counted(stdout)[0][:5] == ["default", "5", "0", "5", "5"]
    first, *others = stderr.splitlines()
    assert first == "default, round 1: 2 expired, 0 conversations, 2 snapshots, 2 blobs, 404 bytes"
    assert [line.partition(":")[0] for line in others] == ["default, round 2"]
    assert not Snapshot.objects.exists()


def test_on_a_terminal_one_line_shows_the_rounds_and_goes() -> None:
    make_due(*(kept(1) for _ in range(3)))
    _, stderr = run("--limit", "2", stderr=Terminal())
    line = "default, round 1: 2 expired, 0 conversations, 2 snapshots, 0 blobs, 0 bytes"
    assert stderr == f"{line}\r{' ' * len(line)}\r"


def test_conversations_that_ended_long_ago_are_forgotten() -> None:
    record = kept(1)
    state_store().revoke(record)
    run()
    Conversation.objects.update(ended_at=timezone.now() - timedelta(days=15))
    assert counted(run()[0])[0][:3] == ["default", "0", "1"]
    assert not Conversation.objects.exists()


def test_sessions_and_records_that_are_over_go_too() -> None:
    begin_session()
    begin_session(last_used_at=timezone.now() - timedelta(hours=1))
    begin_session(state="terminated", ended_at=timezone.now() - timedelta(days=TOMBSTONE_DAYS))
    over = timezone.now() - timedelta(minutes=1)
    claim("over", expires_at=over, lease_until=over)
    claim("live")
    stdout, _ = run()
    assert counted(stdout)[0][-1] == "1"
    assert stdout.splitlines()[-2] == "Sessions that are over: 2"
    assert sorted(MCPSession.objects.values_list("state", flat=True)) == ["active", "expired"]
    assert Claim.objects.count() == 1


def test_more_than_a_sweep_takes_goes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_mcp.models.session.SWEEP_ROWS", 2)
    for _ in range(5):
        begin_session(last_used_at=timezone.now() - timedelta(hours=1))
    assert run()[0].splitlines()[-2] == "Sessions that are over: 5"


def test_a_dry_run_counts_and_changes_nothing() -> None:
    due, ended = kept("y" * 30_000), kept(LARGE)
    make_due(due)
    state_store().revoke(ended)
    age_blobs()
    begin_session(last_used_at=timezone.now() - timedelta(hours=1))
    begin_session(state="terminated", ended_at=timezone.now() - timedelta(days=TOMBSTONE_DAYS))
    over = timezone.now() - timedelta(minutes=1)
    claim("over", expires_at=over, lease_until=over)
    everything = [
        list(rows.objects.order_by("pk").values()) for rows in (Conversation, Snapshot, Blob, MCPSession, Claim)
    ]
    stdout, stderr = run("--dry-run")
    assert counted(stdout)[0] == ["default", "1", "0", "1", "1", str(len(to_bytes(LARGE))), "-"]
    assert stdout.splitlines()[-2] == "Sessions that are over: 2"
    assert stderr == "Nothing was changed.\n"
    assert everything == [
        list(rows.objects.order_by("pk").values()) for rows in (Conversation, Snapshot, Blob, MCPSession, Claim)
    ]


def test_a_dry_run_ends_where_there_is_more_than_a_round_takes() -> None:
    for _ in range(3):
        state_store().revoke(kept(1))
    stdout, stderr = run("--dry-run", "--limit", "2")
    assert counted(stdout)[0][3] == "2"
    assert stderr == "Nothing was changed. There is more than a round takes.\n"


class RecordsOnly(DatabaseStore):
    """A store that keeps no conversations."""

    @property
    def state(self) -> NoReturn:
        raise ConfigurationError("None here.")


def test_every_alias_is_collected_and_one_without_conversations_is_swept(settings: Settings) -> None:
    settings.DJANGO_MCP = {
        "STORES": {"default": {"BACKEND": DATABASE}, "records": {"BACKEND": f"{__name__}.RecordsOnly"}}
    }
    make_due(kept(1))
    assert counted(run()[0]) == [
        ["default", "1", "0", "1", "0", "0", "0"],
        ["records", "-", "-", "-", "-", "-", "0"],
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--limit", "0"), "'0' is not a whole number, 1 or more"),
        (("--limit", "-1"), "'-1' is not a whole number, 1 or more"),
        (("--limit", "x"), "'x' is not a whole number, 1 or more"),
    ],
)
def test_a_limit_that_is_none_is_told(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run(*words)


def test_a_store_that_cannot_be_made_is_told_in_one_line(settings: Settings) -> None:
    settings.DJANGO_MCP = {"STORES": {"default": {"BACKEND": "no.Such"}}}
    with pytest.raises(CommandError) as caught:
        run()
    assert str(caught.value) == "DJANGO_MCP['STORES']['default']: 'no.Such' cannot be imported: No module named 'no'"
