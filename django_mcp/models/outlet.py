"""The outlet of a session: what its streams share, in the one row that settles it among them.

Written by the database store alone.
"""

from django.db import models
from django.db.models import F

from django_mcp.models.session import MCPSession
from django_mcp.models.stream import NAME_LENGTH


class OutletQuerySet(models.QuerySet["Outlet"]):
    def of(self, session: str) -> "OutletQuerySet":
        return self.filter(pk=session)

    def ensure(self, session: str) -> None:
        """Make the session's row where there is none. One that is there is not locked."""
        if not self.of(session).exists():
            self.bulk_create([self.model(session_id=session)], ignore_conflicts=True)

    def hold(self, session: str) -> bool:
        """Lock the session's row until the transaction ends; False where there is none."""
        return self.of(session).update(open_bytes=F("open_bytes")) == 1

    def move_cursor(self, session: str, after: int | None, upto: int) -> bool:
        """Move the cursor of changes if it is still where the caller saw it, and a stream can carry them."""
        there = self.of(session).filter(standalone__isnull=False)
        there = there.filter(cursor__isnull=True) if after is None else there.filter(cursor=after)
        return there.update(cursor=upto) == 1

    def add_bytes(self, session: str, count: int, limit: int | None = None) -> bool:
        """Count bytes of open streams; False, and nothing counted, over `limit`."""
        room = self.of(session) if limit is None else self.of(session).filter(open_bytes__lte=limit - count)
        return room.update(open_bytes=F("open_bytes") + count) == 1


class Outlet(models.Model):
    session = models.OneToOneField(
        MCPSession, on_delete=models.CASCADE, primary_key=True, db_constraint=False, related_name="+"
    )
    standalone = models.CharField(  # noqa: DJ001 - the newest one or none
        max_length=NAME_LENGTH, null=True, blank=True
    )
    cursor = models.BigIntegerField(null=True, blank=True)
    open_bytes = models.BigIntegerField(default=0)

    objects = OutletQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.session_id[:8]}… {self.standalone or ''}"
