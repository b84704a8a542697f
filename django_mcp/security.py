"""What every door checks before it reads a body: pure functions of a method, raw headers, a scheme and an address.

`examine()` makes a `Head` of them, or says how to refuse; `Body` gathers a body within its bound. Knows nothing of
ASGI, views or tools. The order is: headers that may not be repeated 400, Host 421, Origin 403, method 405, OPTIONS,
size 413, content type 415, accept 406. Authentication comes after it, elsewhere.
"""

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import ClassVar, Final

from django.conf import settings
from django.core.signals import setting_changed
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host

from django_mcp.conf import mcp_settings
from django_mcp.setting import SETTING, Network

RawHeaders = Iterable[tuple[bytes, bytes]]
HeaderPairs = tuple[tuple[bytes, bytes], ...]

INVALID_REQUEST: Final = -32600
INTERNAL_ERROR: Final = -32603

ALL_METHODS: Final = ("GET", "POST", "DELETE", "OPTIONS")
"""What a door with long streams answers."""
POST_METHODS: Final = ("POST", "OPTIONS")
"""What a plain Django view answers."""

EXPOSED_HEADERS: Final = (
    b"Mcp-Session-Id, Mcp-Resumption-Token, MCP-Protocol-Version, WWW-Authenticate, Retry-After, Allow"
)
REQUEST_HEADERS: Final = (
    b"accept, authorization, content-type, last-event-id, mcp-method, mcp-name, mcp-protocol-version, "
    b"mcp-resumption-token, mcp-session-id"
)
PREFLIGHT_SECONDS: Final = 600

_ONCE: Final = frozenset({b"host", b"origin", b"authorization", b"content-type", b"content-length"})
_DEBUG_HOSTS: Final = (".localhost", "127.0.0.1", "[::1]")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_KNOWN_REQUEST_HEADERS: Final = frozenset(REQUEST_HEADERS.split(b", "))


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A request head that passed: every header once, stripped of optional white space, by lower-case name."""

    method: str
    scheme: str
    host: str
    origin: str | None
    client: str
    content_length: int | None
    fields: Mapping[bytes, bytes]

    def get(self, name: bytes) -> str | None:
        """Return one header as text; None where it was not sent."""
        value = self.fields.get(name)
        return None if value is None else value.decode("latin-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer in place of the request's own; its body is a JSON-RPC error without an id."""

    status: int
    code: int
    message: str
    headers: HeaderPairs = ()

    @property
    def body(self) -> bytes:
        error = {"jsonrpc": "2.0", "id": None, "error": {"code": self.code, "message": self.message}}
        return json.dumps(error, separators=(",", ":")).encode()

    @property
    def all_headers(self) -> HeaderPairs:
        """Return the headers with those that describe the body."""
        length = str(len(self.body)).encode()
        return (
            (b"content-type", b"application/json"),
            (b"content-length", length),
            (b"cache-control", b"no-store"),
            *self.headers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """The answer to OPTIONS."""

    headers: HeaderPairs
    status: ClassVar[int] = 204
    body: ClassVar[bytes] = b""

    @property
    def all_headers(self) -> HeaderPairs:
        return self.headers


def examine(
    method: str,
    headers: RawHeaders,
    *,
    scheme: str = "http",
    client: str = "",
    methods: tuple[str, ...] = ALL_METHODS,
) -> Head | Refusal | Preflight:
    """Check a request head against the settings. Header names are lower-case, `client` is the peer's address."""
    policy = _policy()
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name not in fields:
            fields[name] = value.strip(b" \t")
        elif name in _ONCE or name.startswith(b"mcp-"):
            return _refuse(400, f"Duplicate header: {name.decode('latin-1')}")
        else:
            fields[name] += (b"; " if name == b"cookie" else b", ") + value.strip(b" \t")

    sent = fields.get(b"x-forwarded-host" if policy.forwarded_host else b"host") or fields.get(b"host", b"")
    host = sent.decode("latin-1").lower()
    if not _is_served(host, policy.hosts):
        return _refuse(421, "Host not allowed")

    origin = None
    if b"origin" in fields:
        origin = fields[b"origin"].decode("latin-1")
        if not policy.admits(origin, host):
            return _refuse(403, "Origin not allowed")

    if method not in methods:
        return _refuse(405, "Method not allowed", origin, (b"allow", ", ".join(methods).encode()))
    if method == "OPTIONS":
        return _preflight(fields, origin, methods)

    length = None
    if b"content-length" in fields:
        digits = fields[b"content-length"]
        if not digits.isdigit() or len(digits) > 18:
            return _refuse(400, "Content-Length is not a number", origin)
        length = int(digits)
        if length > policy.max_body_bytes:
            return _too_large(policy.max_body_bytes, origin)

    if method == "POST":
        if not _is_json(fields.get(b"content-type", b"")):
            return _refuse(415, "Content-Type must be application/json, in UTF-8", origin)
        if fields.get(b"content-encoding", b"identity").lower() != b"identity":
            return _refuse(415, "Content-Encoding must be identity", origin)
        if _accepts(fields.get(b"accept", b"")) != (True, True):
            return _refuse(406, "Client must accept both application/json and text/event-stream", origin)
    elif method == "GET" and not _accepts(fields.get(b"accept", b""))[1]:
        return _refuse(406, "Client must accept text/event-stream", origin)

    return Head(
        method=method,
        scheme=scheme,
        host=host,
        origin=origin,
        client=_client_address(client, fields.get(b"x-forwarded-for", b""), policy.proxies),
        content_length=length,
        fields=fields,
    )


class Body:
    """A body as it arrives, within MAX_BODY_BYTES."""

    __slots__ = ("_chunks", "_left", "_limit", "_origin")

    def __init__(self, head: Head) -> None:
        self._limit = self._left = mcp_settings.MAX_BODY_BYTES
        self._origin = head.origin
        self._chunks: list[bytes] = []

    def feed(self, chunk: bytes) -> Refusal | None:
        """Take one chunk; a refusal, with nothing kept, where it is one too many."""
        self._left -= len(chunk)
        if self._left < 0:
            self._chunks.clear()
            return _too_large(self._limit, self._origin)
        self._chunks.append(chunk)
        return None

    def value(self) -> bytes:
        """Return what has arrived."""
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)


