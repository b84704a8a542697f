"""The settings: one table, read from `settings.DJANGO_MCP` when first needed, validated once.

`mcp_settings.MAX_BODY_BYTES` and its like are plain attributes after the first read. Stands on `exceptions` alone:
the shape of a value is checked (`setting`), and what a dotted path names is imported by `mcp_settings.imported()`.
"""

import difflib
import os
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from django_mcp.core.rate import Rate
from django_mcp.exceptions import ConfigurationError
from django_mcp.setting import (
    SETTING,
    Network,
    Setting,
    between,
    choice,
    dotted_or_none,
    dotted_series,
    matching,
    networks,
    origins,
    rate_or_none,
    seconds,
    stores,
    switch,
    text,
    whole,
)

_NAME = re.compile(r"[A-Za-z0-9_.\-/ ]{1,100}")
_PREFIX = re.compile(r"[A-Za-z0-9_.\-]{1,50}")
_ALIAS: Final = re.compile(r".{1,100}")


def _project() -> str:
    """the project's package"""
    module = getattr(settings, "ROOT_URLCONF", None) or os.environ.get("DJANGO_SETTINGS_MODULE") or "django_mcp"
    return str(module).partition(".")[0]


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        name="SERVER_NAME",
        default=_project,
        parse=matching(_NAME, "1 to 100 letters, digits, blanks or any of _.-/"),
        help="Name of the server, and the audience of everything it seals.",
    ),
    Setting(name="SERVER_VERSION", default="0", parse=text, help="Version that clients are told."),
    Setting(name="SERVER_TITLE", default="", parse=text, help="Name for people."),
    Setting(name="INSTRUCTIONS", default="", parse=text, help="What a model should know about the server."),
    Setting(
        name="ACCESS",
        default="required",
        parse=choice("required", "public"),
        help="`required`: no credentials, no answer. `public`: callers without credentials are anonymous.",
    ),
    Setting(
        name="AUTHENTICATION",
        default=("django_mcp.authentication.AccessTokenAuthentication",),
        parse=dotted_series,
        help="Authentication classes, tried in this order.",
    ),
    Setting(
        name="PERMISSIONS",
        default=(),
        parse=dotted_series,
        help="Callables of the request, or permission classes of Django REST framework, that all let in who may use "
        "the endpoint.",
    ),
    Setting(
        name="THROTTLES",
        default=(),
        parse=dotted_series,
        help="Throttle classes of Django REST framework that each POST to the endpoint passes.",
    ),
    Setting(
        name="CALL_RATE",
        default=None,
        parse=rate_or_none,
        help="How often one principal, or one address of anonymous callers, may call tools of one server, like "
        '`"100/minute"`.',
    ),
    Setting(
        name="LIMITS_CACHE",
        default="default",
        parse=matching(_ALIAS, "an alias in CACHES"),
        help="Alias in `CACHES` where calls are counted for `CALL_RATE` and the `rate` of tools.",
    ),
    Setting(
        name="ALLOWED_ORIGINS",
        default=(),
        parse=origins,
        help="Origins of web pages that may call, besides the server's own. `*` is every origin, never with cookies.",
    ),
    Setting(
        name="TRUSTED_PROXIES",
        default=(),
        parse=networks,
        help="Networks of the proxies whose `X-Forwarded-For` is believed.",
    ),
    Setting(
        name="TENANT",
        default=None,
        parse=dotted_or_none,
        help="Callable that gives the tenant of a request, a string of at most 100 characters.",
    ),
    Setting(
        name="AROUND_CALL",
        default=(),
        parse=dotted_series,
        help="Context managers `(request, call_name)` that are entered around each handler, in its thread.",
    ),
    Setting(name="HANDLER_THREADS", default=16, parse=whole(1), help="Threads that run sync handlers, per process."),
    Setting(
        name="HANDLER_QUEUE",
        default=256,
        parse=whole(0),
        help="Calls that may wait for such a thread; over it the answer is 503.",
    ),
    Setting(
        name="LOG_THREADS",
        default=4,
        parse=whole(1),
        help="Threads beside them that write and read streams, calls and questions, per process.",
    ),
    Setting(
        name="DOOR_THREADS",
        default=4,
        parse=whole(1),
        help="Threads beside them that find who calls, in which session, and what they may, per process.",
    ),
    Setting(
        name="DRAIN_SECONDS",
        default=10,
        parse=seconds(0),
        help="How long a process that is told to end lets running calls finish; streams without an end end at once.",
    ),
    Setting(name="MAX_BODY_BYTES", default=4_194_304, parse=whole(1), help="Largest request body."),
    Setting(
        name="MAX_RESULT_BYTES",
        default=1_048_576,
        parse=whole(1),
        help="A larger result becomes a link that the same caller can read.",
    ),
    Setting(name="MAX_ROWS", default=500, parse=whole(1), help="Rows of a queryset that a tool returns."),
    Setting(name="PAGE_SIZE", default=100, parse=whole(1), help="Entries on one page of a list."),
    Setting(name="MAX_JSON_DEPTH", default=64, parse=whole(1), help="Nesting of a request body."),
    Setting(
        name="LIST_TTL_SECONDS", default=60, parse=whole(0), help="How long a client may keep a list before it asks."
    ),
    Setting(
        name="REQUEST_STATE_SECONDS",
        default=600,
        parse=whole(1),
        help="Life of the sealed state between two rounds of one call.",
    ),
    Setting(
        name="IDEMPOTENCY_SECONDS",
        default=86_400,
        parse=whole(1),
        help="How long an idempotency key stands for its call, and the outcome is kept for a repeat.",
    ),
    Setting(name="QUESTION_SECONDS", default=300, parse=whole(1), help="How long a question waits for its answer."),
    Setting(
        name="SESSION_IDLE_SECONDS", default=604_800, parse=whole(1), help="A session ends after so long without use."
    ),
    Setting(
        name="SESSION_UNUSED_SECONDS",
        default=1_800,
        parse=whole(1),
        help="The same for a session that was begun and never used.",
    ),
    Setting(
        name="MAX_SESSIONS_PER_PRINCIPAL", default=1_000, parse=whole(1), help="Sessions of one principal at once."
    ),
    Setting(
        name="MAX_ANONYMOUS_SESSIONS_PER_ADDRESS",
        default=1_000,
        parse=whole(1),
        help="Sessions of anonymous callers from one address at once.",
    ),
    Setting(
        name="STATE_MAX_BYTES",
        default=16_777_216,
        parse=whole(1),
        help="All keys and values of one conversation's state together.",
    ),
    Setting(name="STATE_MAX_KEYS", default=50_000, parse=whole(1), help="Keys of one conversation's state."),
    Setting(
        name="STATE_MAX_DEPTH",
        default=32,
        parse=between(1, 64),
        help="Levels of lists and mappings in one value of a state.",
    ),
    Setting(
        name="STATE_INLINE_BYTES",
        default=2_048,
        parse=between(0, 8_192),
        help="A value up to this size is read and written along with the rest; a larger one is stored by itself and "
        "read when it is touched.",
    ),
    Setting(
        name="STATE_HISTORY",
        default=50,
        parse=whole(1),
        help="Generations of a conversation that are kept, the newest among them.",
    ),
    Setting(
        name="CALL_NOTES",
        default=20,
        parse=whole(0),
        help="Calls of a conversation that `ctx.calls` has although they failed or changed nothing; those that "
        "changed its state stand in its history. A read-only tool is never noted.",
    ),
    Setting(
        name="CONVERSATION_IDLE_SECONDS",
        default=604_800,
        parse=whole(1),
        help="A conversation ends after so long without use.",
    ),
    Setting(
        name="CONVERSATION_SECONDS",
        default=2_592_000,
        parse=whole(1),
        help="A conversation ends so long after it began, used or not.",
    ),
    Setting(name="TOKEN_SECONDS", default=604_800, parse=whole(1), help="Life of a resumption token."),
    Setting(
        name="SIZE_BUDGET_BYTES",
        default=4_096,
        parse=whole(1),
        help="A manifest, or a header with a token, that grows beyond this is warned of.",
    ),
    Setting(
        name="SESSION_CONVERSATIONS",
        default=False,
        parse=switch,
        help="Whether a session has a conversation of its own, for calls that carry neither token nor handle. Some "
        "hosts share one session between several chats.",
    ),
    Setting(
        name="ANONYMOUS_STATE",
        default=False,
        parse=switch,
        help="Whether callers without credentials may have conversations, each reached by its token or handle alone.",
    ),
    Setting(
        name="MAX_CONVERSATIONS_PER_PRINCIPAL",
        default=1_000,
        parse=whole(1),
        help="Conversations of one principal, or of one address of anonymous callers, at once; over it the one that "
        "was used least recently ends.",
    ),
    Setting(name="RESULT_SECONDS", default=3_600, parse=whole(1), help="How long a result behind a link is readable."),
    Setting(name="CHANGE_SECONDS", default=3_600, parse=whole(1), help="How long notices of changes are kept."),
    Setting(
        name="CALL_LOG_DAYS",
        default=30,
        parse=whole(1),
        help="How long `django_mcp.contrib.call_log` keeps the record of a call.",
    ),
    Setting(name="KEEPALIVE_SECONDS", default=15, parse=seconds(1), help="Silence on a stream before a comment."),
    Setting(
        name="RETRY_MILLISECONDS", default=2_000, parse=whole(0), help="Pause before a client opens a stream again."
    ),
    Setting(
        name="STREAM_AFTER_SECONDS",
        default=1.0,
        parse=seconds(0.05),
        help="Silence after which the answer to a request of a session becomes a stream that can be resumed anywhere.",
    ),
    Setting(
        name="LEASE_SECONDS",
        default=30,
        parse=seconds(1),
        help="After so long without a sign of life of its process, a call is taken over by another.",
    ),
    Setting(name="POLL_SECONDS", default=1.0, parse=seconds(0.05), help="How often open streams look for changes."),
    Setting(
        name="CHANNEL_LAYER",
        default="default",
        parse=text,
        help="Alias of the channel layer that wakes other processes; without one they poll.",
    ),
    Setting(name="ACCESS_TOKEN_DAYS", default=90, parse=whole(1), help="Life of a new access token."),
    Setting(
        name="STORE",
        default="default",
        parse=matching(_ALIAS, "an alias in STORES"),
        help="Alias in `STORES` of the store that a server has which names none.",
    ),
    Setting(
        name="STORES",
        default={"default": {"BACKEND": "django_mcp.sessions.stores.database.DatabaseStore", "OPTIONS": {}}},
        parse=stores,
        help="Stores by alias: a `BACKEND` and its `OPTIONS`.",
    ),
    Setting(
        name="KEY_PREFIX",
        default="django_mcp",
        parse=matching(_PREFIX, "1 to 50 letters, digits or any of _.-"),
        help="Keeps two projects on one cache or channel layer apart.",
    ),
)


