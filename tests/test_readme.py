"""The README's snippets, run as a newcomer would: a fresh project made of them, checked, migrated and tested."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml

from django_mcp.conf import markdown_table, mcp_settings
from django_mcp.health import ANSWER_SECONDS
from django_mcp.sessions.stores import dynamodb_table
from tests import services
from tests.services import free_port

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Snippet:
    language: str
    text: str

    @property
    def path(self) -> str:
        """The file that a Python snippet is, by its first line."""
        return self.text.partition("\n")[0].removeprefix("# ")


def snippets(language: str) -> list[Snippet]:
    return [Snippet(*found) for found in FENCE.findall(README.read_text()) if found[0] == language]


def run(*command: str, cwd: Path, **more: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"} | more
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:books", *command],
        cwd=cwd,
        env={**environment, "PYTHONPATH": f"{cwd}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project made by Django's own commands and the README's snippets."""
    folder = tmp_path_factory.mktemp("readme")
    run("-m", "django", "startproject", "mysite", ".", cwd=folder)
    run("-m", "django", "startapp", "books", cwd=folder)
    for snippet in snippets("python"):
        name = snippet.path
        target = folder / (name if "/" in name else f"mysite/{name}")
        if name == "settings.py":
            with target.open("a") as settings:
                settings.write(f'\n{snippet.text}\nINSTALLED_APPS += ["books"]\n')
        else:
            target.write_text(snippet.text)
    with (folder / "books" / "mcp_tools.py").open("a") as tools:
        modules = "limited_tools, list_tools, model_tools, more_tools, rest_tools, stock_tools, view_tools"
        tools.write(f"\nfrom books import {modules}  # noqa: E402, F401\n")
    run("manage.py", "makemigrations", "books", cwd=folder)
    run("manage.py", "migrate", "-v", "0", cwd=folder)
    return folder


def test_every_python_snippet_says_which_file_it_is() -> None:
    assert {snippet.path for snippet in snippets("python")} == {
        "settings.py",
        "settings_aws.py",
        "urls.py",
        "asgi.py",
        "books/mcp_tools.py",
        "books/api.py",
        "books/rest_tools.py",
        "books/view_tools.py",
        "books/tests.py",
        "books/models.py",
        "books/model_tools.py",
        "books/more_tools.py",
        "books/limited_tools.py",
        "books/list_tools.py",
        "books/test_list.py",
        "books/stock_tools.py",
        "books/test_stock.py",
        "books/test_keys.py",
        "mysite/cached_settings.py",
        "mysite/logged_settings.py",
        "mysite/moving_settings.py",
        "mysite/redis_settings.py",
        "mysite/s3_settings.py",
    }


def test_the_project_of_the_readme_has_nothing_to_complain_about(project: Path) -> None:
    assert "no issues" in run("manage.py", "check", cwd=project)


def test_the_tests_of_the_readme_pass(project: Path) -> None:
    assert "Ran 4 tests" in run("manage.py", "test", "books", cwd=project)


def test_the_tools_of_the_readme_are_served(project: Path) -> None:
    listed = json.loads(run("manage.py", "mcp", "tools", "--json", cwd=project))
    assert {"search_books", "count_books", "list_titles", "add_to_list", "take_notes"} <= {
        tool["name"] for tool in listed
    }
    assert "0" in run("manage.py", "mcp", "call", "count_books", cwd=project)


def test_the_views_of_the_readme_are_tools(project: Path) -> None:
    words = "from django.contrib.auth.models import User; User.objects.create_superuser('librarian')"
    run("manage.py", "shell", "-c", words, cwd=project)
    made = run(
        "manage.py", "mcp", "call", "book_create", "title=Emma", "year=1815", "--user", "librarian", cwd=project
    )
    assert "Emma" in made
    assert "Emma" in run("manage.py", "mcp", "call", "book_list", "search=Emm", "--user", "librarian", cwd=project)
    assert "book_create" not in run("manage.py", "mcp", "tools", cwd=project)
    assert "Emma" in run("manage.py", "mcp", "call", "shelf", "year:=1815", "--user", "librarian", cwd=project)
    call = ("add_trilogy", "title=Sand", "year=1975", "--user", "librarian")
    assert "Sand III" in run("manage.py", "mcp", "call", *call, cwd=project)


