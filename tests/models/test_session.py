"""Sessions: who may find one, how it ends, what bounds it, and its races on real servers."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import OperationalError, connections
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from django_mcp.core.principal import ANONYMOUS, Principal
from django_mcp.exceptions import LimitExceeded, Overloaded, SessionNotFound, StoreUnavailable
from django_mcp.models import MCPSession, SessionQuota
from django_mcp.models.session import IN_USE, SessionState, subscriber_address
from django_mcp.models.transactions import Pace
from tests.databases import together

ALICE = Principal(kind="oauth", id="alice")


def begin(using: str = "default", **changes: Any) -> tuple[MCPSession, str]:
    terms: dict[str, Any] = {
        "server": "desk",
        "principal": ALICE,
        "tenant": "",
        "user": None,
        "address": "192.0.2.1",
        "protocol_version": "2025-11-25",
        "client_info": {"name": "client", "version": "1.0"},
        "capabilities": {"elicitation": {}},
    }
    return MCPSession.objects.using(using).begin(**{**terms, **changes})


def find(session_id: str, using: str = "default", **changes: Any) -> MCPSession:
    terms: dict[str, Any] = {"server": "desk", "principal": ALICE, "tenant": "", "user": None}
    return MCPSession.objects.using(using).find(session_id, **{**terms, **changes})


def user_terms(user: User) -> dict[str, Any]:
    return {"principal": Principal(kind="user", id=str(user.pk)), "user": user}


def backdate(session: MCPSession, **ago: float) -> datetime:
    moment = timezone.now() - timedelta(**ago)
    MCPSession.objects.filter(pk=session.pk).update(last_used_at=moment)
    return moment


# Begin and find


@pytest.mark.django_db
def test_a_session_is_found_by_its_id_with_what_the_client_said() -> None:
    begun, session_id = begin(
        client_info={"name": "né\u0000\ud800", "title": "x"}, capabilities={"roots": {"a": None}}
    )
    assert len(session_id) == 43
    assert session_id.isascii()
    found = find(session_id)
    assert found == begun
    assert found.client_info_data == {"name": "né\u0000\ud800", "title": "x"}
    assert found.capabilities_data == {"roots": {"a": None}}
    assert found.client_name == "né??"
    assert found.client_info.isascii()
    assert (found.state, found.used, found.protocol_version) == (SessionState.ACTIVE, False, "2025-11-25")


@pytest.mark.django_db
def test_the_id_is_not_kept() -> None:
    session, session_id = begin()
    assert session_id not in json.dumps(list(MCPSession.objects.values()), default=str)
    assert session_id not in str(session)
    assert str(session) == f"{session.key[:8]}… oauth:alice"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "other",
    [
        {"server": "other"},
        {"server": "DESK"},
        {"tenant": "other"},
        {"principal": ANONYMOUS},
        {"principal": Principal(kind="oauth", id="ALICE")},
        {"principal": Principal(kind="user", id="alice")},
    ],
)
def test_a_session_of_somebody_else_is_not_found_and_stays_as_it_is(other: dict[str, Any]) -> None:
    _, session_id = begin()
    with pytest.raises(SessionNotFound, match=r"^Session not found$"):
        find(session_id, **other)
    assert find(session_id).state == SessionState.ACTIVE


@pytest.mark.django_db
@pytest.mark.parametrize("session_id", ["", "unknown", "\ud800", "x" * 100_000])
def test_an_unknown_id_is_not_found_and_not_created(session_id: str) -> None:
    with pytest.raises(SessionNotFound, match=r"^Session not found$"):
        find(session_id)
    assert MCPSession.objects.count() == 0


@pytest.mark.django_db
@pytest.mark.parametrize("end", ["terminate", "revoke", "expire"])
def test_an_ended_session_is_not_found_and_stays_ended(end: str) -> None:
    session, session_id = begin()
    assert getattr(session, end)()
    state, ended_at = session.state, session.ended_at
    assert ended_at is not None
    with pytest.raises(SessionNotFound, match=r"^Session not found$"):
        find(session_id)
    for again in ("terminate", "revoke", "expire"):
        assert not getattr(session, again)()
    assert (session.state, session.ended_at) == (state, ended_at)


@pytest.mark.django_db
def test_a_session_does_not_end_as_active() -> None:
    with pytest.raises(ValueError, match="A session does not end as active"):
        MCPSession.objects.end(SessionState.ACTIVE)


@pytest.mark.django_db
def test_a_session_of_a_user_is_found_by_that_user() -> None:
    user = User.objects.create_user("alice", password="one")
    session, session_id = begin(**user_terms(user))
    assert find(session_id, **user_terms(user)) == session
    assert session.user == user


@pytest.mark.django_db
@pytest.mark.parametrize("change", ["password", "inactive"])
def test_a_changed_password_or_an_inactive_user_revokes_the_session(change: str) -> None:
    user = User.objects.create_user("alice", password="one")
    session, session_id = begin(**user_terms(user))
    if change == "password":
        user.set_password("two")
    else:
        user.is_active = False
    user.save()
    with pytest.raises(SessionNotFound, match=r"^Session not found$"):
        find(session_id, **user_terms(user))
    session.refresh_from_db()
    assert session.state == SessionState.REVOKED


@pytest.mark.django_db
def test_a_deleted_user_takes_the_session_along() -> None:
    user = User.objects.create_user("alice")
    _, session_id = begin(**user_terms(user))
    terms = user_terms(user)
    User.objects.get().delete()
    with pytest.raises(SessionNotFound):
        find(session_id, **terms)


@pytest.mark.django_db
def test_a_rotated_secret_key_ends_no_session(settings: Settings) -> None:
    user = User.objects.create_user("alice", password="one")
    _, session_id = begin(**user_terms(user))
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a new secret key of the tests, as long as the former one was, or longer"
    assert find(session_id, **user_terms(user)).state == SessionState.ACTIVE
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(SessionNotFound):
        find(session_id, **user_terms(user))


@pytest.mark.django_db
def test_an_anonymous_session_has_no_user() -> None:
    session, session_id = begin(principal=ANONYMOUS, user=AnonymousUser())
    assert session.user is None
    assert find(session_id, principal=ANONYMOUS, user=AnonymousUser()) == session
    assert find(session_id, principal=ANONYMOUS) == session


# Time


@pytest.mark.django_db
def test_a_session_that_was_never_used_ends_after_half_an_hour() -> None:
    session, session_id = begin()
    backdate(session, minutes=29)
    assert find(session_id) == session
    backdate(session, minutes=30)
    with pytest.raises(SessionNotFound):
        find(session_id)
    session.refresh_from_db()
    assert session.state == SessionState.EXPIRED


@pytest.mark.django_db
def test_a_used_session_ends_after_seven_idle_days() -> None:
    session, session_id = begin()
    session.mark_used()
    backdate(session, days=6.9)
    assert find(session_id).used
    backdate(session, days=7)
    with pytest.raises(SessionNotFound):
        find(session_id)


@pytest.mark.django_db
def test_a_session_touched_elsewhere_meanwhile_does_not_expire() -> None:
    session, session_id = begin()
    backdate(session, minutes=31)
    touched: list[str] = []

    def touch_before_the_first_write(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("UPDATE") and not touched:
            touched.append(sql)
            MCPSession.objects.update(last_used_at=timezone.now())
        return execute(sql, params, many, context)

    with connections["default"].execute_wrapper(touch_before_the_first_write):
        assert find(session_id) == session
    assert len(touched) == 1
    session.refresh_from_db()
    assert session.state == SessionState.ACTIVE


@pytest.mark.django_db
def test_a_request_costs_one_query_and_a_touch_a_minute(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    session, session_id = begin()
    with django_assert_num_queries(1):
        find(session_id)
    before = backdate(session, seconds=61)
    with django_assert_num_queries(4):  # the read, and the update between its savepoint
        found = find(session_id)
    session.refresh_from_db()
    assert session.last_used_at == found.last_used_at > before


@pytest.mark.django_db
def test_a_sweep_expires_what_is_due_and_deletes_old_tombstones() -> None:
    due, _ = begin()
    backdate(due, hours=1)
    live, _ = begin()
    fresh_tombstone, _ = begin()
    fresh_tombstone.terminate()
    tombstone, _ = begin()
    tombstone.terminate()
    long_ago = timezone.now() - timedelta(days=15)
    MCPSession.objects.filter(pk=tombstone.pk).update(ended_at=long_ago)
    SessionQuota.objects.update(touched_at=long_ago)
    assert MCPSession.objects.sweep() == 2
    states = dict(MCPSession.objects.values_list("key", "state"))
    assert states == {due.key: "expired", live.key: "active", fresh_tombstone.key: "terminated"}
    assert SessionQuota.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_a_new_session_sweeps_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_mcp.models.session._sweeps", Pace(3_600))
    due, _ = begin()
    backdate(due, hours=1)
    begin(principal=ANONYMOUS)
    due.refresh_from_db()
    assert due.state == SessionState.ACTIVE
    monkeypatch.setattr("django_mcp.models.session._sweeps", Pace(0))
    begin(principal=ANONYMOUS)
    due.refresh_from_db()
    assert due.state == SessionState.EXPIRED


# Log level and subscriptions


@pytest.mark.django_db
def test_the_log_level_is_kept() -> None:
    session, session_id = begin()
    session.set_log_level("debug")
    assert find(session_id).log_level == "debug"


@pytest.mark.django_db
def test_subscriptions_are_kept_once_each_and_in_order() -> None:
    session, session_id = begin()
    for uri in ("file:///b", "file:///né \u0000\ud800", "file:///b"):
        session.subscribe(uri)
    found = find(session_id)
    assert found.subscription_uris == ("file:///b", "file:///né \u0000\ud800") == session.subscription_uris
    found.unsubscribe("file:///b")
    found.unsubscribe("file:///unknown")
    assert find(session_id).subscription_uris == ("file:///né \u0000\ud800",)


@pytest.mark.django_db
def test_an_ended_session_changes_no_more() -> None:
    session, _ = begin()
    stale = MCPSession.objects.get()
    session.terminate()
    for change, value in (
        (stale.set_log_level, "debug"),
        (stale.subscribe, "file:///a"),
        (stale.unsubscribe, "file:///a"),
    ):
        with pytest.raises(SessionNotFound):
            change(value)
    stale.mark_used()
    stale.touch(timezone.now() + timedelta(hours=1))
    session.refresh_from_db()
    assert (session.log_level, session.subscriptions, session.used) == ("", "[]", False)


@pytest.mark.django_db
def test_subscriptions_are_bounded_by_count_and_by_bytes() -> None:
    session, _ = begin()
    MCPSession.objects.update(subscriptions=json.dumps([str(number) for number in range(1_000)]))
    with pytest.raises(Overloaded, match="Too many subscriptions") as caught:
        session.subscribe("one more")
    assert (caught.value.scope, caught.value.retry_after_seconds) == ("principal", 60)
    session.subscribe("7")
    session.unsubscribe("7")
    session.subscribe("one more")
    MCPSession.objects.update(subscriptions="[]")
    with pytest.raises(Overloaded, match="Too many subscriptions"):
        session.subscribe("x" * 262_144)


@pytest.mark.django_db
@pytest.mark.parametrize(("field", "what"), [("client_info", "clientInfo"), ("capabilities", "capabilities")])
def test_what_a_client_says_of_itself_is_bounded(field: str, what: str) -> None:
    with pytest.raises(LimitExceeded, match=f"{what} is larger than 65536 bytes"):
        begin("default", **{field: {"icons": "x" * 65_536}})
    assert MCPSession.objects.count() == 0


# Caps


@pytest.mark.django_db
def test_over_the_cap_the_oldest_session_that_was_never_used_ends(settings: Settings) -> None:
    settings.DJANGO_MCP = {"MAX_SESSIONS_PER_PRINCIPAL": 3}
    used, _ = begin()
    used.mark_used()
    older, _ = begin()
    backdate(older, minutes=2)
    newer, _ = begin()
    begun, _ = begin()
    for session, state in ((used, "active"), (older, "expired"), (newer, "active"), (begun, "active")):
        session.refresh_from_db()
        assert session.state == state


@pytest.mark.django_db
def test_over_the_cap_with_all_in_use_a_new_one_is_refused(settings: Settings) -> None:
    settings.DJANGO_MCP = {"MAX_SESSIONS_PER_PRINCIPAL": 2}
    for _ in range(2):
        begin()[0].mark_used()
    with pytest.raises(Overloaded, match="Too many sessions") as caught:
        begin()
    assert (caught.value.scope, caught.value.retry_after_seconds) == ("principal", 60)
    assert MCPSession.objects.active().count() == 2
    begin(principal=Principal(kind="oauth", id="bob"))
    begin(tenant="other")
    begin(server="other")


@pytest.mark.django_db
def test_sessions_whose_time_is_over_do_not_count(settings: Settings) -> None:
    settings.DJANGO_MCP = {"MAX_SESSIONS_PER_PRINCIPAL": 1}
    old, _ = begin()
    old.mark_used()
    backdate(old, days=8)
    begin()
    old.refresh_from_db()
    assert old.state == SessionState.EXPIRED


@pytest.mark.django_db
def test_a_cap_that_was_lowered_makes_room_for_all_of_it(settings: Settings) -> None:
    for _ in range(5):
        begin()
    settings.DJANGO_MCP = {"MAX_SESSIONS_PER_PRINCIPAL": 2}
    begin()
    assert MCPSession.objects.active().count() == 2


@pytest.mark.django_db
def test_anonymous_callers_count_by_address(settings: Settings) -> None:
    settings.DJANGO_MCP = {"MAX_ANONYMOUS_SESSIONS_PER_ADDRESS": 1, "MAX_SESSIONS_PER_PRINCIPAL": 1}
    begin(principal=ANONYMOUS, address="192.0.2.1")[0].mark_used()
    begin(principal=ANONYMOUS, address="192.0.2.2")[0].mark_used()
    begin(principal=ANONYMOUS, address="2001:db8::1")[0].mark_used()
    for address in ("192.0.2.1", "::ffff:192.0.2.2", "2001:db8::ffff"):
        with pytest.raises(Overloaded, match="Too many sessions"):
            begin(principal=ANONYMOUS, address=address)
    begin(principal=ANONYMOUS, address="2001:db8:0:1::1")


@pytest.mark.parametrize(
    ("address", "subscriber"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("", ""),
        ("not an address", "not an address"),
        ("x" * 60, "x" * 50),
    ],
)
def test_an_ipv6_subscriber_has_a_network(address: str, subscriber: str) -> None:
    assert subscriber_address(address) == subscriber


# Outages


@pytest.mark.django_db
def test_a_database_that_is_down_is_no_unknown_session() -> None:
    session, session_id = begin()

    def down(*args: object) -> None:
        raise OperationalError("the server is gone")

    with connections["default"].execute_wrapper(down):
        for ask in (
            lambda: find(session_id),
            begin,
            session.terminate,
            session.mark_used,
            lambda: session.subscribe("file:///a"),
            lambda: session.set_log_level("debug"),
        ):
            with pytest.raises(StoreUnavailable, match="The store is unavailable"):
                ask()


# Races


def test_of_many_begun_at_once_no_more_than_the_cap_are_active(concurrent_database: str, settings: Settings) -> None:
    settings.DJANGO_MCP = {"MAX_SESSIONS_PER_PRINCIPAL": 3}
    results = together(12, lambda _: begin(concurrent_database))
    assert [result for result in results if isinstance(result, BaseException)] == []
    sessions = MCPSession.objects.using(concurrent_database)
    assert sessions.active().count() == 3
    assert sessions.count() == 12


def test_of_many_begun_at_once_beside_used_ones_the_right_number_is_refused(
    concurrent_database: str, settings: Settings
) -> None:
    settings.DJANGO_MCP = {"MAX_ANONYMOUS_SESSIONS_PER_ADDRESS": 4}
    for _ in range(4):
        begin(concurrent_database, principal=ANONYMOUS)[0].mark_used()
    sessions = MCPSession.objects.using(concurrent_database)
    sessions.filter(pk=sessions.values_list("pk", flat=True)[0]).update(used=False)
    results = together(8, lambda _: begin(concurrent_database, principal=ANONYMOUS))
    assert [result for result in results if isinstance(result, BaseException)] == []
    assert sessions.active().count() == 4
    sessions.active().update(used=True)
    results = together(8, lambda _: begin(concurrent_database, principal=ANONYMOUS))
    assert all(isinstance(result, Overloaded) for result in results)
    assert sessions.active().count() == 4


def test_no_subscription_is_lost_among_many_at_once(concurrent_database: str) -> None:
    session, session_id = begin(concurrent_database)
    for number in range(8):
        session.subscribe(f"file:///old/{number}")

    def work(number: int) -> None:
        mine = find(session_id, concurrent_database)
        if number % 2:
            mine.unsubscribe(f"file:///old/{number // 2}")
        else:
            mine.subscribe(f"file:///new/{number // 2}")

    assert together(16, work) == [None] * 16
    assert sorted(find(session_id, concurrent_database).subscription_uris) == [f"file:///new/{n}" for n in range(8)]


def test_a_session_ends_once_whoever_ends_it(concurrent_database: str) -> None:
    _, session_id = begin(concurrent_database)

    def work(number: int) -> bool:
        mine = MCPSession.objects.using(concurrent_database).get()
        return (mine.terminate, mine.revoke, mine.expire)[number % 3]()

    assert sorted(together(12, work), key=bool) == [False] * 11 + [True]
    with pytest.raises(SessionNotFound):
        find(session_id, concurrent_database)


@pytest.mark.django_db
def test_over_the_cap_a_session_that_nobody_has_used_for_a_while_makes_room(settings: Settings) -> None:
    settings.DJANGO_MCP = {"MAX_SESSIONS_PER_PRINCIPAL": 2}
    idle, _ = begin()
    busy, _ = begin()
    for session in (idle, busy):
        session.mark_used()
    MCPSession.objects.filter(pk=idle.pk).update(last_used_at=timezone.now() - IN_USE - timedelta(seconds=1))

    begin()

    idle.refresh_from_db()
    busy.refresh_from_db()
    assert (idle.state, busy.state) == (SessionState.EXPIRED, SessionState.ACTIVE)