class MCPSettings:
    """The parsed settings as attributes; the first one that is read loads and validates all."""

    SERVER_NAME: str
    SERVER_VERSION: str
    SERVER_TITLE: str
    INSTRUCTIONS: str
    ACCESS: Literal["required", "public"]
    AUTHENTICATION: tuple[str, ...]
    PERMISSIONS: tuple[str, ...]
    THROTTLES: tuple[str, ...]
    CALL_RATE: Rate | None
    LIMITS_CACHE: str
    ALLOWED_ORIGINS: tuple[str, ...]
    TRUSTED_PROXIES: tuple[Network, ...]
    TENANT: str | None
    AROUND_CALL: tuple[str, ...]
    HANDLER_THREADS: int
    HANDLER_QUEUE: int
    LOG_THREADS: int
    DOOR_THREADS: int
    DRAIN_SECONDS: float
    MAX_BODY_BYTES: int
    MAX_RESULT_BYTES: int
    MAX_ROWS: int
    PAGE_SIZE: int
    MAX_JSON_DEPTH: int
    LIST_TTL_SECONDS: int
    REQUEST_STATE_SECONDS: int
    IDEMPOTENCY_SECONDS: int
    QUESTION_SECONDS: int
    SESSION_IDLE_SECONDS: int
    SESSION_UNUSED_SECONDS: int
    MAX_SESSIONS_PER_PRINCIPAL: int
    MAX_ANONYMOUS_SESSIONS_PER_ADDRESS: int
    STATE_MAX_BYTES: int
    STATE_MAX_KEYS: int
    STATE_MAX_DEPTH: int
    STATE_INLINE_BYTES: int
    STATE_HISTORY: int
    CALL_NOTES: int
    CONVERSATION_IDLE_SECONDS: int
    CONVERSATION_SECONDS: int
    TOKEN_SECONDS: int
    SIZE_BUDGET_BYTES: int
    SESSION_CONVERSATIONS: bool
    ANONYMOUS_STATE: bool
    MAX_CONVERSATIONS_PER_PRINCIPAL: int
    RESULT_SECONDS: int
    CHANGE_SECONDS: int
    CALL_LOG_DAYS: int
    KEEPALIVE_SECONDS: float
    RETRY_MILLISECONDS: int
    STREAM_AFTER_SECONDS: float
    LEASE_SECONDS: float
    POLL_SECONDS: float
    CHANNEL_LAYER: str
    ACCESS_TOKEN_DAYS: int
    STORE: str
    STORES: dict[str, dict[str, Any]]
    KEY_PREFIX: str

    def __getattr__(self, name: str) -> Any:
        if name not in _BY_NAME:
            raise AttributeError(f"There is no setting {name!r}.")
        values = read_settings()
        self.__dict__.update(values)
        return values[name]

    def imported(self, name: str) -> Any:
        """Return what the dotted path (or each of the paths) of setting `name` names; None stays None.

        Raises ConfigurationError that names the setting and the path where the import fails.
        """
        known: dict[str, Any] = self.__dict__.setdefault(" imported", {})
        if name not in known:
            value = getattr(self, name)
            single = value is None or isinstance(value, str)
            found = tuple(_import(name, path) for path in ((value,) if single else value))
            known[name] = found[0] if single else found
        return known[name]

    def reset(self) -> None:
        """Forget every value, so that the next read loads them again."""
        self.__dict__.clear()


