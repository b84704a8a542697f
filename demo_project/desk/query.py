"""SQL that a stranger wrote: what of it may run. A pure function of text; knows no connection and no models.

Everything is refused that is not on a list: statements, clauses, tables, columns, functions, types, literals. What
runs is never the text that came, but new text written from the parsed tree: comments (MySQL runs some), odd quoting
and whatever the parser and a database read differently do not survive that. Identifiers are all quoted, so that no
name can turn into a keyword such as `session_user`; common table expressions get new names, so that none can be
mistaken for a real table by either side.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from demo_project.desk.query_words import ANONYMOUS_FUNCTIONS, CLAUSES, GROWING, NODES, TYPES

Dialect = Literal["sqlite", "postgres", "mysql"]
MAX_LENGTH = 4000
MAX_NESTING = 30
MAX_NODES = 800
MAX_TABLES = 8
MAX_GROWTH = 30
CTE_PREFIX = "desk_query_cte_"

_LOWER = {letter: letter + 32 for letter in range(ord("A"), ord("Z") + 1)}
_UNIT = re.compile(r"[A-Za-z]{1,20}")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")


class QueryRefused(Exception):
    """Say, in words for whoever wrote the query, why it does not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedQuery:
    """SQL that may run: `sql` gives at most `limit` rows and reads only `tables`."""

    sql: str
    tables: frozenset[str]
    limit: int


