"""Notices of changes on Redis: a list of each server, whose numbers begin with the clock in every epoch.

So a cursor from before a loss stands outside what is kept, and whoever comes with it learns that everything changed.
"""

import json
from typing import Final, cast

from django_mcp.conf import mcp_settings
from django_mcp.sessions.stores.base import CHANGES_AT_ONCE, EVERYTHING, ChangeKind, LogStore
from django_mcp.sessions.stores.cache_places import digest, encode, session_life
from django_mcp.sessions.stores.log_step import LogStep
from django_mcp.sessions.stores.redis_link import RedisLink

MAX_CHANGES: Final = 100_000

_PUBLISH: Final = LogStep("publish_change")
_READ: Final = LogStep("read_changes", writes=False)
CHANGES_KEYS: Final = ("sequence", "changes")


class CacheChanges(LogStore):
    link: RedisLink

    def publish_change(self, server: str, kind: ChangeKind, uri: str = "") -> None:
        if (kind == "resource") != bool(uri):
            raise ValueError(f"A change of kind {kind!r} cannot have the URI {uri!r}.")
        text = json.dumps(uri) if uri else ""
        kept = mcp_settings.CHANGE_SECONDS * 1_000
        self.link.run(
            _PUBLISH,
            changes_tag(server),
            CHANGES_KEYS,
            (kind, text, kept, session_life(), MAX_CHANGES, encode(server)),
        )

    def changes_since(self, server: str, cursor: int | None) -> tuple[int, list[tuple[ChangeKind, str]]]:
        place = "" if cursor is None else cursor
        args = (place, CHANGES_AT_ONCE, session_life(), encode(server))
        last, is_kept, found = self.link.run(_READ, changes_tag(server), CHANGES_KEYS, args)
        if cursor is None:
            return last, []
        if not is_kept:
            return last, list(EVERYTHING)
        changes = [
            (cast("ChangeKind", fields[3].decode()), json.loads(fields[5]) if fields[5] else "") for _, fields in found
        ]
        return int(found[-1][0].partition(b"-")[2]) if found else cursor, changes


def changes_tag(server: str) -> str:
    return f"n:{digest(server)}"