def test_the_models_of_the_readme_are_tools_and_resources(project: Path) -> None:
    words = (
        "from django.contrib.auth.models import User; User.objects.create_superuser('curator');"
        "from books.models import Book; print(Book.objects.create(title='Persuasion', year=1817).pk)"
    )
    pk = run("manage.py", "shell", "-v", "0", "-c", words, cwd=project).split()[-1]
    call = partial(run, "manage.py", "mcp", "call", cwd=project)
    assert "Persuasion" in call("list_books", "search=pers", "year__gte=1800", "--user", "curator")
    assert "1818" in call("update_book", f"pk={pk}", "year=1818", "--user", "curator")
    assert "1818" in run("manage.py", "mcp", "read", f"app://book/{pk}", "--user", "curator", cwd=project)
    listed = run("manage.py", "mcp", "tools", cwd=project)
    assert "list_books" not in listed
    assert "delete_book" not in listed


def make_alice(project: Path) -> str:
    words = "from django.contrib.auth.models import User; User.objects.get_or_create(username='alice')"
    run("manage.py", "shell", "-c", words, cwd=project)
    return "alice"


def test_the_limited_tools_of_the_readme_are_served(project: Path) -> None:
    make_alice(project)
    assert "reindex_all" in (nobody := run("manage.py", "mcp", "tools", cwd=project))
    assert "reindex " not in nobody
    assert "Indexed." in run("manage.py", "mcp", "call", "reindex", "--user", "alice", cwd=project)
    assert "Indexed." in run("manage.py", "mcp", "call", "reindex_all", cwd=project)


def test_an_access_token_is_made_as_the_readme_says(project: Path) -> None:
    make_alice(project)
    assert "mcp_" in run("manage.py", "mcp", "token", "create", "alice", "--name", "laptop", cwd=project)


def test_the_command_line_calls_as_the_readme_says(project: Path) -> None:
    make_alice(project)
    (command,) = (
        line for snippet in snippets("console") for line in snippet.text.splitlines() if "mcp call --user" in line
    )
    assert "To go on in this conversation" in run(*shlex.split(command)[1:], cwd=project)


def test_calls_are_logged_with_the_settings_for_it(project: Path, tmp_path: Path) -> None:
    project = shutil.copytree(project, tmp_path / "logged")
    run_logged = partial(run, cwd=project, DJANGO_SETTINGS_MODULE="mysite.logged_settings")
    assert "no issues" in run_logged("manage.py", "check")
    run_logged("manage.py", "migrate", "-v", "0")
    said = run_logged("manage.py", "mcp", "call", "count_books", "--user", make_alice(project))
    assert re.search(r"count_books by user:\d+: ok in \d+ ms tenant= client=\S+ arguments=", said), said
    look = "from django_mcp.contrib.call_log.models import LoggedCall; print(LoggedCall.objects.get())"
    assert re.search(r"count_books by user:\d+: ok", run_logged("manage.py", "shell", "-c", look))
    assert "Logged calls that are over: 0" in run_logged("manage.py", "mcp", "gc")


KEEP_A_LARGE_STATE = """
from django_mcp.core.draft import Draft
from django_mcp.core.entry import entry_of
from django_mcp.core.principal import Principal
from django_mcp.sessions.bounds import state_bounds
from django_mcp.sessions.commit import commit, empty_base
from django_mcp.sessions.stores import state_store
store, data, bounds = state_store(), b'"%s"' % (b"x" * 500_000), state_bounds()
entry = entry_of(data, inline_bytes=bounds.inline_bytes)
head = store.begin(server="s", tenant="", principal=Principal(kind="user", id="1"))
commit(store, empty_base(head), Draft(changes={"text": entry}, bodies={entry.digest: data}), bounds=bounds)
"""


