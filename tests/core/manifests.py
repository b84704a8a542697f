"""Entries, changes and small page limits for property tests of manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from hypothesis import strategies as st

from django_mcp.core import manifest
from django_mcp.core.address import address
from django_mcp.core.manifest import DELETED, BlobRef, Entry, Inline, ManifestReader

keys = (
    st.sampled_from([f"key {number}" for number in range(60)] + ["", "$", "\0", "ü", "😀", '"\\\t\n'])
    | st.integers(0, 5_000).map(str)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
entries = (
    st.integers(0, 9).map(lambda number: Inline(b"%d" % number))
    | st.integers(1, 150).map(lambda length: Inline(b'"%s"' % (b"x" * length)))
    | st.integers(0, 9).map(lambda number: BlobRef(address(b"%d" % number), 2_000 + number))
)
mappings = st.dictionaries(keys, entries, max_size=60)
changes = st.dictionaries(keys, entries | st.just(DELETED), max_size=12)


@contextmanager
def small_pages() -> Iterator[None]:
    """Make a manifest of a few entries a tree of several levels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "ROOT_LIMIT", 300)
        patch.setattr(manifest, "PAGE_LIMIT", 400)
        patch.setattr(manifest, "FAN_BITS", 2)
        yield


def applied(model: Mapping[str, Entry], edits: manifest.Changes) -> dict[str, Entry]:
    """Return the plain mapping that `edits` make of `model`."""
    merged = {**model, **edits}
    return {key: entry for key, entry in merged.items() if not isinstance(entry, manifest.Change)}


class Shelf:
    """Pages by name, checked, with a note of each that was fetched."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.fetched: list[str] = []

    def put(self, packed: manifest.Packed) -> ManifestReader:
        """Keep what is new and return a reader of the manifest."""
        assert not packed.blobs.keys() & self.pages.keys() or all(
            self.pages.get(name, data) == data for name, data in packed.blobs.items()
        )
        self.pages |= packed.blobs
        return self.reader(packed.root)

    def reader(self, root: bytes) -> ManifestReader:
        """Return a fresh reader."""
        return ManifestReader(root, self.fetch)

    def fetch(self, name: str) -> bytes:
        """Return a page and note it."""
        self.fetched.append(name)
        data = self.pages[name]
        assert address(data) == name
        return data
