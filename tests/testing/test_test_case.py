"""Tools and tests share rows: in a `TestCase`, in async test methods, under pytest-django, in every era."""

import threading
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import SimpleTestCase, TestCase, override_settings

from django_mcp import Server, ToolError
from django_mcp.registry.server import servers
from django_mcp.testing import Client

VERSIONS = ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"]


def add_tools(server: Server) -> None:
    @server.tool
    def count_groups() -> int:
        return Group.objects.count()

    @server.tool
    async def count_groups_async() -> int:
        return await Group.objects.acount()

    @server.tool
    def add_group(name: str) -> str:
        return Group.objects.create(name=name).name

    @server.tool
    async def add_group_async(name: str) -> str:
        group = await Group.objects.acreate(name=name)
        return group.name

    @server.tool
    def fail() -> str:
        raise ToolError("on purpose")


class GroupTools(TestCase):
    """What a project writes: a row is created, a sync and an async tool see it."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        add_tools(Server("groups"))
        cls.addClassCleanup(servers.pop, "groups")

    @classmethod
    def setUpTestData(cls) -> None:
        Group.objects.create(name="from the class")

    def test_a_row_is_seen_by_a_sync_and_an_async_tool(self) -> None:
        Group.objects.create(name="from the test")
        client = Client(server="groups")
        assert client.call("count_groups").structured == {"result": 2}
        assert client.call("count_groups_async").text == "2"

    def test_the_same_in_every_version(self) -> None:
        Group.objects.create(name="from the test")
        for version in VERSIONS:
            with self.subTest(version):
                client = Client(server="groups", mode=version)
                assert client.call("count_groups").text == "2"
                assert client.call("count_groups_async").text == "2"

    def test_what_a_tool_writes_is_seen_by_the_test(self) -> None:
        client = Client(server="groups", mode="legacy")
        client.call("add_group", {"name": "sync"})
        client.call("add_group_async", {"name": "async"})
        assert list(Group.objects.values_list("name", flat=True)) == ["from the class", "sync", "async"]

    def test_and_is_rolled_back_afterwards(self) -> None:
        assert Client(server="groups").call("count_groups").text == "1"

    async def test_an_async_test_method(self) -> None:
        await Group.objects.acreate(name="from the test")
        for version in VERSIONS:
            client = Client(server="groups", mode=version)
            assert (await client.acall("count_groups")).text == "2"
            assert (await client.acall("count_groups_async")).text == "2"
        await Client(server="groups").acall("add_group", {"name": "from the tool"})
        assert await Group.objects.filter(name="from the tool").aexists()

    def test_queries_of_a_tool_are_counted(self) -> None:
        client = Client(server="groups")
        with self.assertNumQueries(1):
            client.call("count_groups")
        with self.assertNumQueries(1):
            client.call("count_groups_async")

    def test_a_failing_tool_is_a_result(self) -> None:
        result = Client(server="groups").call("fail")
        assert result.is_error
        assert result.text == "on purpose"


class NoDatabase(SimpleTestCase):
    def test_a_modern_call_needs_no_database(self) -> None:
        server = Server("plain")
        self.addCleanup(servers.pop, "plain")

        @server.tool
        def double(number: int) -> int:
            return 2 * number

        assert Client(server="plain").call("double", {"number": 4}).structured == {"result": 8}

    def test_settings_are_overridden(self) -> None:
        server = Server("plain")
        self.addCleanup(servers.pop, "plain")
        for name in ("one", "two", "three"):
            server.tool(name=name)(lambda: "")
        client = Client(server="plain")
        with override_settings(DJANGO_MCP={"PAGE_SIZE": 2}):
            assert "nextCursor" in client.request("tools/list").raw
        assert "nextCursor" not in client.request("tools/list").raw


@pytest.mark.parametrize("mode", VERSIONS)
def test_pytest_django(server: Server, mode: str, db: None) -> None:
    add_tools(server)
    Group.objects.create(name="from the test")
    client = Client(server="tested", mode=mode)
    assert client.call("count_groups").text == "1"
    assert client.call("count_groups_async").text == "1"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("mode", VERSIONS)
async def test_an_async_pytest_test(server: Server, mode: str) -> None:
    add_tools(server)
    await Group.objects.acreate(name="from the test")
    client = Client(server="tested", mode=mode)
    assert (await client.acall("count_groups")).text == "1"
    assert (await client.acall("add_group", {"name": "from the tool"})).text == "from the tool"
    assert (await client.acall("count_groups_async")).text == "2"


def test_the_sync_client_runs_sync_handlers_on_the_thread_of_the_test(server: Server) -> None:
    threads: list[Any] = []

    @server.tool
    def note() -> str:
        threads.append(threading.current_thread())
        return ""

    Client(server="tested").call("note")
    assert threads == [threading.current_thread()]
