"""What the tests of the demo share. They run with the settings of the demo or others that install its app."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from pytest_django import Settings

from tests import services
from tests.demo.served import START_SECONDS, Served

AIRPORTS = Path(__file__).parent / "fixtures" / "airports.json"


@pytest.fixture(autouse=True)
def demo_settings(settings: Settings, tmp_path: Path) -> None:
    """Keep what the demo writes in a folder of the test's, and queries on the test's own connection."""
    settings.VAR_DIR = tmp_path / "var"
    settings.DESK_QUERY_DATABASE = "default"
    settings.DESK_QUERY_SECONDS = 3.0
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def airports(db: None) -> None:
    """Load fourteen airports, one of them without an IATA code."""
    call_command("loaddata", AIRPORTS, verbosity=0)


@pytest.fixture
def people(db: None) -> dict[str, User]:
    """Load the demo's users, by name."""
    call_command("loaddata", "roles", "demo_users", verbosity=0)
    return {user.username: user for user in User.objects.all()}


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Start the demo in an empty folder, once."""
    demo = Served(services.free_port(), tmp_path_factory.mktemp("demo"))
    try:
        services.wait_until(demo.is_ready, seconds=START_SECONDS, what="the demo to serve")
        yield demo
    finally:
        demo.stop()


@pytest.fixture
def second(served: Served) -> Iterator[Served]:
    """Start another process of the demo on the same database."""
    demo = Served(services.free_port(), served.log.parent)
    try:
        services.wait_until(demo.is_ready, seconds=START_SECONDS, what="the second process to serve")
        yield demo
    finally:
        demo.stop()
