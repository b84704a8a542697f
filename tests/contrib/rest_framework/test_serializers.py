"""Tools with serializers: what they take and give, in which words they refuse, and on which thread they run."""

import asyncio
import base64
import json
from typing import Annotated, Any

import jsonschema
import pytest
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import Http404
from rest_framework import exceptions, serializers

from django_mcp import Context, Resolve, Server, State
from django_mcp.exceptions import RegistryError
from django_mcp.server.compile import CompiledServer
from django_mcp.testing import Client, MCPClientError
from tests.contrib.rest_framework.library.models import Author, Book
from tests.contrib.rest_framework.library.serializers import (
    AuthorSerializer,
    BookSerializer,
    ReviewSerializer,
    ShelfSerializer,
)
from tests.contrib.rest_framework.pairs import Ask, by_rest
from tests.servers import defined


class Cover(serializers.Serializer[Any]):
    title = serializers.CharField(max_length=20)
    picture = serializers.FileField(allow_empty_file=True)


class Taken(serializers.Serializer[Any]):
    handle_it = serializers.BooleanField()


def client_of(server: Server, username: str = "owner") -> Client:
    return Client(User.objects.get(username=username), server=server.name, headers={"host": "testserver"})


def is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def compiled(server: Server, name: str) -> Any:
    return CompiledServer(server).tools[name]


class TestSchemas:
    def test_arguments_are_what_can_be_written_and_the_result_what_can_be_read(self, library: Server) -> None:
        @library.tool(serializer=BookSerializer, output_serializer=BookSerializer)
        def add(data: dict[str, Any]) -> Book:
            """Add a book."""
            raise NotImplementedError

        wire = compiled(library, "add").wire
        assert wire.description == "Add a book."
        assert wire.input_schema == compiled(library, "book_create").input_schema
        assert wire.output_schema == compiled(library, "book_create").output_schema
        assert "discount" in wire.input_schema["properties"]
        assert "discount" not in wire.output_schema["properties"]
        assert not {"id", "summary", "reviews"} & set(wire.input_schema["properties"])
        assert wire.input_schema["properties"]["title"]["description"] == "As it stands on the cover."

    def test_several_are_a_list_and_nesting_is_kept(self, library: Server) -> None:
        @library.tool(serializer=ShelfSerializer, output_serializer=BookSerializer(many=True))
        def shelve(data: dict[str, Any]) -> list[Book]:
            """Shelve."""
            raise NotImplementedError

        wire = compiled(library, "shelve").wire
        assert wire.input_schema["required"] == ["author", "books"]
        assert wire.output_schema["required"] == ["result"]
        assert wire.output_schema["properties"]["result"]["type"] == "array"
        for schema in (wire.input_schema, wire.output_schema):
            jsonschema.Draft202012Validator.check_schema(schema)

    def test_one_of_the_two_leaves_the_other_to_the_type_hints(self, library: Server) -> None:
        @library.tool(output_serializer=AuthorSerializer)
        def by_name(name: str, limit: int = 1) -> Author:
            """Find."""
            return Author.objects.filter(name=name)[limit - 1]

        @library.tool(serializer=ShelfSerializer)
        def count(data: dict[str, Any]) -> int:
            """Count."""
            return len(data["books"])

        assert compiled(library, "by_name").input_schema["required"] == ["name"]
        assert compiled(library, "count").output_schema["properties"] == {
            "result": {"title": "Result", "type": "integer"}
        }
        client = client_of(library)
        assert client.call("by_name", {"name": "Bob"}).structured["born"] == "1970-01-02"
        assert client.call("count", {"author": "Zoe", "books": [{"title": "One"}]}).structured == {"result": 1}


