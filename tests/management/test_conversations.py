"""`manage.py mcp conversations`: what an operator reads, ends, copies and carries from one project to another."""

import io
import json
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from django_mcp.authentication import principal_of
from django_mcp.core.address import address
from django_mcp.core.manifest import Inline, ManifestReader, build, entry_of, references
from django_mcp.core.principal import Principal
from django_mcp.core.value import from_bytes, to_bytes
from django_mcp.models import Blob, Conversation, Snapshot
from django_mcp.sessions.stores import CallNote, ConversationRecord, Head, state_store
from tests.servers import alone, defined

pytestmark = pytest.mark.django_db

INLINE = 100
LARGE = {"text": "é" * 5_000, "due": date(2026, 7, 28)}
TYPED: dict[str, Any] = {
    "amount": Decimal("1.50"),
    "at": datetime(2026, 7, 28, 12, tzinfo=UTC),
    "counter": 3,
    "large": LARGE,
    "note": "naïve\x1b[2J",
    "raw": b"\x00\xff",
    "tag": {"$": "decimal"},
    "\x1b]0;": None,
}


@pytest.fixture(autouse=True)
def no_other_servers() -> Iterator[None]:
    with alone():
        yield


@pytest.fixture(autouse=True)
def named_server(settings: Settings) -> None:
    settings.DJANGO_MCP = {"SERVER_NAME": "desk"}


@pytest.fixture
def user() -> User:
    return User.objects.create_user("alice")


def run(*words: str) -> tuple[str, str]:
    stdout, stderr = io.StringIO(), io.StringIO()
    call_command("mcp", "conversations", *words, stdout=stdout, stderr=stderr, no_color=True)
    return stdout.getvalue(), stderr.getvalue()


def refused(*words: str) -> str:
    with pytest.raises(CommandError) as caught:
        run(*words)
    return str(caught.value)


def begin(user: User | None = None, **terms: Any) -> ConversationRecord:
    principal = Principal(kind="oauth", id="subject") if user is None else principal_of(user)
    given: dict[str, Any] = {"server": "desk", "tenant": "", "principal": principal, "user": user}
    return state_store().begin(**{**given, **terms}).conversation


def commit(record: ConversationRecord, *, call: CallNote | None = None, **values: Any) -> Head:
    """Make `values` the state, all of it."""
    written = {key: to_bytes(value) for key, value in values.items()}
    packed = build({key: entry_of(data, inline_bytes=INLINE) for key, data in written.items()})
    large = {address(data): data for data in written.values() if len(data) > INLINE}
    return state_store().commit(
        record,
        base_generation=state_store().inspect(record.id).generation,
        manifest=packed.root,
        snapshot=packed.address,
        blobs=packed.blobs | large,
        call=call,
    )


def state_of(conversation: str) -> dict[str, Any]:
    store = state_store()
    head = store.inspect(conversation)
    entries = ManifestReader(head.manifest, lambda digest: store.blob(head.conversation, digest)).entries()
    return {
        key: from_bytes(entry.data if isinstance(entry, Inline) else store.blob(head.conversation, entry.digest))
        for key, entry in entries.items()
    }


def short(record: ConversationRecord) -> str:
    return record.id[:8]


def listed(*words: str) -> list[str]:
    return [line.split()[0] for line in run("list", *words)[0].splitlines()[1:]]


# Lists


def test_list_shows_each_with_whose_it_is(user: User) -> None:
    mine = begin(user, tenant="north")
    commit(mine, a=1)
    other = begin(principal=Principal(kind="oauth", id="\x1b[2J"))
    Conversation.objects.filter(pk=other.id).update(last_used_at=timezone.now() - timedelta(hours=1))
    stdout, stderr = run("list")
    heading, first, second = stdout.splitlines()
    assert heading.split() == [
        "id", "kind", "user", "server", "tenant", "generation", "state", "created", "last", "used",
    ]  # fmt: skip
    assert first.split()[:7] == [short(mine), "conversation", "alice", "desk", "north", "1", "active"]
    assert second.split()[:7] == [short(other), "conversation", "oauth:?[2J", "desk", "-", "0", "active"]
    assert mine.handle is not None
    assert mine.handle not in stdout
    assert stderr == ""


def test_list_is_narrowed_by_what_a_conversation_belongs_to(user: User) -> None:
    mine, other, ops = begin(user), begin(tenant="north"), begin(server="desk/ops")
    state_store().revoke(ops)
    assert listed("--user", "alice") == [short(mine)]
    assert listed("--tenant", "north") == [short(other)]
    assert listed("--state", "revoked") == listed("--server", "desk/ops") == [short(ops)]
    assert set(listed("--server", "default")) == {short(mine), short(other)}
    with defined("ops"):
        assert listed("--server", "ops") == [short(ops)]
    assert run("list", "--state", "expired") == ("", "There are no such conversations.\n")