def check_query(text: str, *, dialect: Dialect, tables: Mapping[str, Collection[str]], limit: int) -> CheckedQuery:
    """Return the query in `text`, rewritten and cut at `limit` rows, or raise QueryRefused.

    `tables` names the tables that may be read, each with its columns, all in lower case.
    """
    try:
        tree = _parse(text, dialect)
        for count, node in enumerate(tree.walk(), start=1):
            if count > MAX_NODES:
                raise QueryRefused("The query is too long: split it.")
            _check_node(node)
        _check_growth(tree)
        if dialect == "postgres":
            _fold_names(tree)
        used = _settle_tables(tree, tables)
        _check_columns(tree, {column for name in used for column in tables[name]})
        _cut(tree, limit)
        sql = tree.sql(dialect, identify=True, comments=False, unsupported_level=ErrorLevel.RAISE)
    except SqlglotError as error:
        raise QueryRefused(f"This is not a query that can be read: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise QueryRefused("The query is nested too deeply.") from error
    return CheckedQuery(sql=sql, tables=frozenset(used), limit=limit)


def _parse(text: str, dialect: Dialect) -> exp.Query:
    """Return the one SELECT in `text`, without parentheses around it."""
    if len(text) > MAX_LENGTH:
        raise QueryRefused(f"A query may have {MAX_LENGTH} characters, this one has {len(text)}.")
    if any(character < " " and character not in "\t\n\r" for character in text):
        raise QueryRefused("A query has no control characters.")
    depth = deepest = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    if deepest > MAX_NESTING:
        raise QueryRefused("The query is nested too deeply.")
    statements = [
        found
        for found in sqlglot.parse(text, dialect=dialect, error_level=ErrorLevel.IMMEDIATE)
        if found is not None and not isinstance(found, exp.Semicolon)
    ]
    if len(statements) != 1:
        raise QueryRefused(f"Exactly one SELECT can run; here are {len(statements)} statements.")
    tree: exp.Expr = statements[0]
    while isinstance(tree, exp.Subquery) and _given(tree) == {"this"}:
        tree = tree.this
    if not isinstance(tree, exp.Select | exp.SetOperation):
        raise QueryRefused(f"Only SELECT can run, not {tree.key.upper()}.")
    return tree


def _given(node: exp.Expr) -> set[str]:
    """Return which arguments of a node are there; sqlglot spells some with an underscore, depending on its version."""
    return {name.rstrip("_") for name, value in node.args.items() if value not in (None, False, [], "")}


def _check_node(node: exp.Expr) -> None:
    """Raise QueryRefused unless the node, looked at alone, is on the lists."""
    kind = type(node)
    if kind is exp.Anonymous:
        if not isinstance(node.this, str) or node.this.translate(_LOWER) not in ANONYMOUS_FUNCTIONS:
            raise QueryRefused(f"The function {_name(node)} is not on the list of functions.")
        return
    if kind not in NODES:
        if isinstance(node, exp.Func):
            raise QueryRefused(f"The function {_name(node)} is not on the list of functions.")
        raise QueryRefused(f"{node.key.upper()} is not allowed in a query.")
    if kind in CLAUSES and (more := _given(node) - CLAUSES[kind]):
        if kind is exp.Table and more & {"db", "catalog"}:
            raise QueryRefused("Name a table alone, without a schema.")
        raise QueryRefused(f"{node.key.upper()} with {', '.join(sorted(more)).upper()} is not allowed in a query.")
    if kind is exp.Select and not node.expressions:
        raise QueryRefused("SELECT names what it wants.")
    if kind is exp.Table and not isinstance(node.this, exp.Identifier):
        raise QueryRefused("A function cannot stand for a table.")
    if kind is exp.DataType and (node.this not in TYPES or node.args.get("nested")):
        raise QueryRefused("A cast to this type is not allowed.")
    if kind is exp.Var and not _UNIT.fullmatch(str(node.this)):
        raise QueryRefused("A unit of time is one word.")


def _name(node: exp.Expr) -> str:
    """Return the name of a function as its reader knows it."""
    return str(node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()  # type: ignore[attr-defined]


def _check_growth(tree: exp.Expr) -> None:
    """Raise QueryRefused where text could double again and again: a database has a limit for time, few for memory."""
    growing = list(tree.find_all(*GROWING))
    if growing and any(with_.args.get("recursive") for with_ in tree.find_all(exp.With)):
        raise QueryRefused("A recursive query cannot put texts together.")
    if sum(1 for node in growing for _ in node.iter_expressions()) > MAX_GROWTH:
        raise QueryRefused(f"A query can put {MAX_GROWTH} texts together, not more.")


def _fold_names(tree: exp.Expr) -> None:
    """Do what PostgreSQL does with unquoted names, because they are going to be quoted."""
    for identifier in tree.find_all(exp.Identifier):
        if not identifier.args.get("quoted"):
            identifier.set("this", str(identifier.this).translate(_LOWER))


def _key(identifier: exp.Expr) -> str:
    """Return a name for comparison; only ASCII letters have cases."""
    return str(identifier.this).translate(_LOWER)


def _settle_tables(tree: exp.Expr, tables: Mapping[str, Collection[str]]) -> set[str]:
    """Give common table expressions new names, real tables their exact ones; return the real tables."""
    used: set[str] = set()
    found = [(table, _definition(table)) for table in tree.find_all(exp.Table)]
    if len(found) > MAX_TABLES:
        raise QueryRefused(f"A query may name {MAX_TABLES} tables, this one names {len(found)}.")
    renamed = {id(cte): f"{CTE_PREFIX}{number}" for number, cte in enumerate(tree.find_all(exp.CTE), start=1)}
    for table, definition in found:
        name = _key(table.this)
        if definition is None and name not in tables:
            raise QueryRefused(f"There is no table {table.name!r}; there are {', '.join(sorted(tables))}.")
        if not table.args.get("alias"):
            table.set("alias", exp.TableAlias(this=exp.to_identifier(str(table.this.this), quoted=True)))
        if definition is None:
            used.add(name)
        table.set("this", exp.to_identifier(renamed[id(definition)] if definition else name, quoted=True))
    for with_ in tree.find_all(exp.With):
        names = [_key(cte.args["alias"].this) for cte in with_.expressions]
        if len(set(names)) != len(names):
            raise QueryRefused("Two common table expressions have one name.")
    for cte in tree.find_all(exp.CTE):
        cte.args["alias"].set("this", exp.to_identifier(renamed[id(cte)], quoted=True))
    return used


def _definition(table: exp.Table) -> exp.CTE | None:
    """Return the common table expression that a table name means, None where it means a real table.

    A WITH is seen by its query and by the expressions that follow in it, by the expression itself if RECURSIVE.
    """
    name = _key(table.this)
    child: exp.Expr = table
    parent = table.parent
    while parent is not None:
        seen: list[exp.CTE] = []
        if isinstance(parent, exp.With):
            place = next(place for place, cte in enumerate(parent.expressions) if cte is child)
            seen = parent.expressions[: place + bool(parent.args.get("recursive"))]
        else:
            with_ = parent.args.get("with_") or parent.args.get("with")
            if with_ is not None and with_ is not child:
                seen = with_.expressions
        for cte in reversed(seen):
            if _key(cte.args["alias"].this) == name:
                return cte
        child, parent = parent, parent.parent
    return None


def _check_columns(tree: exp.Expr, columns: set[str]) -> None:
    """Raise QueryRefused for a column that neither a table has nor the query itself names.

    Without this, PostgreSQL would read `airport.row_to_json` as a call, and SQLite an unknown name as a string.
    """
    known = columns | {_key(alias.args["alias"]) for alias in tree.find_all(exp.Alias)}
    for alias in tree.find_all(exp.TableAlias):
        known |= {_key(column) for column in alias.args.get("columns") or ()}
    for column in tree.find_all(exp.Column):
        if not isinstance(column.this, exp.Star) and _key(column.this) not in known:
            raise QueryRefused(f"There is no column {column.name!r}.")


def _cut(tree: exp.Query, limit: int) -> None:
    """Let the query give no more than `limit` rows."""
    given = tree.args.get("limit")
    if given is not None:
        number = given.expression
        if not (isinstance(number, exp.Literal) and not number.is_string and _WHOLE_NUMBER.fullmatch(number.name)):
            raise QueryRefused("LIMIT takes a whole number.")
        limit = min(limit, int(number.name))
    offset = tree.args.get("offset") or (given.args.get("offset") if given is not None else None)
    tree.set("limit", exp.Limit(expression=exp.Literal.number(limit)))
    if offset is not None and not isinstance(offset, exp.Offset):
        offset = exp.Offset(expression=offset)
    tree.set("offset", offset)