def without_transactions(project: Path, target: Path) -> Path:
    """Copy the project, and make of its atomic tool, which is for the database store, an ordinary one."""
    folder = shutil.copytree(project, target)
    tools = folder / "books" / "list_tools.py"
    tools.write_text(tools.read_text().replace("@tool(atomic=True)", "@tool"))
    return folder


KEEP_A_LARGE_VALUE = """
from django_mcp.core.principal import Principal
from django_mcp.sessions.stores import state_store
from django_mcp.testing.state_contract import manifest_of, sha256
store, value = state_store(), b"x" * 500_000
record = store.begin(server="s", tenant="", principal=Principal(kind="user", id="1")).conversation
manifest = manifest_of(value)
store.commit(
    record, base_generation=0, manifest=manifest, snapshot=sha256(manifest), blobs={sha256(value): value}
)
assert store.blob(record, sha256(value)) == value
"""


@pytest.mark.services
def test_a_large_value_is_cached_with_the_settings_for_it(project: Path) -> None:
    with services.redis() as redis:
        url = f"redis://{redis.host}:{redis.port}/{redis.database}"
        more = {"DJANGO_SETTINGS_MODULE": "mysite.cached_settings", "REDIS_URL": url}
        assert "no issues" in run("manage.py", "check", cwd=project, **more)
        look = (
            f"{KEEP_A_LARGE_VALUE}\n"
            "from django.core.cache import cache\n"
            "print(len(cache.keys('django_mcp:blob:*')), 'cached')"
        )
        assert "1 cached" in run("manage.py", "shell", "-c", look, cwd=project, **more)


@pytest.mark.services
def test_conversations_move_with_the_settings_and_the_command_for_it(project: Path, tmp_path: Path) -> None:
    project = without_transactions(project, tmp_path / "moving")
    lines = [line for snippet in snippets("console") for line in snippet.text.splitlines() if "migrate-store" in line]
    dry, real = (line.removeprefix("python ").split() for line in lines)
    with services.redis() as redis:
        url = f"redis://{redis.host}:{redis.port}/{redis.database}"
        # What other tests of this module have kept lies in stores that these settings do not have.
        words = "from django_mcp.models import Conversation; Conversation.objects.all().delete()"
        run("manage.py", "shell", "-c", words, cwd=project)
        run("manage.py", "shell", "-c", KEEP_A_LARGE_STATE, cwd=project)
        more = {"DJANGO_SETTINGS_MODULE": "mysite.moving_settings", "REDIS_URL": url}
        assert re.search(r"conversations +1\b", run(*dry, cwd=project, **more))
        assert re.search(r"conversations +1 +0 +0 +50\d{4} ", run(*real, cwd=project, **more))
        assert re.search(r"conversations +0 +1 +0 +0 ", run(*real, cwd=project, **more))


@pytest.mark.services
def test_a_conversation_is_on_redis_with_the_settings_for_it(project: Path, tmp_path: Path) -> None:
    project = without_transactions(project, tmp_path / "redis")
    with services.redis() as redis:
        url = f"redis://{redis.host}:{redis.port}/{redis.database}"
        more = {"DJANGO_SETTINGS_MODULE": "mysite.redis_settings", "REDIS_URL": url}
        assert "no issues" in run("manage.py", "check", cwd=project, **more)
        look = (
            f"{KEEP_A_LARGE_VALUE}\n"
            "from django_mcp.models import Conversation\n"
            "row = Conversation.objects.get(store='default')\n"
            "print(row.snapshots.count(), 'in the database')"
        )
        assert "0 in the database" in run("manage.py", "shell", "-c", look, cwd=project, **more)
        assert "W015" in run("manage.py", "check", "--deploy", cwd=project, **more)


@pytest.mark.services
def test_a_large_value_is_an_object_with_the_settings_for_it(project: Path) -> None:
    with services.aws() as server:
        server.bucket("mysite-states")
        more = {"DJANGO_SETTINGS_MODULE": "mysite.s3_settings", "AWS_ENDPOINT_URL": server.url}
        assert "no issues" in run("manage.py", "check", cwd=project, **more)
        look = (
            f"{KEEP_A_LARGE_VALUE}\n"
            "from django.core.files.storage import storages\n"
            "from django_mcp.models import BlobObject\n"
            "print(storages['states'].size(BlobObject.objects.get().name), 'bytes')"
        )
        assert "500000 bytes" in run("manage.py", "shell", "-c", look, cwd=project, **more)


