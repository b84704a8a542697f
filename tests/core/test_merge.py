"""Two changes of one state become one, or a conflict that names its keys; never a lost one."""

from __future__ import annotations

from hypothesis import given, settings, target
from hypothesis import strategies as st

from django_mcp.core.diff import MAX_SHOWN, diff
from django_mcp.core.manifest import DELETED, BlobRef, Change, Changes, Entry, Inline, ManifestReader, build, edit
from django_mcp.core.merge import Conflict, Merged, merge
from tests.core.manifests import Shelf, applied, changes, mappings, small_pages

ONE, TWO, THREE, TRUE = Inline(b"1"), Inline(b"2"), Inline(b"3"), Inline(b"true")


def _merged(base: dict[str, Entry], head: dict[str, Entry], mine: Changes, *updates: str) -> Merged | Conflict:
    shelf = Shelf()
    return merge(shelf.put(build(base)), shelf.put(build(head)), mine, updates=updates)


def _changed(base: ManifestReader, head: ManifestReader) -> set[str]:
    return {one.key for one in diff(base, head)}


def test_keys_that_only_one_side_changed_are_merged() -> None:
    merged = _merged({"a": ONE, "b": ONE}, {"a": TWO, "b": ONE}, {"b": TWO, "c": ONE})
    assert merged == Merged(changes={"b": TWO, "c": ONE})


def test_keys_that_both_changed_conflict_and_are_named_in_order() -> None:
    base: dict[str, Entry] = {"a": ONE, "b": ONE, "c": ONE, "d": ONE}
    head: dict[str, Entry] = {"a": TWO, "b": ONE, "d": TRUE, "new": ONE}
    mine: Changes = {"new": TWO, "d": DELETED, "c": TWO, "b": TWO, "a": DELETED}
    assert _merged(base, head, mine) == Conflict(("a", "c", "d", "new"))


def test_one_and_true_are_different_ends() -> None:
    assert _merged({}, {"a": TRUE}, {"a": ONE}) == Conflict(("a",))


def test_equal_ends_are_a_conflict_too() -> None:
    base: dict[str, Entry] = {"a": ONE, "b": ONE}
    assert _merged(base, {"a": TWO}, {"a": TWO, "b": DELETED, "gone": DELETED}) == Conflict(("a", "b"))


def test_an_update_runs_again_on_what_the_other_side_left_also_when_the_ends_are_equal() -> None:
    base: dict[str, Entry] = {"n": ONE, "m": ONE}
    assert _merged(base, {"n": TWO, "m": ONE}, {"n": TWO, "m": TWO}, "n", "m") == Merged(
        changes={"m": TWO}, reapply=frozenset({"n"})
    )
    assert _merged(base, {"m": TWO}, {"n": THREE, "m": THREE}, "n") == Conflict(("m",))


@settings(deadline=None)
@given(mappings, changes, changes)
def test_a_merge_is_either_side_after_the_other_or_a_conflict(
    base: dict[str, Entry], theirs: Changes, mine: Changes
) -> None:
    with small_pages():
        shelf = Shelf()
        old = shelf.put(build(base))
        head_model = applied(base, theirs)
        head = shelf.put(edit(old, theirs))
        both = {key for key in mine if head_model.get(key) != base.get(key)}
        merged = merge(shelf.reader(old.root), shelf.reader(head.root), mine)
        if both:
            assert merged == Conflict(tuple(sorted(both)))
            return
        assert isinstance(merged, Merged)
        assert not merged.reapply
        mine_first = {key: change for key, change in theirs.items() if _end(change) != base.get(key)}
        result = applied(head_model, merged.changes)
        assert result == applied(head_model, mine) == applied(applied(base, mine), mine_first)
        assert edit(head, merged.changes).root == build(result).root


@settings(deadline=None)
@given(mappings, changes, changes, st.sets(st.integers(0, 20)))
def test_no_update_is_lost(base: dict[str, Entry], theirs: Changes, mine: Changes, picked: set[int]) -> None:
    updates = {key for number, key in enumerate(mine) if number in picked}
    with small_pages():
        shelf = Shelf()
        old = shelf.put(build(base))
        head = shelf.put(edit(old, theirs))
        merged = merge(old, head, mine, updates=updates)
        foreign = _changed(old, head)
        if isinstance(merged, Merged):
            assert merged.reapply == updates & foreign
            assert not merged.changes.keys() & foreign
        else:
            assert not updates & set(merged.keys)
            assert set(merged.keys) <= foreign


@settings(deadline=None)
@given(mappings, mappings, changes)
def test_what_differs_is_that_of_the_plain_mappings(
    base: dict[str, Entry], other: dict[str, Entry], step: Changes
) -> None:
    with small_pages():
        shelf = Shelf()
        old = shelf.put(build(base))
        for model in (other, applied(base, step), {**base, **other}, {}):
            new = shelf.put(build(model))
            expected = {key for key in base.keys() | model.keys() if base.get(key) != model.get(key)}
            assert _changed(shelf.reader(new.root), shelf.reader(old.root)) == expected
            differences = diff(shelf.reader(old.root), shelf.reader(new.root))
            assert [(one.key, one.before, one.after) for one in differences] == [
                (key, base.get(key), model.get(key)) for key in sorted(expected)
            ]


@settings(deadline=None)
@given(mappings.filter(bool))
def test_pages_that_both_have_are_not_read(base: dict[str, Entry]) -> None:
    with small_pages():
        shelf = Shelf()
        old = shelf.put(build(base))
        new = shelf.put(edit(old, {next(iter(base)): Inline(b'"other"')}))
        shared = build(base).blobs.keys() & build(new.entries()).blobs.keys()
        target(len(shared))
        shelf.fetched.clear()
        assert _changed(shelf.reader(old.root), shelf.reader(new.root)) == {next(iter(base))}
        assert not shared & set(shelf.fetched)
        shelf.fetched.clear()
        assert _changed(shelf.reader(old.root), shelf.reader(old.root)) == set()
        assert not shelf.fetched


def test_a_merge_reads_one_page_of_each_side_for_each_key() -> None:
    shelf = Shelf()
    old = shelf.put(build({f"key {n}": Inline(b'"%0240d"' % n) for n in range(20_000)}))
    new = shelf.put(edit(old, {"key 5": ONE}))
    shelf.fetched.clear()
    merged = merge(shelf.reader(old.root), shelf.reader(new.root), {"key 6": TWO})
    assert merged == Merged(changes={"key 6": TWO})
    assert len(shelf.fetched) == 2


def test_a_difference_is_one_printable_line() -> None:
    shelf = Shelf()
    long = Inline(b'"%s"' % (b"x" * 300))
    old = shelf.put(build({"a": ONE, "b": ONE, "same": ONE, "l\n": ONE}))
    new = shelf.put(build({"b": TWO, "same": ONE, "l\n": long, "doc": BlobRef("ab" * 32, 5_000)}))
    assert [str(one) for one in diff(old, new)] == [
        "- 'a': 1",
        "~ 'b': 1 -> 2",
        "+ 'doc': <5000 bytes, abababababab>",
        "~ 'l\\n': 1 -> " + '"' + "x" * (MAX_SHOWN - 4) + "...",
    ]


def _end(change: Entry | Change) -> Entry | None:
    return None if isinstance(change, Change) else change
