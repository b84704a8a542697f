"""The commands make a desk out of nothing, and change nothing the second time."""

import json
import socket
import stat
from io import StringIO
from pathlib import Path

import airportsdata
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from demo_project.desk.credentials import credentials_path, read_credentials
from demo_project.desk.models import Airport
from django_mcp.models import MCPAccessToken

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    written = StringIO()
    call_command(*words, stdout=written)
    return written.getvalue()


def test_all_airports_are_loaded_once(
    capsys: pytest.CaptureFixture[str], django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    expected = len(airportsdata.load("ICAO"))
    assert expected > 28_000

    # SQLite takes about ninety rows in a statement.
    with django_assert_max_num_queries(400):
        first = run("load_airports")
    with django_assert_max_num_queries(5):
        second = run("load_airports")

    assert first == f"Airports: {expected} new, 0 changed, {expected} in all.\n"
    assert second == f"Airports: 0 new, 0 changed, {expected} in all.\n"
    # No progress bar where nobody watches.
    assert capsys.readouterr().err == ""
    zurich = Airport.objects.get(iata="ZRH")
    assert (zurich.icao, zurich.name, zurich.country, zurich.elevation_ft) == ("LSZH", "Zurich Airport", "CH", 1416)


def test_loading_mends_what_differs_also_swapped_codes() -> None:
    run("load_airports")
    Airport.objects.filter(iata="GVA").update(iata=None)
    Airport.objects.filter(iata="ZRH").update(iata="GVA", name="Somewhere")
    Airport.objects.filter(icao="LSGG").update(iata="ZRH")

    assert ", 2 changed, " in run("load_airports")

    assert Airport.objects.get(iata="ZRH").name == "Zurich Airport"
    assert Airport.objects.get(iata="GVA").icao == "LSGG"


def test_users_differ_in_what_they_may() -> None:
    run("demo_users")
    admin, agent, viewer = (User.objects.get(username=name) for name in ("admin", "agent", "viewer"))

    assert admin.is_superuser
    assert agent.has_perms(["desk.add_booking", "desk.add_itinerary", "desk.view_airport"])
    assert not agent.has_perm("desk.change_itinerary")
    assert not agent.has_perm("auth.view_user")
    assert viewer.get_all_permissions() == {"desk.view_airport"}


def test_credentials_work_and_are_printed_and_kept_for_their_owner_only(client: Client) -> None:
    printed = run("demo_users")
    path = credentials_path()
    kept = read_credentials(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (path.parent / ".gitignore").read_text() == "*\n"
    assert set(kept) == {"admin", "agent", "viewer"}
    for name, one in kept.items():
        assert one.password in printed
        assert one.token in printed
        assert client.login(username=name, password=one.password)
        token = MCPAccessToken.objects.authenticate(one.token)
        assert token is not None
        assert token.user.username == name


def test_second_run_prints_the_same_and_signs_nobody_out(client: Client) -> None:
    first = run("demo_users")
    kept = read_credentials(credentials_path())
    client.login(username="admin", password=kept["admin"].password)
    before = User.objects.get(username="admin").password

    assert run("demo_users") == first
    assert User.objects.get(username="admin").password == before
    assert MCPAccessToken.objects.count() == 3


def test_new_database_gets_the_kept_passwords_and_new_tokens() -> None:
    run("demo_users")
    first = read_credentials(credentials_path())
    User.objects.all().delete()

    run("demo_users")
    second = read_credentials(credentials_path())

    assert {name: one.password for name, one in second.items()} == {name: one.password for name, one in first.items()}
    assert all(second[name].token != first[name].token for name in first)


def test_revoked_token_and_lost_file_are_replaced() -> None:
    run("demo_users")
    first = read_credentials(credentials_path())
    token = MCPAccessToken.objects.authenticate(first["agent"].token)
    assert token is not None
    token.revoke()

    run("demo_users")
    second = read_credentials(credentials_path())
    assert second["viewer"] == first["viewer"]
    assert MCPAccessToken.objects.authenticate(second["agent"].token) is not None

    credentials_path().unlink()
    run("demo_users")
    third = read_credentials(credentials_path())
    assert third["admin"].password != first["admin"].password
    assert User.objects.get(username="admin").check_password(third["admin"].password)


def test_token_of_one_user_is_not_kept_for_another() -> None:
    run("demo_users")
    path = credentials_path()
    kept = json.loads(path.read_text())
    kept["viewer"]["token"] = kept["admin"]["token"]
    path.write_text(json.dumps(kept))

    run("demo_users")

    token = MCPAccessToken.objects.authenticate(read_credentials(path)["viewer"].token)
    assert token is not None
    assert token.user.username == "viewer"


@pytest.mark.usefixtures("airports")
def test_demo_prepares_and_says_how_to_connect() -> None:
    printed = run("demo", "--prepare", "--port", "8765")
    agent = read_credentials(credentials_path())["agent"]

    assert Airport.objects.count() == 14, "airports that are there are not loaded again"
    assert "http://127.0.0.1:8765/mcp" in printed
    assert "http://127.0.0.1:8765/admin/" in printed
    assert f"Bearer {agent.token}" in printed
    for word in ("Claude Code", "Cursor", "VS Code", "curl -sS", "Mcp-Name: search_airports", "mcp-resumption-token"):
        assert word in printed


@pytest.mark.usefixtures("airports")
def test_demo_names_a_port_that_is_taken(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        with pytest.raises(CommandError, match=rf"Port {port} on 127\.0\.0\.1 cannot be had .*--port"):
            run("demo", "--port", port)

    assert not Path(settings.VAR_DIR).exists()
