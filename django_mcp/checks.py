"""What `manage.py check` says about the settings and the installation; each message has the remedy as its hint.

E001 settings          E005 AUTHENTICATION     E009 STORES            W001 public access
E002 distributions     E006 other callables    E010… a store's own    W002 SECRET_KEY
E004 applications      E007 login cookies      W005 SERVER_NAME       W003 SQLite
E008 registry          E003 routes             W006 clocks            W004 URLs

Of a store's own: E010 USING, E011 BLOBS, E012 CACHE, W007 a cache that is pointless for the cached database; of one on
Redis W012 to W015 (`redis_checks`). Of the channel layer W010 and W011 (`layer_checks`). Of rates E020 and W020
(`limit_checks`).

W001 to W003 are for `--deploy` alone: a project that `startproject` just made would be warned at every command. W005
and W006 ask the databases that `--database` names, and no other.
"""

import importlib.metadata
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004 - Django's name
from django.db import connections, router
from django.db.models import Count
from django.utils.module_loading import import_string

from django_mcp.authentication import endpoint_authentication
from django_mcp.conf import mcp_settings, read_settings
from django_mcp.exceptions import ConfigurationError
from django_mcp.models import Conversation, MCPSession
from django_mcp.registry.server import servers
from django_mcp.routing import served_routes
from django_mcp.server.compile import compile_all, key_of
from django_mcp.server.limits import is_throttle
from django_mcp.sessions.stores import stores
from django_mcp.setting import SETTING

DISTRIBUTION: Final = "django-mcp-durable"
REQUIRED_APPS: Final = ("django.contrib.auth", "django.contrib.contenttypes")
LEAST_KEY_LENGTH: Final = 50
CLOCK_TOLERANCE_SECONDS: Final = 60
CLOCKS: Final = {
    "postgresql": "SELECT EXTRACT(EPOCH FROM clock_timestamp())",
    "mysql": "SELECT UNIX_TIMESTAMP()",
}
"""What tells the seconds since 1970 by the clock of a database's own machine."""

_AUTHENTICATION_HINT: Final = (
    "Name classes by their dotted paths, as in 'django_mcp.authentication.AccessTokenAuthentication'."
)

AppConfigs = Sequence[AppConfig] | None


@register("django_mcp")
def check_settings(app_configs: AppConfigs, **kwargs: Any) -> list[CheckMessage]:
    """Report what `read_settings()` refuses, then what only an import or a look at two settings shows."""
    try:
        read_settings()
    except ConfigurationError as error:
        return [Error(str(error), hint=f"Correct it in settings.{SETTING}.", id="django_mcp.E001")]
    return [*_authentication(), *_callables(), *_login_cookies()]


@register("django_mcp")
def check_stores(app_configs: AppConfigs, **kwargs: Any) -> list[CheckMessage]:
    """Report stores that cannot be made, and what each one says about itself."""
    if not _readable():
        return []
    messages: list[CheckMessage] = []
    for alias in stores:
        try:
            messages += stores[alias].check(**kwargs)
        except ConfigurationError as error:
            hint = f"Correct {SETTING}['STORES'][{alias!r}]."
            messages.append(Error(str(error), hint=hint, id="django_mcp.E009"))
    return messages


@register("django_mcp")
def check_registry(app_configs: AppConfigs, **kwargs: Any) -> list[CheckMessage]:
    """Report every decorated function that cannot be served, with its file and line."""
    if not _readable():
        return []
    return [
        Error(f"{error.where}: {error.problem}".rstrip(";"), hint=error.remedy, id="django_mcp.E008")
        for error in compile_all()
    ]