class TestCalls:
    def test_the_function_gets_validated_data_and_its_model_is_shown(self, library: Server) -> None:
        seen: list[Any] = []

        @library.tool(serializer=BookSerializer, output_serializer=BookSerializer)
        def add(data: dict[str, Any], ctx: Context) -> Book:
            """Add a book."""
            seen.append((data["author"], ctx.user.get_username(), is_on_a_loop()))
            data.pop("discount", None)
            return Book.objects.create(**data)

        added = client_of(library).call("add", {"title": "Fifth", "author": 1, "price": "1.50"})
        assert not added.is_error, added.text
        assert added.structured["price"] == "1.50"
        assert added.structured["summary"] == {"title": "Fifth", "long": False}
        author = Author.objects.get(pk=1)
        assert seen == [(author, "owner", False)]

    def test_it_stays_a_function(self, library: Server) -> None:
        @library.tool(serializer=Taken)
        def take(data: dict[str, bool]) -> bool:
            """Take."""
            return data["handle_it"]

        assert take({"handle_it": True}) is True

    def test_or_the_serializer_itself_with_the_request_of_the_caller(self, library: Server) -> None:
        class Mine(ReviewSerializer):
            def create(self, validated_data: dict[str, Any]) -> Any:
                return super().create({**validated_data, "owner": self.context["request"].user})

        @library.tool(serializer=Mine, output_serializer=Mine)
        def review(given: Mine) -> Any:
            """Review a book."""
            return given.save()

        came = client_of(library, "reader").call("review", {"book": 2, "text": "Fine.", "stars": 4})
        assert came.structured == {"id": 4, "book": 2, "owner": "reader", "text": "Fine.", "stars": 4}

    def test_links_are_those_of_the_rest_api(self, library: Server) -> None:
        @library.tool(output_serializer=AuthorSerializer(many=True))
        def authors() -> QuerySet[Author]:
            """List."""
            return Author.objects.filter(name="Ann")

        asked = Ask(user="owner", method="GET", path="/api/authors/?limit=1", tool="", arguments={})
        assert client_of(library).call("authors").structured == {"result": by_rest(asked).data["results"]}

    def test_rows_over_the_limit_are_cut(self, library: Server, settings: Any) -> None:
        settings.DJANGO_MCP = {**settings.DJANGO_MCP, "MAX_ROWS": 2}

        @library.tool(output_serializer=BookSerializer(many=True))
        def books() -> QuerySet[Book]:
            """List."""
            return Book.objects.all()

        came = client_of(library).call("books")
        assert [book["id"] for book in came.structured["result"]] == [1, 2]
        assert "Only the first 2 rows" in came.text

    def test_an_async_function_is_validated_and_shown_on_a_thread(self, library: Server) -> None:
        loops = []

        class Looked(BookSerializer):
            def validate(self, attrs: Any) -> Any:
                loops.append(("validated", is_on_a_loop()))
                return super().validate(attrs)

            def to_representation(self, instance: Any) -> Any:
                loops.append(("shown", is_on_a_loop()))
                return super().to_representation(instance)

        @library.tool(serializer=Looked, output_serializer=Looked)
        async def add(given: Looked) -> Book:
            """Add."""
            loops.append(("run", is_on_a_loop()))
            return await Book.objects.acreate(**given.validated_data)

        came = client_of(library).call("add", {"title": "Sixth", "author": 2})
        assert came.structured["author_name"] == "Bob"
        assert loops == [("validated", False), ("run", True), ("shown", False)]

    def test_a_file_is_uploaded(self, library: Server) -> None:
        @library.tool(serializer=Cover)
        def take(data: dict[str, Any]) -> str:
            """Take."""
            picture = data["picture"]
            return f"{picture.name} {picture.content_type} {picture.read()!r}"

        picture = {"name": "a.png", "data": base64.b64encode(b"abc").decode()}
        client = client_of(library)
        assert client.call("take", {"title": "A", "picture": picture}).text == "a.png image/png b'abc'"
        refused = client.call("take", {"title": "A", "picture": {**picture, "data": "?"}})
        assert "picture: its data is not Base64" in refused.text

    def test_several_can_be_taken_as_the_whole_body(self, library: Server) -> None:
        @library.tool(serializer=Taken(many=True))
        def take(data: list[dict[str, Any]]) -> int:
            """Take."""
            return len(data)

        client = client_of(library)
        assert client.call("take", {"body": [{"handle_it": True}, {"handle_it": False}]}).text == "2"
        asked = Taken(data=[{}], many=True)
        assert not asked.is_valid()
        assert json.loads(client.call("take", {"body": [{}]}).text) == json.loads(json.dumps(asked.errors))

    def test_a_state_is_given_beside_the_data(self, library: Server) -> None:
        @library.tool(serializer=Taken)
        def remember(data: dict[str, Any], state: State) -> str:
            """Remember."""
            state["count"] = state.get("count", 0) + 1
            return f"{data['handle_it']} {state['count']}"

        tool = compiled(library, "remember")
        assert set(tool.input_schema["properties"]) == {"handle_it", "handle"}
        client = client_of(library)
        first = client.call("remember", {"handle_it": True})
        assert first.text.startswith("True 1")
        handle = first.text.rpartition("handle=")[2].strip('".')
        again = client.call("remember", {"handle_it": False, "handle": handle})
        assert again.text.startswith("False 2")