@pytest.mark.services
def test_state_is_kept_on_dynamodb_as_the_readme_says(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_alice(project)
    folder = without_transactions(project, tmp_path / "aws")
    lines = [line for snippet in snippets("console") for line in snippet.text.splitlines()]
    (create,) = (shlex.split(line)[1:] for line in lines if "mcp table" in line)
    (call,) = (shlex.split(line)[1:] for line in lines if "mcp call --user" in line)
    with services.aws() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", server.url)
        aws = partial(run, cwd=folder, DJANGO_SETTINGS_MODULE="mysite.settings_aws")
        assert "no issues" in aws("manage.py", "check")
        assert "the table mcp-state was created" in aws(*create)
        assert "To go on in this conversation" in aws(*call)
        listed = aws("manage.py", "mcp", "conversations", "list")
        # The first is the one that was used last.
        name = next(line.split()[0] for line in listed.splitlines()[1:] if "alice" in line)
        assert "books" in aws("manage.py", "mcp", "conversations", "show", name)


def test_the_permissions_on_dynamodb_are_those_of_what_is_asked() -> None:
    source = Path(dynamodb_table.__file__).read_text()
    asked = set(re.findall(r"self\.client\.(\w+)\(", source)) - {"get_waiter", "transact_write_items"}
    actions = {"".join(map(str.capitalize, name.split("_"))) for name in asked}
    named = set(re.findall(r"`dynamodb:(\w+)`", README.read_text()))
    assert named == actions | {"ConditionCheckItem", "DescribeTable"}


def test_the_settings_table_is_the_one_of_the_code() -> None:
    table = README.read_text().partition("<!-- settings -->\n")[2].partition("<!-- /settings -->")[0]
    assert table.strip() == markdown_table().strip()


def test_the_configurations_of_the_clients_name_the_demo_and_carry_a_token() -> None:
    found = [json.loads(snippet.text) for snippet in snippets("json")]
    servers = [next(iter(config.values()))["travel-desk"] for config in found]
    assert [server["url"] for server in servers] == ["http://127.0.0.1:8000/mcp"] * 3
    assert all(server["headers"]["Authorization"].startswith("Bearer mcp_") for server in servers)


def test_the_probes_of_the_deployment_are_answered_in_time(project: Path) -> None:
    (snippet,) = snippets("yaml")
    spec = yaml.safe_load(snippet.text)["spec"]
    (container,) = spec["containers"]
    for name in ("livenessProbe", "readinessProbe"):
        asked = container[name]["httpGet"]
        (header,) = asked["httpHeaders"]
        words = (
            "from django.test import Client, override_settings\n"
            f"with override_settings(ALLOWED_HOSTS=[{header['value']!r}]):\n"
            f"    answer = Client(headers={{'host': {header['value']!r}}}).get({asked['path']!r})\n"
            "print(answer.status_code, answer.content)"
        )
        assert '200 b\'{"status": "ok"}\'' in run("manage.py", "shell", "-c", words, cwd=project)
    _, before = container["lifecycle"]["preStop"]["exec"]["command"]
    assert spec["terminationGracePeriodSeconds"] >= int(before) + mcp_settings.DRAIN_SECONDS + 10
    assert container["readinessProbe"]["timeoutSeconds"] > ANSWER_SECONDS


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_takes_the_configuration(tmp_path: Path) -> None:
    (snippet,) = snippets("nginx")
    own = f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off;"
    for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        own += f" {name}_temp_path {tmp_path}/{name};"
    config = tmp_path / "nginx.conf"
    config.write_text(f"{own}\n{snippet.text}}}\n".replace("listen 8000", f"listen 127.0.0.1:{free_port()}"))
    words = ["nginx", "-t", "-p", str(tmp_path), "-e", "stderr", "-c", str(config)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert "syntax is ok" in done.stderr
    assert done.returncode == 0, done.stderr