@register("django_mcp", Tags.urls)
def check_urls(app_configs: AppConfigs, **kwargs: Any) -> list[CheckMessage]:
    """Report routes that name no server, and a URLconf that serves none."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    routes = served_routes(settings.ROOT_URLCONF)
    if not routes:
        return [
            Warning(
                "No URL serves an MCP server.",
                hint='Add path("mcp", include("django_mcp.urls")) to the URLconf.',
                id="django_mcp.W004",
            )
        ]
    return [
        Error(
            f"The route {route!r} names the MCP server {name!r}, which does not exist.",
            hint=f"Make it with Server({name!r}) in a module mcp_tools, or name one of: {', '.join(sorted(servers))}.",
            id="django_mcp.E003",
        )
        for route, name in routes
        if name not in servers
    ]


@register("django_mcp")
def check_installation(app_configs: AppConfigs, **kwargs: Any) -> list[CheckMessage]:
    """Report missing applications, and a second distribution whose files are mixed with these."""
    messages: list[CheckMessage] = [
        Error(
            f"{name!r} is not in INSTALLED_APPS.",
            hint=f"Add {name!r}: access tokens and sessions belong to its users.",
            id="django_mcp.E004",
        )
        for name in REQUIRED_APPS
        if not apps.is_installed(name)
    ]
    messages += [
        Error(
            f"The distribution {name!r} has files under django_mcp/ too, so the two overwrite each other.",
            hint=f"Run `pip uninstall {name}`, then `pip install --force-reinstall {DISTRIBUTION}`.",
            id="django_mcp.E002",
        )
        for name in _other_distributions()
    ]
    return messages


@register(Tags.security, "django_mcp", deploy=True)
def check_deployment(app_configs: AppConfigs, **kwargs: Any) -> list[CheckMessage]:
    """Name what is fine at home and not in production."""
    if not _readable():
        return []
    messages: list[CheckMessage] = []
    if mcp_settings.ACCESS == "public":
        messages.append(
            Warning(
                "ACCESS is 'public': everybody who reaches the server may list and call what has no permission.",
                hint=f"Set {SETTING}['ACCESS'] to 'required', or silence this if it is meant.",
                id="django_mcp.W001",
            )
        )
    key = str(settings.SECRET_KEY)
    if len(key) < LEAST_KEY_LENGTH or key.startswith("django-insecure-"):
        messages.append(
            Warning(
                f"SECRET_KEY is shorter than {LEAST_KEY_LENGTH} characters or was made for development; whoever has "
                "it opens and forges what the server seals.",
                hint="Set a long random SECRET_KEY, and the former one in SECRET_KEY_FALLBACKS for a while.",
                id="django_mcp.W002",
            )
        )
    return [*messages, *_sqlite(), *_stores()]


@register(Tags.database)
def check_servers(
    app_configs: AppConfigs, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Name servers that active conversations and sessions belong to and that the project does not have."""
    if not _readable():
        return []
    known = {key_of(name) for name in servers}
    return [
        Warning(
            f"The database {alias!r} has {count} of the server {server!r}, which is not one of this project's "
            f"({', '.join(sorted(known))}): their tokens, handles and ids are refused.",
            hint=_way_back(server),
            id="django_mcp.W005",
        )
        for alias in _ours(databases)
        for server, count in sorted(_strays(alias, known).items())
    ]


