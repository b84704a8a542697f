"""The README's snippets, run as a newcomer would: a fresh project made of them, checked, migrated and tested."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from django_mcp.conf import markdown_table

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


def run(*command: str, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
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
        tools.write("\nfrom books import list_tools, more_tools  # noqa: E402, F401\n")
    run("manage.py", "makemigrations", "books", cwd=folder)
    run("manage.py", "migrate", "-v", "0", cwd=folder)
    return folder


def test_every_python_snippet_says_which_file_it_is() -> None:
    assert {snippet.path for snippet in snippets("python")} == {
        "settings.py",
        "urls.py",
        "asgi.py",
        "books/mcp_tools.py",
        "books/tests.py",
        "books/models.py",
        "books/more_tools.py",
        "books/list_tools.py",
        "books/test_list.py",
    }


def test_the_project_of_the_readme_has_nothing_to_complain_about(project: Path) -> None:
    assert "no issues" in run("manage.py", "check", cwd=project)


def test_the_tests_of_the_readme_pass(project: Path) -> None:
    assert "Ran 2 tests" in run("manage.py", "test", "books", cwd=project)


def test_the_tools_of_the_readme_are_served(project: Path) -> None:
    listed = json.loads(run("manage.py", "mcp", "tools", "--json", cwd=project))
    assert {"search_books", "count_books", "list_titles", "add_to_list", "take_notes"} <= {
        tool["name"] for tool in listed
    }
    assert "0" in run("manage.py", "mcp", "call", "count_books", cwd=project)


def make_alice(project: Path) -> None:
    words = "from django.contrib.auth.models import User; User.objects.get_or_create(username='alice')"
    run("manage.py", "shell", "-c", words, cwd=project)


def test_an_access_token_is_made_as_the_readme_says(project: Path) -> None:
    make_alice(project)
    assert "mcp_" in run("manage.py", "mcp", "token", "create", "alice", "--name", "laptop", cwd=project)


def test_the_command_line_calls_as_the_readme_says(project: Path) -> None:
    make_alice(project)
    (command,) = (line for snippet in snippets("console") for line in snippet.text.splitlines() if "mcp call" in line)
    assert "To go on in this conversation" in run(*shlex.split(command)[1:], cwd=project)


def test_the_settings_table_is_the_one_of_the_code() -> None:
    table = README.read_text().partition("<!-- settings -->\n")[2].partition("<!-- /settings -->")[0]
    assert table.strip() == markdown_table().strip()


def test_the_configurations_of_the_clients_name_the_demo_and_carry_a_token() -> None:
    found = [json.loads(snippet.text) for snippet in snippets("json")]
    servers = [next(iter(config.values()))["travel-desk"] for config in found]
    assert [server["url"] for server in servers] == ["http://127.0.0.1:8000/mcp"] * 3
    assert all(server["headers"]["Authorization"].startswith("Bearer mcp_") for server in servers)
