"""What leaves a handler: declared fields of models, content made of bytes and files, and nothing else."""

import base64
import dataclasses
import datetime
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.files.base import ContentFile
from django.core.files.storage import InMemoryStorage
from django.db import models
from django.db.models import QuerySet
from mcp_types import AudioContent, EmbeddedResource, ImageContent, TextContent
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from django_mcp import Audio, Image, Server
from django_mcp.exceptions import RegistryError
from django_mcp.server.compile import compiled
from django_mcp.testing import Client

pytestmark = pytest.mark.django_db

PNG = b"\x89PNG\r\n\x1a\n rest"
SECRET = "md5$never$shown"


class Document(models.Model):
    """Never saved; its file is in memory."""

    file = models.FileField(storage=InMemoryStorage())

    class Meta:
        app_label = "tests"
        managed = False

    def __str__(self) -> str:
        return str(self.file)


@dataclasses.dataclass(frozen=True, slots=True)
class UserRow:
    username: str
    email: str


class UserDict(TypedDict):
    username: str
    email: str


class GroupShape(BaseModel):
    name: str


class UserShape(BaseModel):
    username: str
    email: str


class UserWithGroups(UserShape):
    groups: list[GroupShape]
    date_joined: datetime.datetime


class Aliased(BaseModel):
    user_name: Annotated[str, Field(validation_alias="username", serialization_alias="userName")]


class ByAlias(BaseModel):
    email: str = Field(alias="email", description="Where to write")
    username: str


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    kind: str


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    username: str


@dataclasses.dataclass
class Page:
    total: int
    rows: list[UserRow]


@dataclasses.dataclass
class Wrapped:
    user: Any


@pytest.fixture
def alice() -> User:
    return User.objects.create(username="alice", email="alice@example.com", password=SECRET, first_name="Hidden")


def call(name: str = "tool", **options: Any) -> Any:
    return Client(server="tested", **options).call(name)


def schema_of_the_tool() -> dict[str, Any]:
    (tool,) = Client(server="tested").list_tools()
    assert tool.output_schema is not None
    return tool.output_schema


# Models need a shape


@pytest.mark.parametrize(
    "annotation",
    [
        User,
        User | None,
        list[User],
        dict[str, User],
        tuple[int, User],
        QuerySet[User],
        QuerySet,
        Annotated[list[User], "noted"],
        list[User] | None,
        Iterator[list[User]],
    ],
    ids=str,
)
def test_a_model_without_a_shape_does_not_load(server: Server, annotation: Any) -> None:
    def leak():  # type: ignore[no-untyped-def]
        yield []

    def leak_at_once():  # type: ignore[no-untyped-def]
        return []

    function = leak if "Iterator" in str(annotation) else leak_at_once
    function.__annotations__["return"] = annotation
    definition = server.tool(function)
    with pytest.raises(RegistryError) as caught:
        compiled(server)
    assert caught.value.where == definition.where
    assert "test_shapes.py:" in caught.value.where
    assert "without saying which of its fields may leave" in str(caught.value)
    assert "annotate a dataclass, a TypedDict or a pydantic model, or give fields=(" in caught.value.remedy