@register(Tags.database)
def check_clocks(app_configs: AppConfigs, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Report a database's machine whose clock differs from this one's."""
    if not _readable():
        return []
    return [
        Warning(
            f"The clock of the database {alias!r} is {abs(seconds):.0f} seconds "
            f"{'ahead of' if seconds > 0 else 'behind'} this machine's, and leases and expiry need one time.",
            hint="Run NTP (chrony, systemd-timesyncd) on all machines of the project and of its database.",
            id="django_mcp.W006",
        )
        for alias in _ours(databases)
        if abs(seconds := _ahead(alias)) > CLOCK_TOLERANCE_SECONDS
    ]


def _readable() -> bool:
    try:
        read_settings()
    except ConfigurationError:
        return False
    return True


def _authentication() -> Iterator[CheckMessage]:
    for path in mcp_settings.AUTHENTICATION:
        problem = _import_problem(path)
        if not problem:
            given = import_string(path)
            try:
                endpoint_authentication(path, given)
            except ConfigurationError as error:
                yield Error(str(error), hint=_AUTHENTICATION_HINT, id="django_mcp.E005")
            continue
        yield Error(
            f"{SETTING}['AUTHENTICATION'] names {path!r}, which {problem}.",
            hint=_AUTHENTICATION_HINT,
            id="django_mcp.E005",
        )
    if not mcp_settings.AUTHENTICATION and mcp_settings.ACCESS != "public":
        yield Error(
            f"{SETTING}['AUTHENTICATION'] is empty and ACCESS is 'required', so nobody can call.",
            hint="Name an authentication class, or set ACCESS to 'public'.",
            id="django_mcp.E005",
        )


def _callables() -> Iterator[CheckMessage]:
    paths = [(name, path) for name in ("AROUND_CALL", "PERMISSIONS") for path in getattr(mcp_settings, name)]
    if mcp_settings.TENANT is not None:
        paths.append(("TENANT", mcp_settings.TENANT))
    for name, path in paths:
        problem = _import_problem(path)
        if not problem and not callable(import_string(path)):
            problem = "is not callable"
        if problem:
            yield Error(
                f"{SETTING}[{name!r}] names {path!r}, which {problem}.",
                hint="Give the dotted path of a function.",
                id="django_mcp.E006",
            )
    for path in mcp_settings.THROTTLES:
        problem = _import_problem(path)
        if not problem and not is_throttle(import_string(path)):
            problem = "is no throttle class"
        if problem:
            yield Error(
                f"{SETTING}['THROTTLES'] names {path!r}, which {problem}.",
                hint="Give the dotted path of a throttle class of Django REST framework.",
                id="django_mcp.E006",
            )


def _login_cookies() -> Iterator[CheckMessage]:
    readers = [
        path
        for path in mcp_settings.AUTHENTICATION
        if not _import_problem(path) and getattr(import_string(path), "reads_cookies", False)
    ]
    if not readers:
        return
    if "*" in mcp_settings.ALLOWED_ORIGINS:
        yield Error(
            f"{readers[0]!r} reads login cookies while ALLOWED_ORIGINS has '*'.",
            hint="List the origins of your own pages instead of '*'.",
            id="django_mcp.E007",
        )
    elif not mcp_settings.ALLOWED_ORIGINS:
        yield Error(
            f"{readers[0]!r} reads login cookies, which are believed from ALLOWED_ORIGINS only, and that is empty.",
            hint=f"List the origins of your own pages in {SETTING}['ALLOWED_ORIGINS'].",
            id="django_mcp.E007",
        )


def _stores() -> Iterator[CheckMessage]:
    for alias in stores:
        try:
            yield from stores[alias].check_deployment()
        except ConfigurationError:
            continue  # E009 tells it


def _sqlite() -> Iterator[CheckMessage]:
    for alias in _ours(list(connections)):
        params = connections.settings[alias]
        if not params["ENGINE"].endswith("sqlite3"):
            continue
        options = params.get("OPTIONS", {})
        immediate = str(options.get("transaction_mode", "")).upper() == "IMMEDIATE"
        if not immediate or "journal_mode=wal" not in str(options.get("init_command", "")).lower().replace(" ", ""):
            yield Warning(
                f"The SQLite database {alias!r} does not run with IMMEDIATE transactions and a write-ahead log, so "
                "concurrent calls fail with 'database is locked'.",
                hint=f"Set DATABASES[{alias!r}]['OPTIONS'] to "
                "{'transaction_mode': 'IMMEDIATE', 'init_command': 'PRAGMA journal_mode=WAL;'}.",
                id="django_mcp.W003",
            )


def _ours(databases: Sequence[str] | None) -> list[str]:
    """Return those of the databases that keep sessions or a store's records."""
    used = {router.db_for_write(MCPSession)}
    for alias in stores:
        try:
            used.add(getattr(stores[alias], "write_alias", ""))
        except ConfigurationError:
            continue  # E009 tells it
    return [alias for alias in databases or () if alias in used]


def _strays(alias: str, known: set[str]) -> dict[str, str]:
    """Return how much there is of servers that are not `known`, by server: nothing before the first migration."""
    found: dict[str, list[str]] = {}
    tables = connections[alias].introspection.table_names()
    for model, noun in ((Conversation, "conversation"), (MCPSession, "session")):
        if model._meta.db_table not in tables:
            continue
        rows = model.objects.using(alias).active().exclude(server__in=known).order_by().values_list("server")
        for server, count in rows.annotate(count=Count("pk")):
            found.setdefault(server, []).append(f"{count} active {noun}{'' if count == 1 else 's'}")
    return {server: " and ".join(counts) for server, counts in found.items()}


def _way_back(server: str) -> str:
    here = f"{mcp_settings.SERVER_NAME}/"
    if server.startswith(here):
        gone = server.removeprefix(here)
        return f"Make Server({gone!r}) again in a module mcp_tools, or end them with `manage.py mcp`."
    name = next((name for name in servers if server.endswith(f"/{name}")), None)
    former = server if name is None else server.removesuffix(f"/{name}")
    return (
        f"Set {SETTING}['SERVER_NAME'] to {former!r}, which it was (by default it is the project's package), or end "
        "them with `manage.py mcp`."
    )


def _ahead(alias: str) -> float:
    """Return by how many seconds at least the clock of a database is ahead of this machine's; negative is behind."""
    connection = connections[alias]
    if connection.vendor not in CLOCKS:
        return 0
    with connection.cursor() as cursor:
        before = time.time()
        cursor.execute(CLOCKS[connection.vendor])
        now = float(cursor.fetchone()[0])
        after = time.time()
    return min(now - before, 0) + max(now - after, 0)


def _import_problem(path: str) -> str:
    try:
        import_string(path)
    except ImportError as error:
        return f"cannot be imported: {error}"
    return ""


def _other_distributions() -> Iterable[str]:
    owners = importlib.metadata.packages_distributions().get("django_mcp", [])
    return sorted({owner for owner in owners if owner.lower().replace("_", "-") != DISTRIBUTION})
