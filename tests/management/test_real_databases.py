"""The operators' verbs on PostgreSQL and MariaDB, where everything of the project is."""

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings

from django_mcp.authentication import principal_of
from django_mcp.core.address import address
from django_mcp.core.manifest import build, entry_of
from django_mcp.core.value import to_bytes
from django_mcp.models import Blob, Conversation, MCPSession, Snapshot
from django_mcp.sessions.stores import state_store

LARGE = to_bytes("x" * 9_000)


class Everything:
    """Routes all models to one database."""

    alias = ""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return self.alias

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return self.alias


@pytest.fixture
def database(concurrent_database: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(Everything, "alias", concurrent_database)
    settings.DATABASE_ROUTERS = [f"{__name__}.Everything"]
    backend = "django_mcp.sessions.stores.database.DatabaseStore"
    settings.DJANGO_MCP = {
        "SERVER_NAME": "desk",
        "STORES": {"default": {"BACKEND": backend, "OPTIONS": {"USING": concurrent_database}}},
    }
    return concurrent_database


def run(*words: str) -> str:
    stdout = io.StringIO()
    call_command("mcp", *words, stdout=stdout, stderr=io.StringIO(), no_color=True)
    return stdout.getvalue()


def test_a_conversation_is_listed_copied_ended_and_collected(database: str, tmp_path: Path) -> None:
    user = User.objects.create_user("alice")
    state = state_store()
    begun = state.begin(server="desk", tenant="", principal=principal_of(user), user=user).conversation
    for entries in ({"a": to_bytes(1)}, {"a": to_bytes(2), "large": LARGE}):
        packed = build({key: entry_of(data, inline_bytes=100) for key, data in entries.items()})
        generation = state.inspect(begun.id).generation
        state.commit(
            begun,
            base_generation=generation,
            manifest=packed.root,
            snapshot=packed.address,
            blobs={address(LARGE): LARGE} if generation else {},
        )
    start = begun.id[:12]
    listing = ("conversations", "list", "--user", "alice", "--server", "default", "--tenant", "", "--state", "active")
    assert [line.split()[0] for line in run(*listing).splitlines()] == ["id", begun.id[:8]]
    assert "'large'  str   9002" in run("conversations", "show", start)
    assert run("conversations", "diff", start, "1", "2").startswith("~ 'a': 1 -> 2\n+ 'large': <9002 bytes, ")
    (tmp_path / "state.json").write_text(run("conversations", "export", start))
    copy = run("conversations", "import", str(tmp_path / "state.json"), "--user", "alice").split()[0]
    assert json.loads(run("conversations", "export", copy))["state"]["large"] == "x" * 9_000
    fork = run("conversations", "fork", start).split()[0]
    assert "is at generation 3" in run("conversations", "rewind", start, "1")
    assert "is revoked" in run("conversations", "revoke", start)
    assert "up to generation 1" in run("conversations", "revoke", copy, "--tokens")
    assert "is expired" in run("conversations", "expire", fork)
    Blob.objects.update(touched_at=timezone.now() - timedelta(hours=1))
    heading, counts, *_ = run("gc", "--limit", "1").splitlines()
    assert dict(zip(heading.split(), counts.split(), strict=True)) == {
        "store": "default",
        "expired": "0",
        "conversations": "0",
        "snapshots": "4",
        "blobs": "1",
        "bytes": "9002",
        "records": "0",
    }
    assert set(Snapshot.objects.values_list("conversation_id", flat=True)) == {copy}
    assert Conversation.objects.active().count() == 1


def test_a_session_is_listed_and_ended(database: str) -> None:
    user = User.objects.create_user("alice")
    session, _ = MCPSession.objects.begin(
        server="desk",
        principal=principal_of(user),
        user=user,
        protocol_version="2025-11-25",
        client_info={},
        capabilities={},
    )
    assert run("sessions", "list", "--user", "alice").splitlines()[1].startswith(session.fingerprint)
    assert run("sessions", "revoke", session.key[:20]) == f"Session {session.fingerprint} is revoked.\n"
    assert run("sessions", "list", "--state", "active") == ""
