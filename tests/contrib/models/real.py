"""The shop on a real database."""

from __future__ import annotations

from typing import Any


class ToTheRealOne:
    """Sends the shop to the database of the test."""

    alias = "default"

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return self.alias

    db_for_write = db_for_read

    def allow_relation(self, *args: Any, **hints: Any) -> bool:
        return True
