"""What is exposed, to whom, under which schema; and what is refused when it is registered."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from django.contrib.auth.models import User
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from pytest_django import Settings
from rest_framework import authentication, permissions, routers, viewsets
from rest_framework.response import Response
from rest_framework.views import APIView

from django_mcp import Server
from django_mcp.contrib.rest_framework import register_router, register_view, register_viewset
from django_mcp.exceptions import RegistryError
from django_mcp.server.compile import CompiledServer, compile_all
from django_mcp.testing import Client
from tests.contrib.rest_framework.library import urls, views
from tests.servers import defined

TOKENS = {"AUTHENTICATION": ["rest_framework.authentication.TokenAuthentication"], "ACCESS": "public"}


@pytest.fixture(autouse=True)
def tokens(settings: Settings) -> None:
    settings.DJANGO_MCP = TOKENS


def names_for(username: str, server: Server) -> set[str]:
    user = User.objects.get(username=username) if username else None
    return {tool.name for tool in Client(user, server=server.name).list_tools()}


def schema_of(server: Server, name: str) -> dict[str, Any]:
    found: dict[str, Any] = CompiledServer(server).tools[name].input_schema
    return found


class Open(viewsets.ViewSet):
    """A viewset without a model."""

    authentication_classes: Any = ()

    def list(self, request: Any) -> Response:
        return Response([request.user.is_anonymous])

    def create(self, request: Any) -> Response:
        return Response({"got": request.data})


class TestWhatIsExposed:
    def test_without_a_choice_only_what_reads(self, db: None) -> None:
        with defined("reads") as server:
            register_router(urls.router, server=server)
            tools = CompiledServer(server).tools
            assert "book_list" in tools
            assert "author_sales" in tools
            assert {name for name, tool in tools.items() if not tool.definition.read_only} == set()

    def test_what_is_named_and_nothing_else(self, db: None) -> None:
        with defined("named") as server:
            register_viewset(views.BookViewSet, include=["list", "book_create"], server=server)
            assert set(CompiledServer(server).tools) == {"book_list", "book_create"}

    def test_but_for_what_is_excluded(self, db: None) -> None:
        with defined("excluded") as server:
            register_viewset(views.BookViewSet, exclude=["list", "book_text"], server=server)
            assert set(CompiledServer(server).tools) == {"book_retrieve", "book_genres", "book_cover_file"}

    def test_a_format_and_the_root_of_a_router_are_no_tools(self, db: None) -> None:
        with defined("formats") as server:
            register_router(urls.router, server=server)
            tools = CompiledServer(server).tools
            assert not [name for name in tools if "root" in name or "format" in schema_of(server, name)["properties"]]

    def test_a_method_that_the_class_does_not_take_is_no_tool(self, db: None) -> None:
        class ReadOnly(Open):
            http_method_names = ("get",)

        with defined("methods") as server:
            register_viewset(ReadOnly, basename="some", include=["list", "create"], server=server)
            with pytest.raises(RegistryError, match="there is no action create"):
                CompiledServer(server)


class TestWhoSeesWhat:
    def test_what_the_views_permissions_refuse_is_not_listed(self, library: Server) -> None:
        assert "user_list" not in names_for("", library)
        assert "user_list" not in names_for("owner", library)
        assert "user_list" in names_for("staff", library)
        assert "author_create" not in names_for("reader", library)
        assert "author_create" in names_for("owner", library)
        assert "book_create" not in names_for("", library)
        assert {"book_list", "hello"} <= names_for("", library)

    def test_the_list_is_private_to_who_asked(self, library: Server) -> None:
        reply = Client(server=library.name).request("tools/list")
        assert reply.raw["cacheScope"] == "private"


class TestSchemas:
    def test_arguments_are_those_of_path_filters_and_pages(self, library: Server) -> None:
        listed = schema_of(library, "book_list")["properties"]
        assert {"genre", "genre__in", "pages__gte", "search", "ordering", "page", "page_size"} <= set(listed)
        assert listed["page"]["description"]
        assert set(schema_of(library, "author_list")["properties"]) == {"limit", "offset"}
        assert set(schema_of(library, "user_retrieve")["properties"]) == {"username"}

    def test_a_body_has_what_can_be_written(self, library: Server) -> None:
        body = schema_of(library, "book_create")
        assert "discount" in body["properties"]
        assert not {"id", "summary", "author_name", "reviews", "secret_note"} & set(body["properties"])
        assert set(body["required"]) == {"title", "author"}
        assert body["properties"]["title"]["description"] == "As it stands on the cover."
        assert schema_of(library, "book_partial_update")["required"] == ["pk"]

    def test_a_result_has_what_can_be_read(self, library: Server) -> None:
        told = CompiledServer(library).tools["book_retrieve"].output_schema
        assert told is not None
        assert "discount" not in told["properties"]
        assert told["properties"]["reviews"]["items"]["$ref"] in {f"#/$defs/{name}" for name in told["$defs"]}
        assert "type" not in told["properties"]["summary"]

    def test_what_is_only_guessed_is_left_open(self, library: Server) -> None:
        assert CompiledServer(library).tools["book_genres"].output_schema is None
        assert CompiledServer(library).tools["ping_post"].input_schema["properties"].keys() == {"year", "body"}

    def test_each_is_a_schema(self, library: Server) -> None:
        for tool in CompiledServer(library).tools.values():
            jsonschema.Draft202012Validator.check_schema(tool.input_schema)
            if tool.output_schema is not None:
                jsonschema.Draft202012Validator.check_schema(tool.output_schema)

    def test_a_nested_body_keeps_its_shape(self, library: Server) -> None:
        shelf = schema_of(library, "book_shelve")
        assert shelf["required"] == ["author", "books"]
        assert shelf["$defs"]["ShelfBookRequest"]["required"] == ["title"]

    def test_descriptions_come_from_the_docstrings(self, library: Server) -> None:
        tools = CompiledServer(library).tools
        assert tools["book_rate"].wire.description == "Rate a book with one to five stars."
        assert tools["book_list"].wire.description == "Books of the library."


class TestAuthentication:
    @pytest.fixture
    def basic(self) -> Any:
        class Basic(Open):
            authentication_classes = (authentication.BasicAuthentication,)

        return Basic

    def test_a_view_with_other_classes_than_the_endpoint_is_refused(self, basic: Any) -> None:
        with defined("basic") as server:
            register_viewset(basic, basename="basic", server=server)
            with pytest.raises(RegistryError, match="BasicAuthentication, which the endpoint does not") as caught:
                CompiledServer(server)
        assert str(caught.value.where).startswith(__file__)
        assert "accept_endpoint_authentication" in str(caught.value.remedy)

    def test_unless_it_takes_whom_the_endpoint_knows(self, db: None, basic: Any) -> None:
        user = User.objects.create_user("u")
        with defined("basic") as server:
            register_viewset(basic, basename="basic", server=server, accept_endpoint_authentication=True)
            assert Client(user, server="basic").call("basic_list").structured == {"result": [False]}

    def test_a_view_without_classes_sees_nobody(self, db: None) -> None:
        user = User.objects.create_user("u")
        with defined("open") as server:
            register_viewset(Open, basename="open", server=server)
            assert Client(user, server="open").call("open_list").structured == {"result": [True]}

    def test_the_views_own_classes_do_not_run(self, db: None) -> None:
        ran = []

        class Counting(authentication.TokenAuthentication):
            def authenticate(self, request: Any) -> Any:
                ran.append(request)

        class Counted(Open):
            authentication_classes = (Counting,)
            permission_classes = (permissions.IsAuthenticated,)

        user = User.objects.create_user("u")
        with defined("counted") as server:
            register_viewset(Counted, basename="counted", server=server, accept_endpoint_authentication=True)
            assert not Client(user, server="counted").call("counted_list").is_error
            refused = Client(server="counted").call("counted_list")
        assert refused.is_error
        assert refused.text == "Authentication credentials were not provided."
        assert ran == []


class TestRefusals:
    def test_decorators_around_the_view_are_refused(self) -> None:
        with defined("wrapped") as server:
            register_view(never_cache(views.PingView.as_view()), server=server)
            with pytest.raises(RegistryError, match="has decorators around as_view"):
                CompiledServer(server)

    def test_decorators_on_the_class_run(self, db: None) -> None:
        seen = []

        def note(view: Any) -> Any:
            def inner(*args: Any, **kwargs: Any) -> Any:
                seen.append(1)
                return view(*args, **kwargs)

            return inner

        @method_decorator(note, name="dispatch")
        class Noted(APIView):
            authentication_classes = ()

            def get(self, request: Any) -> Response:
                return Response({"fine": True})

        with defined("noted") as server:
            register_view(Noted, server=server)
            assert Client(server="noted").call("noted").structured == {"fine": True}
        assert seen == [1]

    def test_an_action_that_is_not_there_is_named(self) -> None:
        with defined("typo") as server:
            register_viewset(views.BookViewSet, include=["list", "creat"], server=server)
            with pytest.raises(RegistryError, match="there is no action creat"):
                CompiledServer(server)

    def test_a_method_that_is_not_answered_is_named(self) -> None:
        with defined("methods") as server:
            register_view(views.PingView, methods=["DELETE"], route="<int:year>", server=server)
            with pytest.raises(RegistryError, match="PingView does not answer DELETE"):
                CompiledServer(server)

    def test_one_view_that_cannot_be_served_leaves_the_others(self, db: None) -> None:
        with defined("half") as server:
            register_viewset(views.BookViewSet, include=["nothing"], server=server)
            register_view(Open.as_view({"get": "list"}), name="open", server=server)
            assert [error for error in compile_all() if "nothing" in str(error)]


def test_the_projects_classes_stay_as_they_were(library: Server) -> None:
    before = {name: dict(vars(kind)) for name, kind in vars(views).items() if isinstance(kind, type)}
    compiled = CompiledServer(library)
    assert compiled.tools
    Client(server=library.name).call("book_list")
    after = {name: dict(vars(kind)) for name, kind in vars(views).items() if isinstance(kind, type)}
    assert after == before


def test_a_view_outside_of_the_urlconf_has_the_path_of_its_own_route(db: None) -> None:
    class Where(APIView):
        authentication_classes = ()

        def get(self, request: Any, year: int) -> Response:
            return Response({"path": request.path, "year": year})

    with defined("where") as server:
        register_view(Where, route="where/<int:year>/", server=server)
        assert Client(server="where").call("where", {"year": 7}).structured == {"path": "/where/7/", "year": 7}
        assert Client(server="where").call("where", {"year": "x"}).text == "Not found."
        assert "year: it is required" in Client(server="where").call("where").text
        assert "other: there is no such argument" in Client(server="where").call("where", {"year": 1, "other": 2}).text


def test_a_router_under_two_namespaces_goes_by_the_one_that_is_named(db: None) -> None:
    router = routers.SimpleRouter()
    router.register("open", Open, basename="open")
    with defined("spaces") as server:
        register_router(router, namespace="second", server=server)
        assert not Client(server="spaces").call("open_list").is_error