def test_the_remedy_names_fields_of_the_model(server: Server) -> None:
    @server.tool
    def leak() -> User:
        raise NotImplementedError

    with pytest.raises(RegistryError, match=r'returns User, a model, .* or give fields=\("id", "password", …\)'):
        compiled(server)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    "value",
    [
        lambda user: user,
        lambda user: [user],
        lambda user: {"a": {"b": [user]}},
        lambda user: (1, user),
        lambda user: User.objects.all(),
        lambda user: User.objects,
        lambda user: User.objects.values(),
        lambda user: User.objects.values_list(),
        lambda user: Wrapped(user),
        lambda user: {"a": Wrapped([user])},
        lambda user: UserShape.model_construct(username=user, email=""),
        lambda user: iter([user]),
    ],
    ids=range(12),
)
@pytest.mark.parametrize("annotation", [None, Any, dict[str, Any], object])
def test_a_model_that_comes_unannounced_stays_inside(
    server: Server, alice: User, annotation: Any, value: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def sync():  # type: ignore[no-untyped-def]
        return value(alice)

    async def later():  # type: ignore[no-untyped-def]
        return value(alice)

    function = sync if kind == "sync" else later
    if annotation is not None:
        function.__annotations__["return"] = annotation
    server.tool(name="tool")(function)
    result = call()
    assert result.is_error
    assert result.text == "The tool 'tool' failed."
    assert "alice" not in str(result.raw)
    assert SECRET not in str(result.raw)
    assert caplog.records


# Shapes


@pytest.mark.parametrize("shape", [UserRow, UserDict, UserShape], ids=lambda shape: shape.__name__)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_declared_shape_lets_its_fields_out_and_no_other(server: Server, alice: User, shape: Any, kind: str) -> None:
    def one():  # type: ignore[no-untyped-def]
        return User.objects.get()

    async def one_async():  # type: ignore[no-untyped-def]
        return await User.objects.aget()

    def many():  # type: ignore[no-untyped-def]
        return User.objects.all()

    async def many_async():  # type: ignore[no-untyped-def]
        return User.objects.all()

    single, several = (one, many) if kind == "sync" else (one_async, many_async)
    single.__annotations__["return"] = shape
    several.__annotations__["return"] = list[shape]
    server.tool(name="one")(single)
    server.tool(name="many")(several)
    shown = {"username": "alice", "email": "alice@example.com"}
    assert call("one").structured == shown
    assert call("many").structured == {"result": [shown]}
    for name in ("one", "many"):
        assert "Hidden" not in str(call(name).raw)
        assert SECRET not in str(call(name).raw)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_listed_fields_leave_and_no_other(server: Server, alice: User, kind: str) -> None:
    if kind == "sync":

        @server.tool(name="tool", fields=("id", "username"))
        def users() -> list[User]:
            return list(User.objects.all())
    else:

        @server.tool(name="tool", fields=("id", "username"))
        async def users_async() -> QuerySet[User]:
            return User.objects.all()

    result = call()
    assert result.structured == {"result": [{"id": alice.pk, "username": "alice"}]} or kind == "async"
    assert '"username": "alice"' in result.text
    assert "Hidden" not in str(result.raw)
    assert SECRET not in str(result.raw)


def test_listed_fields_have_a_schema_with_their_help_texts(server: Server) -> None:
    @server.tool(fields=("id", "username", "last_login", "is_staff", "groups"))
    def users() -> list[User]:
        return []

    schema = schema_of_the_tool()
    row = schema["$defs"]["UserFields"]["properties"]
    assert row["id"]["type"] == "integer"
    assert row["username"]["description"] == User._meta.get_field("username").help_text
    assert [arm["type"] for arm in row["last_login"]["anyOf"]] == ["string", "null"]
    assert row["is_staff"]["type"] == "boolean"
    assert row["groups"]["type"] == "array"


def test_one_row_or_none_by_listed_fields(server: Server) -> None:
    @server.tool(name="tool", fields=("username",))
    def first() -> User | None:
        return User.objects.first()

    @server.tool(name="rows", fields=("username",))
    def rows() -> list[User] | None:
        return None

    assert call().structured == {"result": None}
    assert call("rows").structured == {"result": None}
    User.objects.create(username="bob")
    assert call().structured == {"result": {"username": "bob"}}


def test_a_listed_relation_is_named_by_its_keys(server: Server, alice: User) -> None:
    group = Group.objects.create(name="staff")
    alice.groups.add(group)

    @server.tool(name="tool", fields=("username", "groups"))
    def users() -> list[User]:
        return list(User.objects.all())

    @server.tool(name="permission", fields=("codename", "content_type"))
    def permission() -> Permission:
        return Permission.objects.get(codename="view_group")

    assert call().structured == {"result": [{"username": "alice", "groups": [group.pk]}]}
    expected = Permission.objects.get(codename="view_group").content_type_id
    assert call("permission").structured == {"codename": "view_group", "content_type": expected}


def test_a_listed_field_that_there_is_not_does_not_load(server: Server) -> None:
    @server.tool(fields=("username", "nickname"))
    def users() -> list[User]:
        return []

    with pytest.raises(RegistryError, match="User has no field 'nickname'"):
        compiled(server)


def test_listed_fields_are_for_models_only(server: Server) -> None:
    @server.tool(name="tool", fields=("username",))
    def text() -> Any:
        return "secret"

    assert call().text == "The tool 'tool' failed."


def test_shapes_in_shapes(server: Server, alice: User) -> None:
    alice.groups.add(Group.objects.create(name="staff"), Group.objects.create(name="boss"))

    @server.tool(name="tool")
    def users() -> list[UserWithGroups]:
        return User.objects.all()  # type: ignore[return-value]

    (row,) = call().structured["result"]
    assert row.keys() == {"username", "email", "groups", "date_joined"}
    assert sorted(group["name"] for group in row["groups"]) == ["boss", "staff"]
    assert SECRET not in str(call().raw)


def test_a_shape_or_none(server: Server, alice: User) -> None:
    @server.tool(name="tool")
    def found() -> UserShape | None:
        return User.objects.filter(username="alice").first()  # type: ignore[return-value]

    @server.tool(name="missing")
    def missing() -> UserShape | None:
        return User.objects.filter(username="bob").first()  # type: ignore[return-value]

    assert call().structured == {"result": {"username": "alice", "email": "alice@example.com"}}
    assert call("missing").structured == {"result": None}


def test_a_mapping_of_shapes(server: Server, alice: User) -> None:
    @server.tool(name="tool")
    def by_name() -> dict[str, UserShape]:
        return {user.username: user for user in User.objects.all()}  # type: ignore[misc]

    assert call().structured == {"alice": {"username": "alice", "email": "alice@example.com"}}


def test_a_shape_with_an_alias_and_one_that_forbids_more(server: Server, alice: User) -> None:
    @server.tool(name="tool")
    def aliased() -> ByAlias:
        return User.objects.get()  # type: ignore[return-value]

    @server.tool(name="strict")
    def strict() -> list[Strict]:
        return User.objects.all()  # type: ignore[return-value]

    @server.tool(name="renamed")
    def renamed() -> Aliased:
        return Aliased.model_validate({"username": User.objects.get().username})

    assert call().structured == {"username": "alice", "email": "alice@example.com"}
    assert call("strict").structured == {"result": [{"username": "alice"}]}
    assert call("renamed").structured == {"userName": "alice"}


def test_rows_of_values_need_a_shape_too(server: Server, alice: User) -> None:
    @server.tool(name="tool")
    def rows() -> list[UserDict]:
        return User.objects.values()  # type: ignore[return-value]

    @server.tool(name="names")
    def names() -> list[str]:
        return User.objects.values_list("username", flat=True)  # type: ignore[return-value]

    @server.tool(name="listed", fields=("username",))
    def listed() -> QuerySet[User]:
        return User.objects.values()  # type: ignore[return-value]

    @server.tool(name="open")
    def undeclared() -> list[dict[str, Any]]:
        return User.objects.values()  # type: ignore[return-value]

    assert call().structured == {"result": [{"username": "alice", "email": "alice@example.com"}]}
    assert SECRET not in str(call().raw)
    assert call("names").structured == {"result": ["alice"]}
    assert '"username": "alice"' in call("listed").text
    assert SECRET not in str(call("listed").raw)
    assert call("open").text == "The tool 'open' failed."


def test_a_shape_of_an_async_generator(server: Server, alice: User) -> None:
    @server.tool(name="tool")
    async def work() -> AsyncIterator[str | list[UserShape]]:
        yield "looking"
        yield User.objects.all()  # type: ignore[misc]

    result = call()
    assert result.structured == {"result": [{"username": "alice", "email": "alice@example.com"}]}
    assert [heard.message for heard in result.progress] == ["looking", None]


def test_what_a_generator_yields_is_no_way_around_a_shape(server: Server, alice: User) -> None:
    @server.tool(name="tool")
    def work() -> Iterator[int | list[Strict]]:
        yield 1
        yield [alice]  # type: ignore[list-item]

    result = call()
    assert result.structured == {"result": [{"username": "alice"}]}
    assert [heard.message for heard in result.progress] == ["1", None]


def test_a_record_that_holds_rows_gives_them_their_shape(server: Server, alice: User) -> None:
    @server.tool(name="tool")
    def page() -> Page:
        return Page(total=1, rows=User.objects.all())  # type: ignore[arg-type]

    assert call().structured == {"total": 1, "rows": [{"username": "alice", "email": "alice@example.com"}]}
    assert SECRET not in str(call().raw)


def test_a_mapping_shows_no_more_than_its_shape(server: Server) -> None:
    @server.tool(name="tool")
    def one() -> UserDict:
        return {"username": "a", "email": "b", "password": SECRET}  # type: ignore[typeddict-unknown-key]

    result = call()
    assert result.structured == {"username": "a", "email": "b"}
    assert SECRET not in result.text


def test_a_mapping_of_one_of_several_shapes(server: Server) -> None:
    @server.tool(name="tool")
    def one(which: int) -> UserDict | GroupShape | Open:
        return [{"username": "a", "email": "b"}, {"name": "c"}, {"kind": "d", "more": 1}][which]  # type: ignore[return-value]

    @server.tool(name="closed")
    def closed(which: int) -> UserDict | GroupShape:
        return [{"username": "a", "email": "b", "more": 1}, {"name": "c", "more": 1}][which]  # type: ignore[return-value]

    client = Client(server="tested")
    assert client.call("tool", {"which": 1}).structured == {"result": {"name": "c"}}
    assert client.call("tool", {"which": 2}).structured == {"result": {"kind": "d", "more": 1}}
    assert client.call("closed", {"which": 0}).structured == {"result": {"username": "a", "email": "b"}}
    assert client.call("closed", {"which": 1}).structured == {"result": {"name": "c"}}


def test_series_of_every_kind_are_lists(server: Server, alice: User) -> None:
    @server.tool(name="values")
    def values() -> list[Strict]:
        return User.objects.in_bulk().values()  # type: ignore[return-value]

    @server.tool(name="lazily")
    def lazily() -> list[Strict]:
        return (user for user in User.objects.all())  # type: ignore[return-value]

    @server.tool(name="plain")
    def plain() -> tuple[int, str]:
        return (1, "a")

    assert call("values").structured == call("lazily").structured == {"result": [{"username": "alice"}]}
    assert call("plain").structured == {"result": [1, "a"]}


# Rows are cut


@pytest.mark.parametrize("kind", ["queryset", "rows", "listed", "values"])
def test_rows_over_the_limit_are_cut_with_a_note(server: Server, settings: Any, kind: str) -> None:
    settings.DJANGO_MCP = {"MAX_ROWS": 3}
    User.objects.bulk_create(User(username=f"user{number}") for number in range(5))
    users = User.objects.order_by("username")

    @server.tool(name="queryset")
    def queryset(count: int) -> list[Strict]:
        return users[:count]  # type: ignore[return-value]

    @server.tool(name="rows")
    def rows(count: int) -> list[Strict]:
        return list(users[:count])  # type: ignore[arg-type]

    @server.tool(name="listed", fields=("username",))
    def listed(count: int) -> list[User]:
        return list(users[:count])

    @server.tool(name="values")
    def values(count: int) -> list[Strict]:
        return users.values()[:count]  # type: ignore[return-value]

    client = Client(server="tested")
    whole = client.call(kind, {"count": 3})
    assert len(whole.structured["result"]) == 3
    assert "rows are shown" not in whole.text
    cut = client.call(kind, {"count": 4})
    assert [row["username"] for row in cut.structured["result"]] == ["user0", "user1", "user2"]
    assert cut.content[-1] == TextContent(
        type="text", text="Only the first 3 rows are shown; there are more. Narrow the request to see them."
    )


def test_no_more_rows_are_read_than_needed(server: Server, settings: Any, django_assert_num_queries: Any) -> None:
    settings.DJANGO_MCP = {"MAX_ROWS": 2}
    User.objects.bulk_create(User(username=f"user{number}") for number in range(5))

    @server.tool(name="tool")
    def users() -> list[Strict]:
        return User.objects.all()  # type: ignore[return-value]

    with django_assert_num_queries(1) as queries:
        assert len(call().structured["result"]) == 2
    assert "LIMIT 3" in queries.captured_queries[0]["sql"]


# Content


def test_bytes_become_the_matching_content(server: Server) -> None:
    @server.tool(name="picture")
    def picture() -> bytes:
        return PNG

    @server.tool(name="sound")
    async def sound() -> bytes:
        return b"RIFF\x00\x00\x00\x00WAVEfmt "

    @server.tool(name="other")
    def other() -> bytes:
        return b"\x00\x01"

    assert call("picture").content == [
        ImageContent(type="image", data=base64.b64encode(PNG).decode(), mime_type="image/png")
    ]
    (block,) = call("sound").content
    assert isinstance(block, AudioContent)
    assert block.mime_type == "audio/wav"
    (block,) = call("other").content
    assert isinstance(block, EmbeddedResource)
    assert block.resource.model_dump(mode="json")["blob"] == base64.b64encode(b"\x00\x01").decode()
    assert call("picture").structured is None


def test_images_audio_and_blocks_in_one_list(server: Server) -> None:
    @server.tool(name="tool", structured=False)
    def mixed() -> list[Any]:
        return [
            "text",
            Image(data=PNG, format="png"),
            Audio(data=b"12", format="wav"),
            PNG,
            TextContent(type="text", text="block"),
            {"a": 1},
        ]

    blocks = call().content
    assert [block.type for block in blocks] == ["text", "image", "audio", "image", "text", "text"]
    assert (blocks[0].text, blocks[4].text) == ("text", "block")
    assert '"a": 1' in blocks[5].text


def test_a_file_of_a_model_becomes_the_matching_content(server: Server) -> None:
    document = Document()
    document.file.save("scan.png", ContentFile(PNG), save=False)
    other = Document()
    other.file.save("report.pdf", ContentFile(b"%PDF"), save=False)

    @server.tool(name="picture")
    def picture() -> models.fields.files.FieldFile:
        return document.file

    @server.tool(name="report")
    async def report() -> Any:
        return other.file

    (block,) = call("picture").content
    assert isinstance(block, ImageContent)
    assert base64.b64decode(block.data) == PNG
    (block,) = call("report").content
    assert isinstance(block, EmbeddedResource)
    assert block.resource.mime_type == "application/pdf"
