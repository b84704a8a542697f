"""Objects in a file storage: where a state store keeps blobs that are too large for itself.

It knows an alias of `STORAGES` and bytes, neither families nor rows: which object a blob is, the store's index says.
Each object has a name of its own that nobody can guess, is written once and never changed. So a store that gave one
up and needs its bytes again writes another one, and a late `delete()` meets nothing that is in use. The order that
makes an object without an index entry possible, and never the reverse, is the store's:

    write down the name of what will be, put it, refer to it where that note still stands, in one transaction;
    give up the reference first, then delete.
"""

import hashlib
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import Final, TypeVar

from django.core.files.base import ContentFile
from django.core.files.storage import InvalidStorageError, Storage, storages

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import ConfigurationError, CorruptBlob, StoreUnavailable

logger = logging.getLogger("django_mcp.stores")

NAME_LENGTH: Final = 200
THREADS: Final = 8
"""How many objects of one store are on their way at once in this process."""

K = TypeVar("K")
T = TypeVar("T")


class BlobStorage:
    """The objects behind one alias of `STORAGES`. All methods may be called from any thread, outside transactions."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def new_name(self, family: str, digest: str) -> str:
        """Return a name, of at most NAME_LENGTH characters, for a blob of a family that will be put."""
        nonce = secrets.token_hex(16)
        family = hashlib.sha256(family.encode()).hexdigest()[:32]
        return f"{mcp_settings.KEY_PREFIX}/{nonce[:2]}/{family}-{digest}-{nonce}"

    def put(self, bodies: Mapping[str, bytes]) -> None:
        """Write objects by name, a few at once. Raises StoreUnavailable: then any of them may be there."""
        self._each(self._put, bodies.items())

    def get(self, names: Mapping[str, str]) -> dict[str, bytes]:
        """Return the bodies of objects by digest, in the order of `names`, a mapping of digest to name.

        What is not there is left out. Raises CorruptBlob for the first that does not hash to its digest,
        StoreUnavailable where the storage does not say that it is not there.
        """
        found = dict(zip(names, self._each(self._get, names.values()), strict=True))
        for digest, body in found.items():
            if body is not None and hashlib.sha256(body).hexdigest() != digest:
                raise CorruptBlob(digest)
        return {digest: body for digest, body in found.items() if body is not None}

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects, there or not. Raises StoreUnavailable: then any of them may be there."""
        self._each(self._delete, names)

    @property
    def storage(self) -> Storage:
        """Return the storage. Raises ConfigurationError where `STORAGES` has none of this alias that can be made."""
        try:
            found: Storage = storages[self.alias]
        except InvalidStorageError as error:
            raise ConfigurationError(f"The storage {self.alias!r} cannot be had from STORAGES: {error}") from error
        return found

    def _put(self, item: tuple[str, bytes]) -> None:
        name, body = item
        storage = self.storage
        with _outages(self.alias):
            saved = storage.save(name, ContentFile(body))
            if saved != name:
                # An answer was lost and the storage's own client sent it again, so the name was taken: by this body.
                storage.delete(saved)
                with storage.open(name) as kept:
                    if kept.read() != body:
                        raise StoreUnavailable(f"The storage {self.alias!r} does not keep names")
            _flush(storage, name)

    def _get(self, name: str) -> bytes | None:
        storage = self.storage
        with _outages(self.alias):
            try:
                with storage.open(name) as kept:
                    return bytes(kept.read())
            except FileNotFoundError:
                return None
            except OSError:
                raise
            except Exception:
                # Between its first look and its reading the object may have gone, which each storage says in its way.
                if storage.exists(name):
                    raise
                return None

    def _delete(self, name: str) -> None:
        storage = self.storage
        with _outages(self.alias):
            storage.delete(name)

    def _each(self, work: Callable[[K], T], items: Iterable[K]) -> list[T]:
        several = list(items)
        if len(several) < 2:
            return [work(item) for item in several]
        return list(self._pool.map(work, several))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(THREADS, thread_name_prefix="django-mcp-blobs")


@contextmanager
def _outages(alias: str) -> Iterator[None]:
    """Raise StoreUnavailable for whatever a storage raises, with the cause chained: each has errors of its own."""
    try:
        yield
    except StoreUnavailable:
        raise
    except Exception as error:
        logger.error("The storage %r failed: %s", alias, error)
        raise StoreUnavailable from error


def _flush(storage: Storage, name: str) -> None:
    """See to it that a file of this machine, and the folders it made, are on the disk, as a row of a database is."""
    try:
        path = storage.path(name)
    except NotImplementedError:
        return
    if os.name != "posix":
        return
    for _ in range(name.count("/") + 2):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path = os.path.dirname(path)
