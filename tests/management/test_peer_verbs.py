"""`manage.py mcp tools|call|read|prompt` against the registry of the project."""

import enum
import io
import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from mcp_types import CreateMessageResult, SamplingMessage, TextContent
from pydantic import BaseModel, Field

from django_mcp import Context, Elicit, Image, Resolve, Sample, Server, ToolError
from django_mcp.management import layout
from tests.servers import defined

pytestmark = pytest.mark.django_db


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Booking(BaseModel):
    sure: bool
    seats: int = 1
    note: str = ""
    meal: Literal["fish", "none"] = Field(default="none", description="Which meal")


def confirm(name: str) -> Elicit[Booking]:
    return Elicit(f"Book for {name}?", Booking)


def joke() -> Sample:
    return Sample([SamplingMessage(role="user", content=TextContent(type="text", text="Tell a joke"))], max_tokens=9)


class Typed(io.StringIO):
    """A terminal: what a person types, or what a program shows."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def server() -> Iterator[Server]:
    with defined("tested") as server:
        yield server


def run(*words: str, stderr: io.StringIO | None = None) -> tuple[str, str]:
    stdout, stderr = io.StringIO(), stderr or io.StringIO()
    call_command("mcp", *words, "--server", "tested", stdout=stdout, stderr=stderr, no_color=True)
    return stdout.getvalue(), stderr.getvalue()


def add_book(server: Server) -> None:
    @server.tool
    def book(name: str, answer: Annotated[Booking, Resolve(confirm)]) -> str:
        return f"{name} {answer.sure} {answer.seats} {answer.note!r} {answer.meal}"


def test_tools_are_listed_with_their_parameters_and_texts(server: Server) -> None:
    @server.tool(title="Count things")
    def count(
        kind: str,
        least: int = 3,
        colour: Colour = Colour.RED,
        until: float | None = None,
        tags: list[str] | None = None,
    ) -> int:
        """Count the things of one kind, which is a text that is long enough for a second line on a terminal of eighty.

        And a second paragraph.
        """
        return 0

    server.tool(name="plain")(lambda: "")
    stdout, stderr = run("tools")
    assert stdout == (
        'count(kind: string, least: integer = 3, colour: string = "red", until: number|null = null, '
        "tags: array|null = null)\n"
        "    Count things\n"
        "\n"
        "    Count the things of one kind, which is a text that is long enough for a\n"
        "    second line on a terminal of eighty.\n"
        "\n"
        "    And a second paragraph.\n"
        "\n"
        "plain()\n"
    )
    assert stderr == ""


def test_tools_as_json_are_what_clients_get(server: Server) -> None:
    @server.tool(read_only=True)
    def count() -> int:
        """Count."""
        return 0

    (tool,) = json.loads(run("tools", "--json")[0])
    assert (tool["name"], tool["description"], tool["annotations"]) == ("count", "Count.", {"readOnlyHint": True})
    assert tool["inputSchema"]["type"] == "object"


def test_only_what_the_user_may_use_is_listed(server: Server) -> None:
    server.tool(name="guarded", permission="auth.view_group")(lambda: "inside")
    alice = User.objects.create_user("alice")
    alice.user_permissions.add(Permission.objects.get(codename="view_group"))
    assert run("tools") == ("", "There are no tools that this caller sees.\n")
    assert run("tools", "--user", "alice")[0] == "guarded()\n"
    assert run("call", "guarded", "--user", "alice")[0] == "inside\n"
    with pytest.raises(CommandError, match=r"There is no tool 'guarded'; `manage.py mcp tools` lists them"):
        run("call", "guarded")


def test_arguments_are_read_by_the_schema(server: Server) -> None:
    @server.tool(structured=False)
    def show(
        text: str, number: int, yes: bool, colour: Colour, many: list[int], maybe: str | None = None, some: Any = None
    ) -> str:
        return repr((text, number, yes, str(colour), many, maybe, some))

    given = ("text=7", "number=7", "yes=true", "colour=blue", "many=[1, 2]", "maybe=a=b", "some:={}")
    assert run("call", "show", *given)[0] == "('7', 7, True, 'blue', [1, 2], 'a=b', {})\n"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("number", "'number' is not an argument; write NAME=VALUE, or NAME:=JSON."),
        ("=7", "'=7' is not an argument; write NAME=VALUE, or NAME:=JSON."),
        ("number=seven", "number=seven does not fit; number takes a whole number."),
        ("number:=seven", "number=seven does not fit; number takes JSON."),
        ("number=[]", "Invalid arguments: number: Input should be a valid integer"),
        ("unknown=7", "Invalid arguments: number: Field required"),
    ],
)
def test_an_argument_that_does_not_fit_is_told_in_one_line(server: Server, argument: str, message: str) -> None:
    @server.tool
    def show(number: int) -> int:
        return number

    with pytest.raises(CommandError) as caught:
        run("call", "show", argument)
    assert str(caught.value).startswith(message)
    assert caught.value.returncode == 1


def test_rows_are_a_table_and_an_object_is_a_list(server: Server) -> None:
    class Row(BaseModel):
        name: str
        size: int | None = None

    @server.tool
    def rows() -> list[dict[str, Any]]:
        return [{"name": "first", "size": 1}, {"name": "the second", "size": None}, {"name": "x" * 80}]

    @server.tool
    def one() -> dict[str, Any]:
        return {"name": "first", "size": 1, "tags": ["a", "b"]}

    @server.tool
    def names() -> list[str]:
        return ["a", "b"]

    assert run("call", "rows")[0] == (f"name{' ' * 58}size\nfirst{' ' * 57}1\nthe second\n{'x' * 59}…\n")
    assert run("call", "one")[0] == 'name  first\nsize  1\ntags  ["a", "b"]\n'
    assert run("call", "names")[0] == "a\nb\n"


def test_cut_rows_say_so(server: Server, settings: Any) -> None:
    settings.DJANGO_MCP = {"MAX_ROWS": 1}
    Group.objects.create(name="one")
    Group.objects.create(name="two")

    @server.tool(fields=("name",))
    def groups() -> list[Group]:
        return list(Group.objects.order_by("name"))

    assert run("call", "groups")[0] == (
        "name\none\nOnly the first 1 rows are shown; there are more. Narrow the request to see them.\n"
    )


def test_content_that_is_no_text_is_named(server: Server) -> None:
    server.tool(name="picture")(lambda: Image(data=b"12345", format="png"))
    assert run("call", "picture")[0] == "[image/png, 5 bytes]\n"


def test_json_is_the_result_as_it_travels(server: Server) -> None:
    @server.tool
    def fail(really: bool) -> int:
        if really:
            raise ToolError("on purpose")
        return 3

    assert json.loads(run("call", "fail", "really=false", "--json")[0])["structuredContent"] == {"result": 3}
    stdout = io.StringIO()
    with pytest.raises(CommandError, match=r"^The tool failed\.$"):
        call_command("mcp", "call", "fail", "really=true", "--json", "--server", "tested", stdout=stdout)
    assert json.loads(stdout.getvalue())["isError"] is True


def test_a_tool_that_fails_is_one_line_and_exit_code_1(server: Server) -> None:
    @server.tool
    def fail() -> str:
        raise ToolError("on purpose")

    @server.tool
    def crash() -> str:
        raise LookupError("secret")

    with pytest.raises(CommandError, match=r"^on purpose$") as caught:
        run("call", "fail")
    assert caught.value.returncode == 1
    with pytest.raises(CommandError, match=r"^The tool 'crash' failed\.$"):
        run("call", "crash")


def test_resources_are_read(server: Server) -> None:
    server.resource("note://{name}")(lambda name: f"I am {name}")
    server.resource("bytes://one")(lambda: b"123")
    assert run("read", "note://one")[0] == "I am one\n"
    assert run("read", "bytes://one")[0] == "[application/octet-stream, 3 bytes]\n"
    assert json.loads(run("read", "note://one", "--json")[0])["contents"][0]["text"] == "I am one"
    with pytest.raises(CommandError, match=r"^Resource not found$"):
        run("read", "other://one")


def test_prompts_are_rendered(server: Server) -> None:
    @server.prompt
    def greet(name: str) -> list[Any]:
        return [f"Greet {name}", {"role": "assistant", "content": "Hello"}]

    assert run("prompt", "greet", "name=Eve=Adam")[0] == "user: Greet Eve=Adam\n\nassistant: Hello\n"
    assert len(json.loads(run("prompt", "greet", "name=Eve", "--json")[0])["messages"]) == 2
    with pytest.raises(CommandError, match=r"^Missing or invalid arguments: name$"):
        run("prompt", "greet")


def test_questions_are_answered_by_options(server: Server) -> None:
    add_book(server)

    @server.tool
    def tell(said: Annotated[CreateMessageResult, Resolve(joke)]) -> str:
        assert isinstance(said.content, TextContent)
        return said.content.text

    stdout, _ = run("call", "book", "name=Eve", "--answer", 'confirm={"sure": true, "seats": 2}')
    assert stdout == "Eve True 2 '' none\n"
    assert run("call", "tell", "--answer", "joke=ha ha")[0] == "ha ha\n"
    for word in ("decline", "cancel"):
        with pytest.raises(CommandError, match=f"elicitation was {word}"):
            run("call", "book", "name=Eve", "--answer", f"confirm={word}")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            "other={}",
            "The server asked the question 'confirm' (elicitation): Book for Eve?\n"
            'Answer it by --answer "confirm"=JSON.',
        ),
        ("confirm", "--answer 'confirm' is not NAME=JSON."),
        ("confirm=5", "5 is no answer to the question 'confirm'"),
    ],
)
def test_an_answer_that_is_missing_or_none_is_told(server: Server, answer: str, message: str) -> None:
    add_book(server)
    with pytest.raises(CommandError) as caught:
        run("call", "book", "name=Eve", "--answer", answer)
    assert str(caught.value).startswith(message)


def test_a_person_is_asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    add_book(server)
    monkeypatch.setattr(sys, "stdin", Typed("perhaps\ny\nmany\n3\n\nmeat\nfish\n"))
    stdout, stderr = run("call", "book", "name=Eve")
    assert stdout == "Eve True 3 '' fish\n"
    assert stderr == (
        "Book for Eve?\n"
        "(an empty line takes the default, Ctrl-D declines)\n"
        "Sure (y/n): Answer y or n.\n"
        "Sure (y/n): Seats [1]: Answer with a whole number.\n"
        "Seats [1]: Note []: Which meal (fish, none) [none]: Answer with one of fish, none.\n"
        "Which meal (fish, none) [none]: "
    )


def test_a_person_declines_by_ending_the_input(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    add_book(server)
    monkeypatch.setattr(sys, "stdin", Typed("y\n"))
    with pytest.raises(CommandError, match="elicitation was decline"):
        run("call", "book", "name=Eve")


def test_a_person_stands_in_for_the_model(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    @server.tool
    def tell(said: Annotated[CreateMessageResult, Resolve(joke)]) -> str:
        assert isinstance(said.content, TextContent)
        return said.content.text

    monkeypatch.setattr(sys, "stdin", Typed("ha ha\n"))
    stdout, stderr = run("call", "tell")
    assert stdout == "ha ha\n"
    assert stderr == "Tell a joke\nThe answer of the model: "


def test_progress_is_for_a_terminal_only(server: Server) -> None:
    @server.tool
    def work(ctx: Context) -> str:
        ctx.progress(1, 4, "one")
        ctx.warning({"left": 3})
        ctx.progress(2)
        return "done"

    assert run("call", "work") == ("done\n", "")
    bar = f"[{'#' * 6}{' ' * 18}]  25% one"
    assert run("call", "work", stderr=Typed()) == (
        "done\n",
        f'{bar}\r{" " * len(bar)}\rwarning: {{"left": 3}}\n2\r \r',
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--user", "nobody"), "There is no user 'nobody'."),
        (("--token", "mcp_x"), "--token is for --url; for the project's own registry say who asks by --user."),
        (
            ("--url", "http://127.0.0.1:9/mcp"),
            "--user and --server are for the project's own registry, not for --url.",
        ),
    ],
)
def test_options_that_do_not_go_together(server: Server, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(CommandError) as caught:
        run("tools", *options)
    assert str(caught.value) == message


def test_a_server_that_there_is_not() -> None:
    with pytest.raises(CommandError, match="there is no MCP server 'tested'; there are default"):
        run("tools")


def test_a_definition_that_cannot_be_served_is_told(server: Server) -> None:
    @server.tool
    def users() -> list[User]:
        return []

    with pytest.raises(CommandError, match="returns User, a model, without saying which of its fields may leave"):
        run("tools")


def test_handlers_can_build_urls(server: Server, settings: Any) -> None:
    @server.tool
    def where(ctx: Context) -> str:
        return ctx.request.build_absolute_uri("/a")

    settings.ALLOWED_HOSTS = ["*", ".example.com"]
    assert run("call", "where")[0] == "http://example.com/a\n"
    settings.ALLOWED_HOSTS = ["*"]
    assert run("call", "where")[0] == "http://localhost/a\n"


def test_layout_of_odd_values() -> None:
    assert layout.value([]) == ""
    assert layout.value([1, {"a": 1}]) == '1\n{"a": 1}'
    assert layout.value(None) == "null"
    assert layout.value({}) == ""
