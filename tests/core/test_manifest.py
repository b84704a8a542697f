"""A manifest is a mapping with one byte form, of which a small change writes a small part."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_mcp.core import manifest, value
from django_mcp.core.address import address
from django_mcp.core.manifest import (
    DELETED,
    BlobRef,
    CorruptManifest,
    Entry,
    Inline,
    ManifestReader,
    build,
    edit,
    entry_of,
    references,
)
from tests.core.manifests import Shelf, applied, changes, entries, keys, mappings, small_pages


@settings(deadline=None)
@given(mappings, keys)
def test_a_manifest_reads_as_the_mapping_it_was_built_from(model: dict[str, Entry], other: str) -> None:
    with small_pages():
        shelf = Shelf()
        packed = build(model)
        reader = shelf.put(packed)
        assert len(reader) == packed.keys == len(model)
        assert reader.size == packed.size == sum(len(value.to_bytes(key)) + model[key].size for key in model)
        assert reader.address == packed.address == address(packed.root)
        assert not shelf.fetched
        for key in {*model, other}:
            assert shelf.reader(packed.root).entry(key) == model.get(key)
            assert (key in reader) == (key in model)
        assert reader.keys() == sorted(model)
        assert list(reader.entries().items()) == sorted(model.items())
        assert references(packed.root, shelf.fetch) == packed.blobs.keys() | {
            entry.digest for entry in model.values() if isinstance(entry, BlobRef)
        }


@settings(deadline=None)
@given(mappings, st.lists(changes, max_size=6))
def test_an_edit_is_byte_for_byte_what_is_built_of_the_result(
    model: dict[str, Entry], steps: list[manifest.Changes]
) -> None:
    with small_pages():
        shelf = Shelf()
        reader = shelf.put(build(model))
        for step in steps:
            model = applied(model, step)
            before = references(reader.root, shelf.fetch)
            packed, whole = edit(shelf.reader(reader.root), step), build(model)
            assert packed.root == whole.root
            assert (packed.keys, packed.size) == (whole.keys, whole.size)
            assert packed.blobs.items() <= whole.blobs.items()
            assert not packed.blobs.keys() & before
            assert whole.blobs.keys() - packed.blobs.keys() <= before
            reader = shelf.put(packed)


@settings(deadline=None)
@given(mappings, st.randoms(use_true_random=False))
def test_the_order_in_which_keys_came_and_went_leaves_no_trace(model: dict[str, Entry], chance: random.Random) -> None:
    with small_pages():
        shelf = Shelf()
        reader = shelf.put(build({f"gone {number}": Inline(b"1") for number in range(40)}))
        todo = [*model, *reader.keys()]
        chance.shuffle(todo)
        for key in todo:
            reader = shelf.put(edit(reader, {key: model.get(key, DELETED)}))
        assert reader.root == build(model).root


@settings(deadline=None)
@given(mappings, st.lists(keys, max_size=5))
def test_pages_can_be_supplied_instead_of_fetched(model: dict[str, Entry], some: list[str]) -> None:
    with small_pages():
        packed = build(model)
        reader = ManifestReader(packed.root)
        while wanted := reader.wanted(some):
            reader.supply({name: packed.blobs[name] for name in wanted})
        assert [reader.entry(key) for key in some] == [model.get(key) for key in some]
        while wanted := reader.wanted():
            reader.supply({name: packed.blobs[name] for name in wanted})
        assert reader.entries() == model


@settings(deadline=None)
@given(mappings, changes)
def test_what_is_known_is_named_but_not_fetched_again(model: dict[str, Entry], step: manifest.Changes) -> None:
    with small_pages():
        shelf = Shelf()
        old = shelf.put(build(model))
        known = references(old.root, shelf.fetch)
        new = shelf.put(edit(old, step))
        whole = references(new.root, shelf.fetch)
        shelf.fetched.clear()
        assert known | references(new.root, shelf.fetch, known) == known | whole
        assert not known & set(shelf.fetched)


def test_a_small_manifest_is_a_text_that_people_can_read() -> None:
    model: Mapping[str, Entry] = {"n": Inline(b"12"), "a\tb": Inline(b'"x"'), "doc": BlobRef("ab" * 32, 5_000)}
    packed = build(model)
    name = b"q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s"
    assert packed.root == b'state 1 leaf 3 5019\n"a\\tb"\t"x"\n"doc"\t@' + name + b' 5000\n"n"\t12\n'
    assert not packed.blobs
    assert packed.written_bytes == len(packed.root)


def test_the_state_before_the_first_snapshot_is_empty() -> None:
    reader = ManifestReader(b"")
    assert (len(reader), reader.size, reader.address, reader.entries()) == (0, 0, "", {})
    assert build({}).root == b"state 1 leaf 0 0\n"
    assert references(b"", Shelf().fetch) == set()
    assert edit(reader, {"a": Inline(b"1"), "b": DELETED}) == build({"a": Inline(b"1")})


def test_an_edit_that_changes_nothing_writes_no_page() -> None:
    shelf = Shelf()
    model = _many(400, 200)
    reader = shelf.put(build(model))
    assert reader.paged
    assert edit(reader, {"absent": DELETED, "key 7": model["key 7"]}) == edit(reader, {})
    assert edit(reader, {}).root == reader.root
    assert not edit(reader, {"key 7": model["key 7"]}).blobs


def test_values_that_python_takes_for_equal_are_different_entries() -> None:
    assert len({entry_of(value.to_bytes(one), inline_bytes=100) for one in (1, 1.0, True)}) == 3


def test_a_value_stands_inline_up_to_the_bound() -> None:
    data = b'"%s"' % (b"x" * 98)
    assert entry_of(data, inline_bytes=100) == Inline(data)
    assert entry_of(data, inline_bytes=99) == BlobRef(address(data), 100)
    large = b'"%s"' % (b"x" * manifest.MAX_INLINE)
    assert isinstance(entry_of(large, inline_bytes=1 << 30), BlobRef)
    with pytest.raises(ValueError, match="8194 bytes do not stand inline; at most 8192 do"):
        Inline(large)


def test_a_wrong_key_is_refused() -> None:
    with pytest.raises(value.StateValueError, match="longer than 255 characters"):
        build({"x" * 256: Inline(b"1")})
    with pytest.raises(value.StateValueError, match="surrogate"):
        edit(ManifestReader(b""), {"\ud800": DELETED})


@pytest.mark.parametrize(
    "root",
    [
        b"state 2 leaf 0 0\n",
        b"state 1 tree 0 0\n",
        b"state 1 leaf x 0\n",
        b"{}",
        b'state 1 leaf 1 4\n"a"\n',
        b'state 1 leaf 1 4\n"a"\t@ab\n',
        b'state 1 leaf 1 4\n"\xff"\t1\n',
        b"state 1 index 1 4\n2 ? 9\n",
        b"state 1 index 1 4\n2 abc\n",
        b"state 1 index 1 4\n2 YWJj 9\n",
    ],
)
def test_what_is_no_manifest_is_not_read(root: bytes) -> None:
    with pytest.raises(CorruptManifest, match=r"^not "):
        ManifestReader(root)


def test_a_blob_of_a_value_is_not_read_as_a_page() -> None:
    packed = build(_many(400, 200))
    reader = ManifestReader(packed.root, lambda name: b'"page"')
    with pytest.raises(CorruptManifest, match="is not a page of the kind leaf"):
        reader.entry("key 1")
    with pytest.raises(LookupError, match="was not supplied"):
        ManifestReader(packed.root).entry("key 1")


@pytest.mark.parametrize("bytes_each", [5, 60, 240])
def test_one_key_of_20_000_writes_less_than_64_kb_and_reads_one_page(bytes_each: int) -> None:
    shelf = Shelf()
    model = _many(20_000, bytes_each)
    reader = shelf.put(build(model))
    assert len(reader) == 20_000
    assert len(reader.root) < 32 * 1024
    for key in ("key 0", "key 777", "key 19999", "new"):
        shelf.fetched.clear()
        assert shelf.reader(reader.root).entry(key) == model.get(key)
        assert len(shelf.fetched) == 1
        shelf.fetched.clear()
        packed = edit(shelf.reader(reader.root), {key: Inline(b'"another"')})
        assert len(shelf.fetched) == 1
        assert packed.written_bytes < 64 * 1024
        assert len(packed.blobs) <= 2


def test_no_count_of_keys_makes_one_change_expensive() -> None:
    shelf = Shelf()
    reader = shelf.put(build({}))
    model: dict[str, Entry] = {}
    chance = random.Random(7)
    for start in range(0, 3_000, 50):
        batch: dict[str, Entry] = {f"key {n}": Inline(b'"%s"' % (b"x" * 1_000)) for n in range(start, start + 50)}
        model |= batch
        reader = shelf.put(edit(reader, batch))
        for key in chance.sample(sorted(model), 3):
            packed = edit(reader, {key: DELETED})
            assert packed.written_bytes < 64 * 1024
            assert edit(shelf.put(packed), {key: model[key]}).root == reader.root
    assert reader.root == build(model).root


def test_sixteen_mib_inline_still_has_a_small_root_and_small_writes() -> None:
    shelf = Shelf()
    packed = build(_many(16_500, 1_000))
    reader = shelf.put(packed)
    assert reader.size > 16_000_000
    assert len(packed.root) < 32 * 1024
    assert all(len(page) < 25 * 1024 for page in packed.blobs.values())
    assert edit(reader, {"key 3": Inline(b"1")}).written_bytes < 64 * 1024
    shelf.fetched.clear()
    shelf.reader(packed.root).entry("key 4")
    assert len(shelf.fetched) <= 2


def test_keys_and_values_of_the_largest_size_make_pages_within_bounds() -> None:
    wide: dict[str, Entry] = {
        chr(0x1F600 + number) * 255: Inline(b'"%s"' % (b"x" * (manifest.MAX_INLINE - 2))) for number in range(40)
    }
    packed = build(wide)
    assert len(packed.root) < 32 * 1024
    assert all(len(page) < 25 * 1024 for page in packed.blobs.values())
    assert ManifestReader(packed.root, packed.blobs.__getitem__).entries() == wide


def _many(count: int, bytes_each: int) -> dict[str, Entry]:
    return {f"key {number}": Inline(b'"%0*d"' % (bytes_each - 2, number)) for number in range(count)}


@settings(deadline=None)
@given(st.dictionaries(keys, entries, max_size=8))
def test_a_page_limit_of_full_size_changes_nothing_for_few_keys(model: dict[str, Entry]) -> None:
    packed = build(model)
    assert not packed.blobs
    assert ManifestReader(packed.root).entries() == model