def refusal(
    status: int,
    message: str,
    *,
    code: int = INVALID_REQUEST,
    origin: str | None = None,
    retry_after_seconds: int | None = None,
) -> Refusal:
    """Return a refusal that a page of `origin` can read."""
    retry = () if retry_after_seconds is None else ((b"retry-after", str(retry_after_seconds).encode()),)
    return _refuse(status, message, origin, *retry, code=code)


def unauthenticated(challenge: str, origin: str | None = None) -> Refusal:
    """Return the one answer to missing and to bad credentials; `challenge` is the WWW-Authenticate header."""
    return _refuse(401, "Authentication required", origin, (b"www-authenticate", challenge.encode("latin-1")))


def cors_headers(origin: str | None) -> HeaderPairs:
    """Return what lets a page of `origin`, which `examine()` admitted, read an answer; nothing without an origin."""
    if origin is None:
        return ()
    allowed = (
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", EXPOSED_HEADERS),
        (b"vary", b"Origin"),
    )
    if _policy().sends_cookies(origin):
        return (*allowed, (b"access-control-allow-credentials", b"true"))
    return allowed


def client_address(client: str, headers: RawHeaders) -> str:
    """Return who is at the far end: the peer, or what the proxies of TRUSTED_PROXIES say of it.

    The hops of X-Forwarded-For are read from the right; the first one that is no trusted proxy is the client. A peer
    without an address came through a socket file, where only a local proxy is, and is believed if any proxy is.
    """
    forwarded = b",".join(value for name, value in headers if name == b"x-forwarded-for")
    return _client_address(client, forwarded, _policy().proxies)


def raw_headers(request: HttpRequest) -> list[tuple[bytes, bytes]]:
    """Return the headers of a Django request as `examine()` takes them; a repeated one was joined before.

    Where the client sent no Host, it is what the server calls itself, as for `request.get_host()`. Under WSGI an empty
    length or type may stand for none (PEP 3333).
    """
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in request.headers.items()
        if value or name not in ("Content-Length", "Content-Type")
    ]
    if "Host" not in request.headers and "SERVER_NAME" in request.META:
        host = f"{request.META['SERVER_NAME']}:{request.META.get('SERVER_PORT', '')}".rstrip(":")
        headers.append((b"host", host.encode("latin-1", "replace")))
    return headers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Policy:
    """The settings that decide about a head, as they are compared."""

    hosts: tuple[str, ...]
    forwarded_host: bool
    origins: frozenset[str]
    every_origin: bool
    cookies: bool
    proxies: tuple[Network, ...]
    max_body_bytes: int

    def admits(self, origin: str, host: str) -> bool:
        lowered = origin.lower()
        if lowered in self.origins:
            return True
        scheme, separator, rest = lowered.partition("://")
        if self.every_origin and separator:
            return True
        port = _DEFAULT_PORTS.get(scheme)
        return port is not None and rest.removesuffix(port) == host.removesuffix(port)

    def sends_cookies(self, origin: str) -> bool:
        return self.cookies and origin.lower() in self.origins