class TestRefusals:
    @pytest.mark.parametrize(
        "data",
        [
            {},
            {"title": "x" * 101, "author": 1},
            {"title": "forbidden", "author": 1},
            {"title": "T", "author": 99, "pages": -1, "genre": "poetry"},
            {"title": ["T"], "author": {}, "price": "1.234", "published_at": "noon"},
        ],
        ids=str,
    )
    def test_what_is_invalid_is_told_as_the_rest_api_tells_it(self, library: Server, data: dict[str, Any]) -> None:
        @library.tool(serializer=BookSerializer, output_serializer=BookSerializer)
        def add(data: dict[str, Any]) -> Book:
            """Add a book."""
            raise NotImplementedError

        asked = Ask(user="owner", method="POST", path="/api/books/", tool="", arguments={}, data=data)
        came = client_of(library).call("add", data)
        assert came.is_error
        assert came.text == by_rest(asked).refusal

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (serializers.ValidationError({"title": ["Taken."]}), '{"title":["Taken."]}'),
            (exceptions.PermissionDenied("Not yours."), "Not yours."),
            (Http404("secret"), "Not found."),
            (exceptions.APIException("inner"), "The tool 'add' failed."),
        ],
        ids=lambda one: type(one).__name__ if isinstance(one, Exception) else "",
    )
    @pytest.mark.parametrize("is_async", [False, True])
    def test_what_the_function_refuses_is_told_in_its_words(
        self, library: Server, error: Exception, text: str, is_async: bool
    ) -> None:
        if is_async:

            @library.tool(name="add", serializer=Taken)
            async def aadd(data: dict[str, Any]) -> None:
                """Add."""
                raise error

        else:

            @library.tool(name="add", serializer=Taken)
            def add(data: dict[str, Any]) -> None:
                """Add."""
                raise error

        came = client_of(library).call("add", {"handle_it": True})
        assert came.is_error
        assert came.text == text

    def test_who_is_throttled_by_the_function_is_told_when_to_come_back(self, library: Server) -> None:
        @library.tool(serializer=Taken)
        def add(data: dict[str, Any]) -> None:
            """Add."""
            raise exceptions.Throttled(wait=7)

        with pytest.raises(MCPClientError, match="Request was throttled"):
            client_of(library).call("add", {"handle_it": True})


class TestMistakes:
    @pytest.fixture
    def server(self) -> Any:
        with defined("mistakes") as server:
            yield server

    def compile(self, server: Server) -> str:
        with pytest.raises(RegistryError) as caught:
            CompiledServer(server)
        assert str(caught.value.where).startswith(__file__)
        return f"{caught.value} {caught.value.remedy}"

    def test_no_parameter_for_the_data_or_more_than_one(self, server: Server) -> None:
        @server.tool(serializer=Taken)
        def add(data: dict[str, Any], other: int, ctx: Context) -> None:
            """Add."""

        assert "has the arguments (data, other) beside a serializer" in self.compile(server)

    def test_a_field_that_is_a_parameter_too(self, server: Server) -> None:
        @server.tool(serializer=Taken)
        def add(data: dict[str, Any], handle_it: Context) -> None:
            """Add."""

        assert "the parameter 'handle_it', which is a field" in self.compile(server)

    def test_two_shapes(self, server: Server) -> None:
        @server.tool(output_serializer=Taken, fields=("id",))
        def add() -> User:
            """Add."""
            raise NotImplementedError

        assert "output_serializer beside another shape" in self.compile(server)

    def test_two_schemas(self, server: Server) -> None:
        @server.tool(serializer=Taken, input_schema={"type": "object"})
        def add(data: dict[str, Any]) -> None:
            """Add."""

        assert "a serializer and an input_schema" in self.compile(server)

    def test_what_is_no_serializer(self, server: Server) -> None:
        options: dict[str, Any] = {"serializer": User}

        @server.tool(**options)
        def add(data: dict[str, Any]) -> None:
            """Add."""

        assert "which is no serializer" in self.compile(server)

    def test_a_generator(self, server: Server) -> None:
        @server.tool(serializer=Taken)
        def add(data: dict[str, Any]) -> Any:
            """Add."""
            yield 1

        assert "ctx.progress" in self.compile(server)


def test_a_question_is_no_field(library: Server) -> None:
    def ask(ctx: Context) -> str:
        return str(ctx.user.get_username())

    @library.tool(serializer=Taken)
    def add(data: dict[str, Any], who: Annotated[str, Resolve(ask)]) -> str:
        """Add."""
        return f"{who} {data['handle_it']}"

    assert set(compiled(library, "add").input_schema["properties"]) == {"handle_it"}
    assert client_of(library).call("add", {"handle_it": True}).text == "owner True"
