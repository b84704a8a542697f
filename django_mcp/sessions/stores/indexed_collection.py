"""Collection of conversations whose state is kept elsewhere.

What has ended in the index is ended where it is kept, too, before it goes there: so an end that was not completed is.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from django_mcp.models import Conversation
from django_mcp.sessions.stores.collection import Collection, KeptBlob
from django_mcp.sessions.stores.conversation_index import ConversationIndex
from django_mcp.sessions.stores.indexed_generations import place_of
from django_mcp.sessions.stores.remote_state import Place, RemoteState
from django_mcp.sessions.stores.state import References

Address: TypeAlias = str


class IndexedCollection(Collection[str, tuple[Address, Place, int]]):
    def __init__(
        self, index: ConversationIndex, remote: RemoteState, references: References, *, limit: int, is_dry: bool
    ) -> None:
        super().__init__(index.using, references, limit=limit, is_dry=is_dry, store=index.alias)
        self._remote = remote

    def _forget_history(self, row: Conversation) -> None:
        if not self._is_dry:
            self._remote.end(place_of(row))
        self._snapshots += self._remote.forget(place_of(row), is_dry=self._is_dry)

    def _kept_blobs(self, family: str) -> tuple[datetime, list[KeptBlob[str]]]:
        now, blobs = self._remote.kept_blobs(family)
        return now, [
            KeptBlob(name=blob.digest, digest=blob.digest, size=blob.size, touched_at=blob.touched_at)
            for blob in blobs
        ]

    def _drop(self, family: str, names: Sequence[str], cutoff: datetime) -> set[str]:
        return self._remote.drop_blobs(family, names, before=cutoff)

    def _listed(self, family: str) -> Mapping[Address, tuple[Address, Place, int]] | None:
        found = self._remote.snapshots(family)
        return None if found is None else {address: (address, *where) for address, where in found.items()}

    def _manifests(self, chosen: Sequence[tuple[Address, Place, int]]) -> list[tuple[Address, bytes]]:
        addresses = {(place, number): address for address, place, number in chosen}
        return [(addresses[where], manifest) for where, manifest in self._remote.manifests(addresses).items()]

    def _bodies(self, family: str, digest: str) -> bytes | None:
        return self._remote.blobs(family, [digest]).get(digest)
