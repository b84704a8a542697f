"""Hold the tables of requirements together: complete, in order, and each row held by a test or excused by a reason.

The tables are `requirements-<revision>.toml` beside this file. With `MCP_SPECIFICATION` naming a checkout of the
specification's repository they are compared with its text as well, fingerprint by fingerprint.
"""

import ast
import functools
import os
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.spec.extract import PAGES, extract

ROOT = Path(__file__).resolve().parents[2]
SPECIFICATION = os.environ.get("MCP_SPECIFICATION", "")
PARTIES = {"server", "client", "both", "author"}

each_revision = pytest.mark.parametrize("revision", PAGES)


@functools.cache
def read_table(revision: str) -> dict[str, Any]:
    path = Path(__file__).with_name(f"requirements-{revision}.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def read_rows(revision: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(revision)["requirement"]
    return rows


def name_row(revision: str, row: dict[str, Any]) -> str:
    return f"{revision} {row['page']} {row['number']} ({row.get('says', '')})"


@functools.cache
def read_tests(path: Path) -> frozenset[str]:
    """Return the functions of a test file as `name` or `Class::name`; none when there is no such file."""
    if not path.is_file():
        return frozenset()
    return frozenset(_name_functions(ast.parse(path.read_text(encoding="utf-8")).body, prefix=""))


def _name_functions(body: list[ast.stmt], *, prefix: str) -> list[str]:
    names = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.append(prefix + node.name)
        elif isinstance(node, ast.ClassDef):
            names += _name_functions(node.body, prefix=f"{prefix}{node.name}::")
    return names


def report(problem: str, rows: list[str]) -> str:
    return "\n  ".join([f"{problem}:", *rows])


@each_revision
def test_the_table_covers_the_pages_that_are_read(revision: str) -> None:
    table = read_table(revision)
    assert table["revision"] == revision
    assert tuple(table["pages"]) == PAGES[revision]


@each_revision
def test_the_numbers_of_each_page_run_from_one_to_its_count(revision: str) -> None:
    rows, pages = read_rows(revision), read_table(revision)["pages"]
    expected = [(page, number) for page in pages for number in range(1, pages[page]["count"] + 1)]
    actual = [(row["page"], row["number"]) for row in rows]
    missing = [f"{revision} {page} {number}" for page, number in expected if (page, number) not in actual]
    surplus = [name_row(revision, row) for row in rows if (row["page"], row["number"]) not in expected]
    assert not missing, report("requirements without a row", missing)
    assert not surplus, report("rows beyond the count of their page", surplus)
    assert actual == expected, f"the rows of {revision} are out of order"


@each_revision
def test_no_requirement_has_two_rows(revision: str) -> None:
    counted = Counter((row["page"], row["number"]) for row in read_rows(revision))
    twice = [f"{revision} {page} {number}" for (page, number), times in counted.items() if times > 1]
    assert not twice, report("requirements with more than one row", twice)


@each_revision
def test_each_row_says_what_is_required_and_of_whom(revision: str) -> None:
    vague = [
        name_row(revision, row)
        for row in read_rows(revision)
        if not row.get("says") or row.get("binds") not in PARTIES
    ]
    assert not vague, report(f"rows without a paraphrase, or that bind none of {sorted(PARTIES)}", vague)


@each_revision
def test_each_row_has_a_test_or_a_reason_and_never_both(revision: str) -> None:
    rows = read_rows(revision)
    both_or_none = [name_row(revision, row) for row in rows if ("test" in row) == ("reason" in row)]
    assert not both_or_none, report("rows with a test and a reason, or with neither", both_or_none)


@each_revision
def test_no_test_and_no_reason_is_left_empty(revision: str) -> None:
    empty = [name_row(revision, row) for row in read_rows(revision) if not (row.get("test") or row.get("reason"))]
    assert not empty, report(f"{len(empty)} rows whose test or reason is empty", empty)


@each_revision
def test_each_test_that_is_named_exists(revision: str) -> None:
    lost = []
    for row in read_rows(revision):
        if named := row.get("test"):
            path, _, name = named.partition("::")
            if name not in read_tests(ROOT / path):
                lost.append(f"{name_row(revision, row)}: {named}")
    assert not lost, report("rows whose test does not exist", lost)


@each_revision
@pytest.mark.skipif(not SPECIFICATION, reason="MCP_SPECIFICATION names no checkout of the specification")
def test_the_rows_are_the_requirements_of_the_specification(revision: str) -> None:
    found = {
        (requirement.page, requirement.number): requirement.fingerprint
        for requirement in extract(Path(SPECIFICATION))
        if requirement.revision == revision
    }
    rows = {(row["page"], row["number"]): row for row in read_rows(revision)}
    unknown = [f"{revision} {page} {number}" for page, number in found if (page, number) not in rows]
    gone = [name_row(revision, row) for key, row in rows.items() if key not in found]
    changed = [
        name_row(revision, row) for key, row in rows.items() if key in found and found[key] != row["fingerprint"]
    ]
    assert not unknown, report("requirements of the specification without a row", unknown)
    assert not gone, report("rows that the specification no longer has", gone)
    assert not changed, report("rows whose sentence has changed", changed)