@functools.cache
def _policy() -> _Policy:
    listed = mcp_settings.ALLOWED_ORIGINS
    hosts = tuple(settings.ALLOWED_HOSTS)
    return _Policy(
        hosts=_DEBUG_HOSTS if settings.DEBUG and not hosts else hosts,
        forwarded_host=settings.USE_X_FORWARDED_HOST,
        origins=frozenset(listed) - {"*"},
        every_origin="*" in listed,
        cookies=any(getattr(given, "reads_cookies", False) for given in mcp_settings.imported("AUTHENTICATION")),
        proxies=mcp_settings.TRUSTED_PROXIES,
        max_body_bytes=mcp_settings.MAX_BODY_BYTES,
    )


def _refuse(
    status: int, message: str, origin: str | None = None, *headers: tuple[bytes, bytes], code: int = INVALID_REQUEST
) -> Refusal:
    return Refusal(status=status, code=code, message=message, headers=(*headers, *cors_headers(origin)))


def _too_large(limit: int, origin: str | None) -> Refusal:
    return _refuse(413, f"The body is larger than {limit} bytes", origin)


def _preflight(fields: Mapping[bytes, bytes], origin: str | None, methods: tuple[str, ...]) -> Preflight:
    allow = ", ".join(methods).encode()
    if origin is None:
        return Preflight(headers=((b"allow", allow),))
    asked = fields.get(b"access-control-request-headers", b"").lower().split(b",")
    parameters = {name.strip() for name in asked if name.strip().startswith(b"mcp-param-")} - _KNOWN_REQUEST_HEADERS
    return Preflight(
        headers=(
            (b"allow", allow),
            (b"access-control-allow-methods", allow),
            (b"access-control-allow-headers", b", ".join([REQUEST_HEADERS, *sorted(parameters)])),
            (b"access-control-max-age", str(PREFLIGHT_SECONDS).encode()),
            *cors_headers(origin),
        )
    )


@functools.lru_cache(maxsize=64)
def _is_served(host: str, hosts: tuple[str, ...]) -> bool:
    """Say whether a Host header, in lower case, names one of ALLOWED_HOSTS."""
    domain, _ = split_domain_port(host)
    return bool(domain) and validate_host(domain, hosts)


@functools.lru_cache(maxsize=64)
def _is_json(value: bytes) -> bool:
    """Say whether a content type is application/json, with no parameter but the charset UTF-8."""
    media_type, *parameters = (part.strip().lower() for part in value.split(b";"))
    if media_type != b"application/json":
        return False
    return all(
        parameter.replace(b'"', b"") in {b"charset=utf-8", b"charset=utf8"} for parameter in parameters if parameter
    )


@functools.lru_cache(maxsize=64)
def _accepts(value: bytes) -> tuple[bool, bool]:
    """Say whether an Accept header takes application/json, and text/event-stream (RFC 9110, 12.5.1)."""
    weights: dict[bytes, bool] = {}
    for part in value.lower().split(b","):
        media_range, *parameters = (piece.strip() for piece in part.split(b";"))
        weight = next((parameter[2:].strip() for parameter in parameters if parameter.startswith(b"q=")), b"1")
        weights[media_range] = weights.get(media_range, False) or weight.strip(b"0.") != b""

    def takes(*ranges: bytes) -> bool:
        return next((weights[media_range] for media_range in ranges if media_range in weights), False)

    return (
        takes(b"application/json", b"application/*", b"*/*"),
        takes(b"text/event-stream", b"text/*", b"*/*"),
    )


def _client_address(client: str, forwarded: bytes, proxies: tuple[Network, ...]) -> str:
    if not proxies:
        return client
    peer = _parsed(client)
    if client and not _is_trusted(peer, proxies):
        return client
    address = client
    for hop in reversed(forwarded.decode("latin-1").split(",")):
        parsed = _parsed(hop.strip())
        if parsed is None:
            break
        address = str(parsed)
        if not _is_trusted(parsed, proxies):
            break
    return address


def _is_trusted(address: IPv4Address | IPv6Address | None, proxies: tuple[Network, ...]) -> bool:
    return address is not None and any(address in network for network in proxies)


def _parsed(hop: str) -> IPv4Address | IPv6Address | None:
    """Return the address of a hop, which may carry a port: `192.0.2.1:80`, `[2001:db8::1]:80`."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        address = ip_address(hop)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {SETTING, "ALLOWED_HOSTS", "DEBUG", "USE_X_FORWARDED_HOST"}:
        _policy.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_mcp.security")
