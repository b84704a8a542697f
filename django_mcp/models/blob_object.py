"""Objects in a file storage that blobs are kept in, and those that are there, or may be, and that no blob needs.

The row comes before its object and goes after it, so every object has one. `garbage_at` says when it is garbage:
from the beginning, until the transaction that adds the blob adopts the object, and again from when the blob goes.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any, ClassVar, Final

from django.db import models

STORAGE_LENGTH: Final = 100
OBJECT_NAME_LENGTH: Final = 200


class BlobObjectQuerySet(models.QuerySet["BlobObject"]):
    def adopt(self, names: Collection[str]) -> bool:
        """Keep these from now on; False if one of them was given up before, and the transaction must not commit."""
        rows = self.filter(name__in=names, is_given_up=False)
        return rows.update(garbage_at=None) == len(names)

    def abandon(self, names: Collection[str], now: datetime) -> None:
        """Say that no blob needs these any more: the transaction deletes the last one."""
        self.filter(name__in=names).update(garbage_at=now)

    def due(self, now: datetime) -> "BlobObjectQuerySet":
        """Return what is garbage, and what belonged to a family that was deleted."""
        return self.filter(models.Q(garbage_at__lte=now) | models.Q(family=None, garbage_at=None))


class BlobObject(models.Model):
    name = models.CharField(primary_key=True, max_length=OBJECT_NAME_LENGTH)
    storage = models.CharField(max_length=STORAGE_LENGTH, help_text="The alias in STORAGES.")
    family = models.ForeignKey(
        "django_mcp.Conversation", null=True, on_delete=models.SET_NULL, db_index=False, related_name="blob_objects"
    )
    garbage_at = models.DateTimeField(null=True)
    is_given_up = models.BooleanField(default=False)

    objects = BlobObjectQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        indexes: ClassVar[list[Any]] = [
            models.Index(fields=["garbage_at"], name="django_mcp_object_garbage"),
            models.Index(fields=["family", "garbage_at"], name="django_mcp_object_family"),
        ]

    def __str__(self) -> str:
        return f"{self.name[-8:]}…"
