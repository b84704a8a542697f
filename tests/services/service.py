"""What a test gets: the address of one service and of the part of it that is the test's own."""

import dataclasses
from typing import Any
from urllib.parse import quote, unquote, urlsplit

ENGINES = {"postgres": "django.db.backends.postgresql", "mysql": "django.db.backends.mysql"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Name a database of a server; `host` is a folder or a socket file where the server is reached by a Unix socket.

    For Redis `database` is the number of the database, for the others its name.
    """

    scheme: str
    host: str
    port: int
    user: str = ""
    password: str = ""
    database: str = ""

    @classmethod
    def from_url(cls, url: str, *, scheme: str, port: int) -> "Service":
        """Read a URL; `scheme` and the default `port` are the service's own, whatever the URL's dialect says."""
        parts = urlsplit(url)
        return cls(
            scheme=scheme,
            host=unquote(parts.hostname or "127.0.0.1"),
            port=parts.port or port,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=unquote(parts.path.lstrip("/")),
        )

    @property
    def url(self) -> str:
        """Return the URL that `DATABASE_URL` or `REDIS_URL` takes."""
        login = quote(self.user, safe="")
        if self.password:
            login += ":" + quote(self.password, safe="")
        return f"{self.scheme}://{login}{'@' if login else ''}{quote(self.host, safe='')}:{self.port}/{self.database}"

    @property
    def django(self) -> dict[str, Any]:
        """Return the entry of Django's `DATABASES`."""
        return {
            "ENGINE": ENGINES[self.scheme],
            "NAME": self.database,
            "USER": self.user,
            "PASSWORD": self.password,
            "HOST": self.host,
            "PORT": "" if self.host.startswith("/") and self.scheme == "mysql" else str(self.port),
        }

    def on(self, database: str) -> "Service":
        """Return another database of the same server."""
        return dataclasses.replace(self, database=database)
