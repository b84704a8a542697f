r"""The manifest of a snapshot: which keys a state has, and where each value stands.

A manifest is ASCII text with one line per key, sorted. Small values stand in the line, large ones are named:

    state 1 leaf 2 5242909
    "counter"\t12
    "document"\t@<43 characters> 5242880

One that would be long is a tree instead. Keys are placed by the bits of their SHA-256: a page that would pass its
limit is split by the next bit, and the root lists the pages, each named by its content. The tree follows from the
content alone, so every history that leads to the same state leads to the same bytes, and a change of one key writes
one page and the root. Up to some 8 MiB of inline values every page is listed in the root; beyond, a listed page may
be an index of further pages.

Pure: pages come through a callable or are supplied; their bytes are trusted to match their names, which is the store's
to check.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, TypeAlias

from .address import address
from .canonical import canonical
from .entry import (
    DELETED,
    MAX_INLINE,
    BlobRef,
    Change,
    Changes,
    CorruptManifest,
    Entry,
    Inline,
    entry_of,
    join_lines,
    pack_name,
    read_lines,
    unpack_name,
    write_line,
)
from .value import check_key

__all__ = [
    "DELETED",
    "MAX_INLINE",
    "BlobRef",
    "Change",
    "Changes",
    "CorruptManifest",
    "Entry",
    "Fetch",
    "Inline",
    "ManifestReader",
    "Packed",
    "Page",
    "build",
    "edit",
    "entry_of",
    "references",
]

ROOT_LIMIT: Final = 48 * 1024
"""Bytes of entries that stand in the root itself, some 500 large values; above, the root is an index."""

PAGE_LIMIT: Final = 24 * 1024
"""Bytes of entries in one page."""

FAN_BITS: Final = 9
"""Bits of the hash that one index tells apart: it lists at most 512 pages, in less than 32 KiB."""

_HASH_BITS: Final = 256
_VERSION: Final = b"state 1"
_LEAF: Final = b"leaf"
_INDEX: Final = b"index"


Fetch: TypeAlias = Callable[[str], bytes]
"""Give the bytes of the page of that name. What it raises passes through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A manifest to store: its root, and the pages that are new, by name. Blobs of values are not among them."""

    root: bytes
    blobs: dict[str, bytes]
    keys: int
    size: int

    @property
    def address(self) -> str:
        """The content address of the snapshot."""
        return address(self.root)

    @property
    def written_bytes(self) -> int:
        """What storing it writes, in bytes."""
        return len(self.root) + sum(map(len, self.blobs.values()))


def build(entries: Mapping[str, Entry]) -> Packed:
    """Return the manifest of `entries`.

    Raises:
        StateValueError: a key cannot be one.
    """
    return edit(ManifestReader(b""), entries)


def edit(reader: ManifestReader, changes: Changes) -> Packed:
    """Return the manifest that `reader` shows with `changes` applied, byte for byte what `build` makes of the result.

    Only pages that the reader's manifest does not have are in `Packed.blobs`. Deleting an absent key changes nothing.

    Raises:
        StateValueError: a key cannot be one.
    """
    for key in changes:
        check_key(key)
    hashes = {key: _hash(key) for key in changes} if reader.paged else {}
    loaded, untouched = _opened(reader, sorted(hashes.values()))
    keys, size = len(reader), reader.size
    for key, change in changes.items():
        old = loaded.pop(key, None)
        if old is not None:
            keys, size = keys - 1, size - _size(key, old)
        if not isinstance(change, Change):
            loaded[key] = change
            keys, size = keys + 1, size + _size(key, change)
    lines = {key: write_line(key, entry) for key, entry in loaded.items()}
    if sum(map(len, lines.values())) + sum(page.weight for page in untouched) <= ROOT_LIMIT:
        for page in untouched:
            lines |= {key: write_line(key, entry) for key, entry in reader.leaf(page).items()}
        kind, body, blobs = _LEAF, join_lines(lines), {}
    else:
        tree = _Tree([_Line(_hash(key), key, line) for key, line in lines.items()], untouched, reader)
        kind, body, blobs = _INDEX, tree.index(), tree.pages
    root = b"%s %s %d %d\n%s" % (_VERSION, kind, keys, size, body)
    known = reader.known_pages
    return Packed(
        root=root, blobs={name: page for name, page in blobs.items() if name not in known}, keys=keys, size=size
    )


def references(root: bytes, fetch: Fetch, known: Collection[str] = ()) -> set[str]:
    """Return the names of everything that the manifest needs: its pages and the blobs of its values.

    Args:
        known: names whose own references somebody has collected already; such a page is named, but not fetched.
    """
    reader = ManifestReader(root, fetch)
    found: set[str] = set()
    leaves = [reader.inline_entries]
    pages = list(reader.listed)
    while pages:
        page = pages.pop()
        found.add(page.digest)
        if page.digest in known:
            continue
        if page.is_index:
            pages.extend(reader.index(page))
        else:
            leaves.append(reader.leaf(page))
    for leaf in leaves:
        found.update(entry.digest for entry in leaf.values() if isinstance(entry, BlobRef))
    return found


@dataclass(frozen=True, slots=True)
class Page:
    """A line of an index: where in the tree a page stands, its name, and the bytes of all entries below it."""

    depth: int
    prefix: int
    digest: str
    weight: int

    @property
    def is_index(self) -> bool:
        """Say whether it lists further pages instead of entries."""
        return self.weight > PAGE_LIMIT

    @property
    def start(self) -> int:
        """The lowest hash that belongs to it."""
        return self.prefix << (_HASH_BITS - self.depth)

    @property
    def end(self) -> int:
        """The lowest hash that lies above it."""
        return (self.prefix + 1) << (_HASH_BITS - self.depth)

    @property
    def line(self) -> bytes:
        marked = self.prefix | 1 << self.depth
        return b"%x %s %d\n" % (marked, pack_name(self.digest), self.weight)


class ManifestReader:
    """Look into a manifest. Pages are read when they are needed and then kept.

    Args:
        root: the bytes of the root; empty bytes are an empty state.
        fetch: gives pages; without it they are supplied: ask `wanted`, get them, `supply`.
    """

    def __init__(self, root: bytes, fetch: Fetch | None = None) -> None:
        self.root = root
        self.size = 0
        """Bytes of all keys and values, those in blobs included."""
        self.listed: list[Page] = []
        """The pages that the root lists, by hash; empty when the entries stand in the root."""
        self.inline_entries: dict[str, Entry] = {}
        self._length = 0
        self._fetch = fetch
        self._pages: dict[str, bytes] = {}
        self._leaves: dict[str, dict[str, Entry]] = {}
        self._indexes: dict[str, list[Page]] = {}
        self._starts: dict[str, list[int]] = {}
        if root:
            self._read_root()

    def _read_root(self) -> None:
        head, _, body = self.root.partition(b"\n")
        try:
            version, kind, keys, size = head.rsplit(b" ", 3)
            self._length, self.size = int(keys), int(size)
        except ValueError:
            raise CorruptManifest(f"not the head of a manifest: {head[:60]!r}") from None
        if version != _VERSION or kind not in {_LEAF, _INDEX}:
            raise CorruptManifest(f"not a manifest that this version reads: {head[:60]!r}")
        if kind == _LEAF:
            self.inline_entries = read_lines(body)
        else:
            self.listed = _read_index(body)

    @property
    def address(self) -> str:
        """The content address of the snapshot, or an empty text for the state before the first one."""
        return address(self.root) if self.root else ""

    @property
    def paged(self) -> bool:
        """Say whether entries stand in pages of their own."""
        return bool(self.listed)

    @property
    def known_pages(self) -> set[str]:
        """The names of the manifest's pages as far as they were listed by what was read."""
        return {page.digest for pages in (self.listed, *self._indexes.values()) for page in pages}

    def __len__(self) -> int:
        """Return the number of keys; no page is read."""
        return self._length

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.entry(key) is not None

    def entry(self, key: str) -> Entry | None:
        """Return where the value of `key` stands, or None. Reads one page at most, two above some 8 MiB inline."""
        if not self.listed:
            return self.inline_entries.get(key)
        page = self._leaf_of(key)
        return self.leaf(page).get(key) if page else None

    def entries(self) -> dict[str, Entry]:
        """Return all entries, sorted by key. Reads all pages."""
        found = dict(self.inline_entries)
        for page in self.leaves():
            found |= self.leaf(page)
        return dict(sorted(found.items())) if self.listed else found

    def keys(self) -> list[str]:
        """Return all keys, sorted. Reads all pages."""
        return list(self.entries())

    def leaves(self) -> Iterator[Page]:
        """Give the pages that hold entries, by hash; indexes below the root are read."""
        for page in self.listed:
            if page.is_index:
                yield from self._leaves_below(page)
            else:
                yield page

    def leaf(self, page: Page) -> dict[str, Entry]:
        """Return the entries of one page. Do not change the answer."""
        found = self._leaves.get(page.digest)
        if found is None:
            found = self._leaves[page.digest] = read_lines(self._body(page, _LEAF))
        return found

    def index(self, page: Page) -> list[Page]:
        """Return the pages that an index lists, by hash. Do not change the answer."""
        found = self._indexes.get(page.digest)
        if found is None:
            found = self._indexes[page.digest] = _read_index(self._body(page, _INDEX))
        return found

    def wanted(self, keys: Iterable[str] | None = None) -> set[str]:
        """Return the names of the pages that must be supplied next to know the entries of `keys`, or all entries.

        Nothing is fetched. Supply them and ask again, until the answer is empty: once, or twice in a large state.
        """
        if not self.listed:
            return set()
        if keys is None:
            return {page.digest for page in self._unread(self.listed)}
        found = set()
        for key in keys:
            place, pages, page = _hash(key), self.listed, self._find("", self.listed, _hash(key))
            while page is not None:
                if self._missing(page):
                    found.add(page.digest)
                    break
                if not page.is_index:
                    break
                pages = self.index(page)
                page = self._find(page.digest, pages, place)
        return found

    def supply(self, pages: Mapping[str, bytes]) -> None:
        """Give the bytes of pages by name, so that they need not be fetched."""
        self._pages |= pages

    def body(self, entry: Entry) -> bytes:
        """Return the canonical bytes of a value. Reads one blob unless it stands inline."""
        return entry.data if isinstance(entry, Inline) else self._fetched(entry.digest)

    def _unread(self, pages: list[Page]) -> Iterator[Page]:
        for page in pages:
            if self._missing(page):
                yield page
            elif page.is_index:
                yield from self._unread(self.index(page))

    def _leaves_below(self, page: Page) -> Iterator[Page]:
        for child in self.index(page):
            if child.is_index:
                yield from self._leaves_below(child)
            else:
                yield child

    def _leaf_of(self, key: str) -> Page | None:
        place = _hash(key)
        page = self._find("", self.listed, place)
        while page is not None and page.is_index:
            page = self._find(page.digest, self.index(page), place)
        return page

    def _find(self, name: str, pages: list[Page], place: int) -> Page | None:
        starts = self._starts.get(name)
        if starts is None:
            starts = self._starts[name] = [page.start for page in pages]
        position = bisect_right(starts, place) - 1
        if position < 0 or place >= pages[position].end:
            return None
        return pages[position]

    def _missing(self, page: Page) -> bool:
        name = page.digest
        return name not in self._pages and name not in self._leaves and name not in self._indexes

    def _body(self, page: Page, kind: bytes) -> bytes:
        data = self._pages.get(page.digest)
        if data is None:
            data = self._fetched(page.digest)
        head, _, body = data.partition(b"\n")
        if head != b"page " + kind:
            raise CorruptManifest(f"{page.digest} is not a page of the kind {kind.decode()}: {head[:60]!r}")
        return body

    def _fetched(self, digest: str) -> bytes:
        if self._fetch is None:
            raise LookupError(f"{digest} was not supplied")
        return self._fetch(digest)


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    key: str
    line: bytes

    @property
    def weight(self) -> int:
        return len(self.line)


