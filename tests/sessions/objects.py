"""A storage that tests look into and break: files below a folder, and a function that is told of every step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, ClassVar

from django.core.files.base import File
from django.core.files.storage import FileSystemStorage
from django.db import connections
from django.utils import timezone

from django_mcp.models import Blob, BlobObject
from django_mcp.models.transactions import transact

Watch = Callable[[str, str], object]


class WatchedStorage(FileSystemStorage):
    """Tell `watch(step, name)` before and after each operation: "save", "saved", "open", "opened", and so on."""

    watch: ClassVar[Watch | None] = None

    def save(self, name: str | None, content: IO[Any], max_length: int | None = None) -> str:
        with _told("save", "saved", str(name)):
            return super().save(name, content, max_length)

    def open(self, name: str, mode: str = "rb") -> File[Any]:
        with contextlib.ExitStack() as stack:
            with _told("open", "opened", name):
                opened: File[Any] = stack.enter_context(contextlib.closing(super().open(name, mode)))
            stack.pop_all()
            return opened

    def delete(self, name: str) -> None:
        with _told("delete", "deleted", name):
            super().delete(name)


@contextlib.contextmanager
def _told(before: str, after: str, name: str) -> Iterator[None]:
    assert not any(connection.in_atomic_block for connection in connections.all(initialized_only=True)), before
    if WatchedStorage.watch is not None:
        WatchedStorage.watch(before, name)
    yield
    if WatchedStorage.watch is not None:
        WatchedStorage.watch(after, name)


@contextlib.contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Have `watch` told of every step in every thread. What it raises is what the storage raises."""
    WatchedStorage.watch = staticmethod(watch)
    try:
        yield
    finally:
        WatchedStorage.watch = None


def watched_storage(folder: Path) -> dict[str, Any]:
    """Return an entry of `STORAGES`."""
    return {"BACKEND": "tests.sessions.objects.WatchedStorage", "OPTIONS": {"location": str(folder)}}


def names_in(folder: Path) -> set[str]:
    """Return the names of the objects that are there."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def age_objects(using: str = "default") -> None:
    """Make everything that may be garbage old enough to be collected."""
    before = timezone.now() - timedelta(hours=1)
    blobs, objects = Blob.objects.using(using), BlobObject.objects.using(using).exclude(garbage_at=None)
    transact(lambda: blobs.update(touched_at=before), using=using)
    transact(lambda: objects.update(garbage_at=before), using=using)


def needed_objects(using: str = "default") -> set[str]:
    """Return the names of the objects that blobs are in."""
    names = Blob.objects.using(using).exclude(kept_in=None).values_list("kept_in_id", flat=True)
    return {str(name) for name in names}