def test_list_is_as_long_as_its_limit_and_costs_one_query(
    user: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(3):
        begin(user)
    with django_assert_num_queries(1):
        stdout, stderr = run("list", "--limit", "2")
    assert len(stdout.splitlines()) == 3
    assert stderr == "There are more; --limit says how many are shown.\n"


# Ids


def test_the_beginning_of_an_id_is_enough_while_it_is_of_one_conversation() -> None:
    for end in ("1", "2"):
        Conversation.objects.filter(pk=begin().id).update(id=f"abcd{end}".ljust(32, "0"))
    assert run("expire", "ABCD1…")[0] == "Conversation abcd1000 is expired.\n"
    names = ", ".join(f"abcd{end}".ljust(32, "0") for end in ("1", "2"))
    message = f"Several conversations begin with 'abcd', give more of the one you mean: {names}."
    assert refused("revoke", "abcd") == message
    assert Conversation.objects.active().count() == 1


@pytest.mark.parametrize("action", ["show", "expire", "revoke", "fork", "export"])
def test_an_id_that_is_of_none_is_told(action: str) -> None:
    message = "There is no conversation 'abc'; `manage.py mcp conversations list` shows them."
    assert refused(action, "abc") == message


# Show


def test_show_prints_the_record_the_keys_and_the_history(user: User) -> None:
    record = begin(user, tenant="north")
    commit(record, counter=1, call=CallNote(name="add", milliseconds=12))
    head = commit(record, **TYPED)
    state_store().rewind(record, 1)
    state_store().rewind(record, 2)
    state_store().revoke_tokens(record, up_to_generation=1)
    stdout, stderr = run("show", short(record))
    assert stderr == ""
    facts, keys, history = (part.splitlines() for part in stdout.strip().split("\n\n"))
    told = {name.strip(): text.strip() for name, text in (line.split("  ", 1) for line in facts)}
    assert told["id"] == record.id
    assert told["user"] == "alice"
    assert told["principal"] == f"user:{user.pk}"
    assert (told["server"], told["tenant"], told["state"]) == ("desk", "north", "active")
    assert (told["generation"], told["snapshot"]) == ("5 of 5", head.snapshot)
    assert told["keys"] == f"8, {ManifestReader(head.manifest).size} bytes"
    assert told["tokens revoked"] == "up to generation 1"
    assert (told["forked from"], told["ended"]) == ("-", "never")
    assert [line.split(maxsplit=3)[:3] for line in keys] == [
        ["key", "type", "bytes"],
        ["'\\x1b]0;'", "NoneType", "4"],
        ["'amount'", "Decimal", "26"],
        ["'at'", "datetime", "48"],
        ["'counter'", "int", "1"],
        ["'large'", "dict", str(len(to_bytes(LARGE)))],
        ["'note'", "str", str(len(to_bytes(TYPED["note"])))],
        ["'raw'", "bytes", str(len(to_bytes(TYPED["raw"])))],
        ["'tag'", "dict", str(len(to_bytes(TYPED["tag"])))],
    ]
    assert keys[2].endswith('{"$":"decimal","v":"1.50"}')
    assert keys[5].split()[3].startswith("<")
    assert "\x1b" not in stdout
    assert [line.split()[0] for line in history[1:]] == ["5", "4", "3", "2", "1"]
    assert [line.split()[-1] for line in history] == ["from", "4", "2", "1", "-", "-"]
    assert "add succeeded in 12 ms" in history[-1]


def test_show_prints_a_generation_of_the_past() -> None:
    record = begin()
    commit(record, counter=1)
    commit(record, counter=2)
    assert "'counter'  int   1      1" in run("show", record.id, "--generation", "1")[0]
    assert "generation      1 of 2" in run("show", record.id, "--generation", "1")[0]
    stdout, _ = run("show", record.id, "--generation", "0")
    assert "'counter'" not in stdout
    assert refused("show", record.id, "--generation", "9") == (
        f"Generation 9 is not kept. `manage.py mcp conversations show {short(record)}` lists those that are."
    )


def test_show_gives_programs_json(user: User) -> None:
    record = begin(user)
    head = commit(record, **TYPED, call=CallNote(name="add"))
    stdout, _ = run("show", record.id, "--json")
    assert stdout.isascii()
    told = json.loads(stdout)
    assert (told["id"], told["user"], told["state"], told["ended_at"]) == (record.id, "alice", "active", None)
    assert (told["head"], told["generation"], told["snapshot"]) == (1, 1, head.snapshot)
    assert told["keys"]["amount"] == {"type": "Decimal", "bytes": 26, "value": {"$": "decimal", "v": "1.50"}}
    assert told["keys"]["large"].keys() == {"type", "bytes", "blob"}
    assert told["history"][0]["call"] == {"name": "add", "outcome": "succeeded", "call": "", "milliseconds": None}


def test_show_reads_a_state_of_many_pages() -> None:
    record = begin()
    values: dict[str, Any] = {f"key{number}": "x" * 90 for number in range(600)}
    commit(record, **values)
    assert len(json.loads(run("show", record.id, "--json")[0])["keys"]) == 600


def test_show_says_which_value_is_damaged_and_shows_the_others() -> None:
    record = begin()
    commit(record, large="x" * 200, other=1)
    Blob.objects.update(body=b"?")
    stdout, _ = run("show", record.id)
    assert "'large'  (damaged)  202" in stdout
    assert "'other'  int        1" in stdout


def test_a_conversation_that_cannot_be_read_can_be_ended() -> None:
    record = begin()
    commit(record, a=1)
    Snapshot.objects.update(manifest=b"?")
    assert refused("show", record.id).endswith("does not hash to its name")
    assert run("revoke", record.id)[0] == f"Conversation {short(record)} is revoked.\n"


def test_a_manifest_of_another_version_is_told_in_one_line() -> None:
    record = begin()
    commit(record, a=1)
    manifest = b"state 9 leaf 0 0\n"
    Snapshot.objects.update(manifest=manifest, address=address(manifest))
    assert refused("show", record.id) == "not a manifest that this version reads: b'state 9 leaf 0 0'"


def test_a_state_that_was_collected_is_told() -> None:
    record = begin()
    commit(record, a=1)
    run("expire", record.id)
    state_store().collect(references)
    message = f"Conversation {short(record)} has ended and its state was collected; nothing brings it back."
    assert refused("show", record.id) == message
    assert refused("export", record.id) == message
    assert run("expire", record.id)[0] == f"Conversation {short(record)} had ended before.\n"


# Differences


def test_diff_prints_one_line_per_key_that_differs() -> None:
    record = begin()
    commit(record, counter=1, gone=True, same="s")
    commit(record, counter=2, new=[1], same="s")
    assert run("diff", record.id, "1", "2") == ("~ 'counter': 1 -> 2\n- 'gone': true\n+ 'new': [1]\n", "")
    assert run("diff", record.id, "0", "1")[0].count("+ ") == 3
    assert run("diff", record.id, "2", "2") == ("", "Nothing differs.\n")
    assert "Generation 7 is not kept. " in refused("diff", record.id, "1", "7")
    assert "'-1' is not a whole number, 0 or more" in refused("diff", record.id, "1", "--", "-1")


# Ends


@pytest.mark.parametrize(("action", "state"), [("expire", "expired"), ("revoke", "revoked")])
def test_a_conversation_is_ended_once(action: str, state: str) -> None:
    record = begin()
    assert run(action, record.id)[0] == f"Conversation {short(record)} is {state}.\n"
    assert run("revoke", record.id)[0] == f"Conversation {short(record)} had ended before.\n"
    assert Conversation.objects.get().state == state


def test_tokens_are_revoked_without_the_conversation() -> None:
    record = begin()
    for value in range(3):
        commit(record, a=value)
    stdout, _ = run("revoke", record.id, "--tokens", "--up-to", "2")
    assert stdout == (
        f"The tokens of conversation {short(record)} up to generation 2 are revoked; it is at generation 4.\n"
    )
    run("revoke", record.id, "--tokens")
    found = state_store().inspect(record.id)
    assert (found.conversation.revoked_up_to, found.generation) == (4, 5)
    assert state_of(record.id) == {"a": 2}
    assert Conversation.objects.get().state == "active"
    assert refused("revoke", record.id, "--up-to", "2") == (
        "--up-to is for --tokens; without it the whole conversation is revoked."
    )
    assert Conversation.objects.get().state == "active"


# Copies


def test_rewind_makes_a_generation_like_a_kept_one() -> None:
    record = begin()
    for value in range(3):
        commit(record, a=value)
    stdout, _ = run("rewind", record.id, "1")
    assert stdout == f"Conversation {short(record)} is at generation 4, which is as 1 was.\n"
    assert state_of(record.id) == {"a": 0}
    assert "Generation 9 is not kept. `manage.py mcp conversations show" in refused("rewind", record.id, "9")
    assert state_store().inspect(record.id).generation == 4


def test_fork_prints_the_id_and_the_handle_of_the_copy(user: User) -> None:
    record = begin(user)
    commit(record, a=1)
    commit(record, a=2)
    stdout, stderr = run("fork", record.id, "--generation", "1")
    identifier, handle = stdout.splitlines()
    assert state_of(identifier) == {"a": 1}
    caller: dict[str, Any] = {"server": "desk", "tenant": "", "principal": principal_of(user), "user": user}
    assert state_store().find_by_handle(handle, **caller).conversation.id == identifier
    assert stderr == (
        f"Conversation {identifier[:8]} has the state of {short(record)}. The second line is its handle, for the "
        "argument `handle` of a tool; it is not shown again.\n"
    )
    assert state_of(run("fork", record.id)[0].split()[0]) == {"a": 2}
    assert "Generation 9 is not kept. " in refused("fork", record.id, "--generation", "9")


def test_the_state_of_a_user_is_shown_and_exported_but_not_forked(user: User) -> None:
    record = begin(user, kind="user")
    commit(record, a=1)
    assert "kind            user" in run("show", record.id)[0]
    assert json.loads(run("export", record.id)[0])["kind"] == "user"
    assert refused("fork", record.id) == "The state of a user is not forked; `export` and `import` copy it."


@pytest.mark.parametrize("words", [("rewind", "1"), ("fork",), ("revoke", "--tokens")])
def test_what_has_ended_is_not_changed(words: tuple[str, ...]) -> None:
    record = begin()
    commit(record, a=1)
    run("revoke", record.id)
    assert refused(words[0], record.id, *words[1:]) == (
        f"Conversation {short(record)} has ended; `import` begins another from an export."
    )


# Documents


def exported(record: ConversationRecord, target: Path, *words: str) -> str:
    target.write_text(run("export", record.id, *words)[0])
    return str(target)


def test_a_state_goes_to_another_user_byte_for_byte(user: User, tmp_path: Path) -> None:
    bob = User.objects.create_user("bob")
    record = begin(user, tenant="north")
    commit(record, **TYPED)
    file = exported(record, tmp_path / "state.json")
    stdout, stderr = run("import", file, "--user", "bob")
    identifier, handle = stdout.splitlines()
    assert stderr.startswith(f"Conversation {identifier[:8]} of bob has 8 keys. The second line is its handle")
    caller: dict[str, Any] = {"server": "desk", "tenant": "north", "principal": principal_of(bob), "user": bob}
    found = state_store().find_by_handle(handle, **caller)
    assert (found.conversation.id, found.generation) == (identifier, 1)
    assert found.conversation.family == identifier
    copied, original = state_of(identifier), state_of(record.id)
    assert copied == original == TYPED
    assert [type(value) for value in copied.values()] == [type(value) for value in original.values()]
    assert exported(found.conversation, tmp_path / "again.json") == str(tmp_path / "again.json")
    lines = [(tmp_path / name).read_text().splitlines()[1:] for name in ("state.json", "again.json")]
    assert lines[0] == lines[1]
    history = state_store().history(found.conversation)
    assert [one.call and one.call.name for one in history] == ["import"]
    assert state_store().collect(references).blobs == 0


def test_export_says_where_it_comes_from_and_takes_a_generation(user: User) -> None:
    record = begin(user, tenant="north")
    commit(record, a=1)
    commit(record, a=2)
    stdout, stderr = run("export", record.id, "--generation", "1")
    assert stderr == ""
    assert json.loads(stdout) == {
        "format": "django_mcp conversation",
        "version": 1,
        "conversation": record.id,
        "kind": "conversation",
        "server": "desk",
        "tenant": "north",
        "principal": f"user:{user.pk}",
        "generation": 1,
        "state": {"a": 1},
    }


def test_a_state_of_many_pages_and_an_empty_one_go_too(user: User, tmp_path: Path) -> None:
    record, empty = begin(user), begin(user)
    values: dict[str, Any] = {f"key{number}": "x" * 90 for number in range(600)}
    commit(record, **values)
    identifier = run("import", exported(record, tmp_path / "many"), "--user", "alice")[0].split()[0]
    assert state_of(identifier) == values
    identifier = run("import", exported(empty, tmp_path / "none"), "--user", "alice")[0].split()[0]
    assert state_of(identifier) == {}
    assert state_store().inspect(identifier).generation == 0


def test_import_goes_to_the_server_and_tenant_that_are_named(user: User, tmp_path: Path, settings: Settings) -> None:
    record = begin(user, tenant="north")
    commit(record, a=1)
    file = exported(record, tmp_path / "state.json")
    with defined("ops"):
        identifier = run("import", file, "--user", "alice", "--server", "ops", "--tenant", "")[0].split()[0]
    found = state_store().inspect(identifier).conversation
    assert (found.server, found.tenant) == ("desk/ops", "")
    settings.DJANGO_MCP = {"SERVER_NAME": "renamed"}
    assert refused("import", file, "--user", "alice") == (
        "The document is of the server 'desk', which this project does not have; say by --server which one it is for: "
        "default."
    )
    identifier = run("import", file, "--user", "alice", "--server", "default")[0].split()[0]
    assert state_store().inspect(identifier).conversation.server == "renamed"


def test_import_reads_the_standard_input(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    record = begin(user)
    commit(record, a=1)
    text = run("export", record.id)[0]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert state_of(run("import", "-", "--user", "alice")[0].split()[0]) == {"a": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((":1\n", ":1"), "{} cannot be imported: it is not JSON ("),
        (("django_mcp conversation", "else"), "{} cannot be imported: it is not an exported conversation."),
        (('"version":1', '"version":7'), "{} cannot be imported: its version is 7, and only 1 can be read."),
        (('"a":1', '"a":{"$":"x"}'), "{} cannot be imported: state['a']: not a value that this version writes"),
    ],
)
def test_a_document_that_is_none_begins_nothing(
    user: User, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    record = begin(user)
    commit(record, a=1)
    file = tmp_path / "state.json"
    text = run("export", record.id)[0].replace(*change)
    file.write_text(text if "JSON" not in message else text[:-2])
    assert refused("import", str(file), "--user", "alice").startswith(message.format(file))
    assert Conversation.objects.count() == 1


def test_what_an_import_lacks_is_told(user: User, tmp_path: Path) -> None:
    record = begin(user)
    commit(record, a=1)
    file = exported(record, tmp_path / "state.json")
    missing = str(tmp_path / "missing")
    assert refused("import", missing, "--user", "alice") == f"{missing} cannot be read: No such file or directory."
    assert refused("import", file, "--user", "nobody") == "There is no user 'nobody'."
    assert refused("import", file, "--user", "alice", "--server", "ops") == (
        "There is no MCP server 'ops'; there are default."
    )
    assert refused("import", file, "--user", "alice", "--tenant", "x" * 101) == "A tenant has 100 characters at most."
    assert "the following arguments are required: --user" in refused("import", file)
    assert Conversation.objects.count() == 1


# Stores


@pytest.mark.parametrize("words", [("list",), ("show", "a"), ("import", "{file}", "--user", "alice")])
def test_a_store_that_there_is_not_is_told(user: User, tmp_path: Path, words: tuple[str, ...]) -> None:
    file = exported(begin(user), tmp_path / "state.json")
    assert refused(*(word.format(file=file) for word in words), "--store", "other") == (
        "There is no store 'other' in DJANGO_MCP['STORES']; it has 'default'."
    )


def test_import_goes_to_the_store_of_the_server(user: User, tmp_path: Path) -> None:
    file = exported(begin(user), tmp_path / "state.json")
    with defined("ops", store="other"):
        assert refused("import", file, "--user", "alice", "--server", "ops") == (
            "There is no store 'other' in DJANGO_MCP['STORES']; it has 'default'."
        )
        run("import", file, "--user", "alice", "--server", "ops", "--store", "default")


def test_over_the_cap_a_fork_is_refused_in_one_line(user: User, settings: Settings) -> None:
    record = begin(user)
    settings.DJANGO_MCP = {"SERVER_NAME": "desk", "MAX_CONVERSATIONS_PER_PRINCIPAL": 1}
    assert refused("fork", record.id) == "Too many conversations"


@pytest.mark.parametrize(
    "words", [("list",), ("show", "{id}"), ("expire", "{id}"), ("import", "{file}", "--user", "alice")]
)
def test_an_outage_is_told_in_one_line(user: User, tmp_path: Path, words: tuple[str, ...]) -> None:
    record = begin(user)
    file = exported(record, tmp_path / "state.json")

    def down(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "django_mcp_" in sql:
            raise OperationalError("server closed the connection")
        return execute(sql, params, many, context)

    given = [word.format(id=record.id, file=file) for word in words]
    with connections["default"].execute_wrapper(down):
        assert refused(*given) == "The store is unavailable: server closed the connection"
    assert Conversation.objects.active().count() == 1
