"""Plain views as tools: the real view with the real caller, what it gets, and what of its answer a client gets."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connections
from pytest_django import Settings

from django_mcp import Server
from django_mcp.contrib.views import FILE, register_view
from django_mcp.exceptions import RegistryError
from django_mcp.server.compile import CompiledServer
from django_mcp.testing import Client
from tests.contrib.views import pages
from tests.servers import defined


def taking(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


TEXT = {"type": "string"}
NOTE = taking("text", text=TEXT, urgent={"type": "boolean"}, tags={"type": "array", "items": TEXT}, scan=FILE)


@pytest.fixture
def server(db: None, settings: Settings) -> Iterator[Server]:
    settings.ROOT_URLCONF = pages.__name__
    settings.DJANGO_MCP = {"ACCESS": "public"}
    User.objects.create_user("reader")
    staff = User.objects.create_user("staff")
    staff.user_permissions.add(*Permission.objects.filter(content_type__app_label="auth"))
    with defined("pages") as made:
        query = taking(q=TEXT, tag={"type": "array", "items": TEXT})
        register_view("space:echo", input_schema=query, server=made)
        year = taking("year", year={"type": "integer"}, q=TEXT)
        register_view("space:year", path_arguments=["year"], input_schema=year, server=made)
        register_view("space:note", method="POST", input_schema=NOTE, server=made)
        names = taking("username", username=TEXT, first_name=TEXT)
        register_view("space:rename", method="POST", path_arguments=["username"], input_schema=names, server=made)
        register_view("space:users", output_schema={"type": "array", "items": TEXT}, server=made)
        body = taking(text=TEXT, q=TEXT)
        register_view(
            "space:users",
            name="post_users",
            method="POST",
            body="json",
            query_arguments=["q"],
            input_schema=body,
            server=made,
        )
        register_view("space:answer", path_arguments=["kind"], input_schema=taking("kind", kind=TEXT), server=made)
        kind = taking("kind", kind=TEXT)
        register_view(
            pages.answer, name="post_answer", route="x/<kind>", method="POST", input_schema=kind, server=made
        )
        register_view(pages.Users, route="alone/", server=made)
        yield made


def call(username: str, tool: str, /, **arguments: Any) -> Any:
    user = User.objects.get(username=username) if username else None
    return Client(user, server="pages", headers={"host": "testserver"}).call(tool, arguments)


class TestRequests:
    def test_a_get_has_a_query_string_the_caller_and_the_path_of_the_urlconf(self, server: Server) -> None:
        told = call("reader", "space_echo", q="é & ü", tag=["one", "two"]).structured
        assert told["query"] == {"q": "é & ü", "tag": "two"}
        assert told["tags"] == ["one", "two"]
        assert (told["method"], told["path"], told["user"]) == ("GET", "/site/echo/", "reader")
        assert (told["cookies"], told["authorization"]) == (0, None)
        assert call("", "space_echo").structured["user"] == ""

    def test_arguments_are_parts_of_the_url(self, server: Server) -> None:
        told = call("reader", "space_year", year=2026, q="x").structured
        assert (told["path"], told["year"], told["query"]) == ("/site/echo/2026/", 2026, {"q": "x"})
        assert call("reader", "space_year", year=-1).text == "Not found."

    def test_arguments_are_validated_by_the_declared_schema(self, server: Server) -> None:
        refused = call("reader", "space_year", year="x")
        assert refused.is_error
        assert refused.text.startswith("Invalid arguments: $.year")

    def test_a_post_is_a_form_without_a_csrf_token(self, server: Server) -> None:
        told = call("reader", "space_note", text="é & ü", urgent=True, tags=["a", "b"]).structured
        assert told == {"text": "é & ü", "urgent": True, "tags": ["a", "b"], "scan": None}
        assert call("reader", "space_note", text="t", urgent=False).structured["urgent"] is False

    def test_a_file_is_uploaded(self, server: Server) -> None:
        scan = {"name": "a.txt", "data": base64.b64encode(b"abc").decode()}
        told = call("reader", "space_note", text="with", tags=["b"], scan=scan).structured
        assert told == {"text": "with", "urgent": False, "tags": ["b"], "scan": ["a.txt", "abc"]}

    def test_or_json_with_a_query_string(self, server: Server) -> None:
        told = call("staff", "post_users", text="é", q="1").structured
        assert told["type"] == "application/json"
        assert json.loads(told["body"]) == {"text": "é"}

    def test_atomic_requests_are_atomic(self, server: Server, settings: Settings) -> None:
        connection = connections["default"]
        before = connection.settings_dict["ATOMIC_REQUESTS"]
        connection.settings_dict["ATOMIC_REQUESTS"] = True
        depth = len(connection.savepoint_ids)
        seen = []

        def look(request: Any, kind: str) -> Any:
            seen.append(len(connection.savepoint_ids))
            return pages.answer(request, kind)

        try:
            kind = taking("kind", kind=TEXT)
            register_view(look, route="<kind>", input_schema=kind, server=server)
            call("reader", "look", kind="text")
        finally:
            connection.settings_dict["ATOMIC_REQUESTS"] = before
        assert seen == [depth + 1]


class TestRights:
    def test_who_is_not_logged_in_is_refused_and_not_sent_to_a_login(self, server: Server) -> None:
        refused = call("", "space_note", text="t")
        assert (refused.is_error, refused.text) == (True, "Permission denied.")
        assert call("", "space_users").text == "Permission denied."

    def test_decorators_and_mixins_ask_for_permissions(self, server: Server) -> None:
        assert call("reader", "space_rename", username="reader", first_name="No").text == "Permission denied."
        assert call("reader", "space_users").text == "Permission denied."
        assert call("reader", "users").text == "Permission denied."
        assert User.objects.get(username="reader").first_name == ""
        assert call("staff", "space_users").structured == {"result": ["reader", "staff"]}
        assert call("staff", "users").structured == {"result": ["reader", "staff"]}

    def test_a_form_that_was_taken_leads_on(self, server: Server) -> None:
        done = call("staff", "space_rename", username="reader", first_name="Ada")
        assert not done.is_error
        assert done.text == "Done. /site/echo/"
        assert User.objects.get(username="reader").first_name == "Ada"


class TestAnswers:
    def test_what_a_form_refuses_is_told_as_it_tells_it(self, server: Server) -> None:
        refused = call("reader", "space_note", text="far too long a text")
        assert refused.is_error
        assert json.loads(refused.text)["text"][0]["code"] == "max_length"

    @pytest.mark.parametrize(
        ("kind", "text"),
        [("page", "<html><title>A page</title><p>Read me.</p></html>"), ("text", "plain\n"), ("empty", "Done.")],
    )
    def test_text_is_text(self, server: Server, kind: str, text: str) -> None:
        came = call("reader", "space_answer", kind=kind)
        assert (came.is_error, came.text) == (False, text)

    def test_a_template_is_rendered(self, server: Server) -> None:
        assert call("reader", "space_answer", kind="template").text == "<b>reader &amp; co</b>"

    def test_a_file_is_an_embedded_resource(self, server: Server) -> None:
        (block,) = call("reader", "space_answer", kind="file").raw["content"]
        assert block["resource"]["mimeType"] == "application/pdf"
        assert base64.b64decode(block["resource"]["blob"]) == b"\x00\x01"

    @pytest.mark.parametrize(
        ("kind", "text"),
        [
            ("away", "Found: /elsewhere/"),
            ("forbidden", "Not & here"),
            ("titled", "It is gone"),
            ("broken", "The view failed."),
            ("bad", "Bad request."),
            ("raises", "The tool 'space_answer' failed."),
            ("missing", "Not found."),
        ],
    )
    def test_a_refusal_is_told_in_short(self, server: Server, kind: str, text: str) -> None:
        came = call("reader", "space_answer", kind=kind)
        assert (came.is_error, came.text) == (True, text)

    def test_a_redirect_after_a_post_is_no_refusal(self, server: Server) -> None:
        came = call("reader", "post_answer", kind="away")
        assert (came.is_error, came.text) == (False, "Done. /elsewhere/")


class TestList:
    def test_tools_say_what_they_do(self, server: Server) -> None:
        tools = CompiledServer(server).tools
        assert tools["space_echo"].definition.read_only is True
        assert tools["space_note"].definition.read_only is False
        assert tools["users"].wire.description == "List the users."
        assert tools["post_answer"].wire.description == "Answer in one of many ways."
        assert tools["space_users"].output_schema["required"] == ["result"]  # type: ignore[index]


class TestMistakes:
    @pytest.mark.parametrize(
        ("view", "options", "problem"),
        [
            (pages.slow, {}, "is async"),
            ("space:echo", {"route": "x/"}, "has a name and a route"),
            (pages.answer, {"route": "<kind>"}, "has the argument 'kind', which its schema has not"),
            ("space:year", {"path_arguments": ["year"]}, "has the argument 'year'"),
            ("space:note", {"input_schema": NOTE}, "takes files by GET"),
        ],
    )
    def test_are_named_with_their_place(self, view: Any, options: dict[str, Any], problem: str) -> None:
        with defined("mistakes") as server:
            register_view(view, server=server, **options)
            with pytest.raises(RegistryError, match=problem) as caught:
                CompiledServer(server)
        assert str(caught.value.where).startswith(__file__)

    def test_an_async_view_under_a_name_fails_its_call(self, server: Server) -> None:
        register_view("space:slow", server=server)
        assert call("reader", "space_slow").text == "The tool 'space_slow' failed."

    def test_a_name_that_is_not_there_is_not_found(self, server: Server) -> None:
        register_view("space:nothing", server=server)
        assert call("reader", "space_nothing").text == "Not found."


def test_nothing_of_rest_framework_is_imported() -> None:
    program = (
        "import os, sys; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.everything.settings'\n"
        "import django; django.setup()\n"
        "from django_mcp.contrib.views import FILE, register_view\n"
        "register_view('a', input_schema={'type': 'object', 'properties': {'f': FILE}}, method='POST')\n"
        "from django_mcp.server.compile import compile_all; assert compile_all() == []\n"
        "print([name for name in sys.modules if name.startswith(('rest_framework', 'drf_spectacular'))])\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
