"""Which of two records of one thing stays, decided without a store."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from django_mcp.sessions.stores.kept import KeptChanges, KeptClaim, Notice, joined_changes, replaces_claim

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=30)
RUNNING = KeptClaim(
    server="s",
    scope="scope",
    key_digest="k",
    digest="d",
    state="running",
    fence=7,
    outcome="",
    lease_until=LATER,
    expires_at=NOW + timedelta(days=1),
)
DONE = replace(RUNNING, state="done", outcome="1")
ABANDONED = replace(RUNNING, lease_until=NOW)


@pytest.mark.parametrize(
    ("moved", "kept", "is_replaced"),
    [
        (RUNNING, None, True),
        (DONE, None, True),
        (replace(DONE, expires_at=NOW), None, False),
        (replace(RUNNING, expires_at=NOW), None, True),
        (RUNNING, replace(DONE, expires_at=NOW), True),
        (RUNNING, RUNNING, False),
        (DONE, RUNNING, True),
        (RUNNING, DONE, False),
        (replace(DONE, outcome="2"), DONE, False),
        (RUNNING, ABANDONED, True),
        (ABANDONED, RUNNING, False),
        (replace(DONE, digest="other"), RUNNING, False),
        (replace(DONE, fence=8), RUNNING, True),
        (replace(DONE, fence=6), RUNNING, False),
        (replace(RUNNING, fence=8), RUNNING, False),
        (replace(RUNNING, fence=8), ABANDONED, True),
        (replace(RUNNING, fence=6), ABANDONED, False),
    ],
)
def test_which_claim_stays(moved: KeptClaim, kept: KeptClaim | None, is_replaced: bool) -> None:
    assert replaces_claim(moved, kept, NOW) is is_replaced


def changes(*numbers: int, last: int | None = None, kind: str = "tools") -> KeptChanges:
    notices = tuple(Notice(number=number, kind=kind, uri="", at=NOW) for number in numbers)
    return KeptChanges(server="s", last=numbers[-1] if last is None else last, notices=notices)


@pytest.mark.parametrize(
    ("moved", "kept", "joined"),
    [
        (changes(1, 2), None, changes(1, 2)),
        (changes(1, 2), changes(1, 2), None),
        (changes(1, 2), changes(1, 2, 3), None),
        (changes(1, 2, 3), changes(1, 2), changes(1, 2, 3)),
        (changes(1, 2), changes(5, 6), None),
        (changes(last=4), changes(last=4), None),
        (changes(last=4), changes(5, 6), None),
        (changes(5, 6), changes(last=4), changes(5, 6)),
        (changes(1, 2), changes(1, 2, kind="prompts"), changes(4)),
        (changes(1, 2, 3), changes(1, 2, kind="prompts"), changes(5)),
        (changes(8, 9), changes(1), changes(11)),
    ],
)
def test_which_changes_are_kept(moved: KeptChanges, kept: KeptChanges | None, joined: KeptChanges | None) -> None:
    assert joined_changes(moved, kept, NOW) == joined
    if joined is not None:
        assert joined_changes(moved, joined, NOW) is None
        assert joined == moved or joined.floor > moved.last