def read_settings() -> dict[str, Any]:
    """Return all settings, parsed; raise ConfigurationError for an unknown key or a value of another kind."""
    given = getattr(settings, SETTING, {})
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"settings.{SETTING} is {given!r}; it must be a dictionary.")
    for key in given:
        if key not in _BY_NAME:
            close = difflib.get_close_matches(str(key), _BY_NAME, n=1)
            meant = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigurationError(
                f"{SETTING} has the unknown key {key!r}.{meant} The known keys are: {', '.join(_BY_NAME)}."
            )
    return {
        name: setting.value(given[name] if name in given else _default(setting)) for name, setting in _BY_NAME.items()
    }


def markdown_table() -> str:
    """Return the settings as the Markdown table of the README."""
    rows = [f"| `{setting.name}` | {setting.shown_default} | {setting.help} |" for setting in SETTINGS]
    return "\n".join(["| key | default | meaning |", "| --- | --- | --- |", *rows, ""])


def _default(setting: Setting) -> Any:
    return setting.default() if callable(setting.default) else setting.default


def _import(name: str, path: str | None) -> Any:
    if path is None:
        return None
    try:
        return import_string(path)
    except ImportError as error:
        raise ConfigurationError(f"{SETTING}[{name!r}] names {path!r}, which cannot be imported: {error}.") from error


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {SETTING, "ROOT_URLCONF", "SECRET_KEY", "SECRET_KEY_FALLBACKS"}:
        mcp_settings.reset()


_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}

mcp_settings: Final = MCPSettings()

setting_changed.connect(_forget, dispatch_uid="django_mcp.conf")