@dataclass(slots=True)
class _Tree:
    """Lay lines, and pages that nothing touched, out as a tree. `pages` collects those that had to be written."""

    lines: list[_Line]
    untouched: list[Page]
    reader: ManifestReader
    pages: dict[str, bytes] = field(default_factory=dict)
    _parts: list[_Line | Page] = field(init=False)
    _starts: list[int] = field(init=False)
    _weights: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._parts = sorted([*self.lines, *self.untouched], key=lambda part: part.start)
        self._starts = [part.start for part in self._parts]
        self._weights = [0, *accumulate(part.weight for part in self._parts)]

    def index(self) -> bytes:
        return b"".join(page.line for page in self._split(0, len(self._parts), 0, 0))

    def _split(self, low: int, high: int, depth: int, prefix: int) -> Iterator[Page]:
        border = (prefix << 1 | 1) << (_HASH_BITS - depth - 1)
        middle = bisect_left(self._starts, border, low, high)
        yield from self._below(low, middle, depth + 1, prefix << 1)
        yield from self._below(middle, high, depth + 1, prefix << 1 | 1)

    def _below(self, low: int, high: int, depth: int, prefix: int) -> Iterator[Page]:
        if low == high:
            return
        first, weight = self._parts[low], self._weights[high] - self._weights[low]
        if isinstance(first, Page) and first.depth == depth:
            yield first
        elif weight <= PAGE_LIMIT:
            yield self._write(_LEAF, self._leaf(low, high), depth, prefix, weight)
        elif depth % FAN_BITS == 0:
            body = b"".join(page.line for page in self._split(low, high, depth, prefix))
            yield self._write(_INDEX, body, depth, prefix, weight)
        else:
            yield from self._split(low, high, depth, prefix)

    def _leaf(self, low: int, high: int) -> bytes:
        lines: dict[str, bytes] = {}
        for part in self._parts[low:high]:
            if isinstance(part, Page):
                lines |= {key: write_line(key, entry) for key, entry in self.reader.leaf(part).items()}
            else:
                lines[part.key] = part.line
        return join_lines(lines)

    def _write(self, kind: bytes, body: bytes, depth: int, prefix: int, weight: int) -> Page:
        data = b"page %s\n%s" % (kind, body)
        name = address(data)
        self.pages[name] = data
        return Page(depth, prefix, name, weight)


def _opened(reader: ManifestReader, places: list[int]) -> tuple[dict[str, Entry], list[Page]]:
    """Return the entries of the pages in which `places` (sorted hashes) fall, and the other pages."""
    loaded, untouched = dict(reader.inline_entries), []
    pages = list(reader.listed)
    while pages:
        page = pages.pop()
        position = bisect_left(places, page.start)
        if position == len(places) or places[position] >= page.end:
            untouched.append(page)
        elif page.is_index:
            pages.extend(reader.index(page))
        else:
            loaded |= reader.leaf(page)
    return loaded, untouched


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest(), "big")


def _size(key: str, entry: Entry) -> int:
    return len(canonical(key)) + entry.size


def _read_index(body: bytes) -> list[Page]:
    pages = []
    try:
        for line in body.splitlines():
            mark, name, weight = line.split(b" ")
            marked = int(mark, 16)
            depth = marked.bit_length() - 1
            pages.append(Page(depth, marked ^ 1 << depth, unpack_name(name), int(weight)))
    except ValueError as error:
        raise CorruptManifest(f"not the pages of a manifest: {error}") from error
    return pages
