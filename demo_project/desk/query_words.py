"""The words of SQL that a stranger's query may use, as the parser names them.

A function is on the list if it computes from its arguments and the clock, costs about what they are long, and gives
no more than they hold: none that reads files, settings or catalogs, that waits, that repeats or pads text.
"""

from typing import Final

from sqlglot import exp

# The clauses that a node may have, where the parser keeps more in it than is allowed.
CLAUSES: Final[dict[type[exp.Expr], frozenset[str]]] = {
    exp.Select: frozenset(
        {
            "with", "expressions", "distinct", "from", "joins", "where", "group",
            "having", "windows", "order", "limit", "offset",
        }
    ),
    exp.Union: frozenset({"with", "this", "expression", "distinct", "order", "limit", "offset"}),
    exp.Intersect: frozenset({"with", "this", "expression", "distinct", "order", "limit", "offset"}),
    exp.Except: frozenset({"with", "this", "expression", "distinct", "order", "limit", "offset"}),
    exp.Subquery: frozenset({"this", "alias", "with", "joins"}),
    exp.With: frozenset({"expressions", "recursive"}),
    exp.CTE: frozenset({"this", "alias"}),
    exp.From: frozenset({"this"}),
    exp.Table: frozenset({"this", "alias", "joins"}),
    exp.TableAlias: frozenset({"this", "columns"}),
    exp.Join: frozenset({"this", "on", "using", "side", "kind", "method"}),
    exp.Group: frozenset({"expressions"}),
    exp.Order: frozenset({"this", "expressions"}),
    exp.Ordered: frozenset({"this", "desc", "nulls_first"}),
    exp.Limit: frozenset({"expression", "offset"}),
    exp.Offset: frozenset({"expression"}),
    exp.Column: frozenset({"this", "table"}),
    exp.Identifier: frozenset({"this", "quoted"}),
    exp.Star: frozenset(),
    exp.Literal: frozenset({"this", "is_string"}),
    exp.Distinct: frozenset({"expressions"}),
    # SQLite reads a name after IN as a table.
    exp.In: frozenset({"this", "expressions", "query"}),
    exp.Window: frozenset({"this", "partition_by", "order", "spec", "alias", "over", "first"}),
    exp.Cast: frozenset({"this", "to"}),
}  # fmt: skip

_OPERATORS: Final[tuple[type[exp.Expr], ...]] = (
    exp.Add, exp.And, exp.Between, exp.DPipe, exp.Div, exp.EQ, exp.Escape, exp.Exists, exp.GT, exp.GTE, exp.Glob,
    exp.ILike, exp.IntDiv, exp.Is, exp.LT, exp.LTE, exp.Like, exp.Mod, exp.Mul, exp.NEQ, exp.Neg, exp.Not,
    exp.NullSafeEQ, exp.NullSafeNEQ, exp.Or, exp.Sub, exp.Xor,
)  # fmt: skip

_FORMS: Final[tuple[type[exp.Expr], ...]] = (
    exp.Alias, exp.Boolean, exp.Case, exp.DataType, exp.DataTypeParam, exp.Filter, exp.Having, exp.If,
    exp.Interval, exp.Null, exp.Paren, exp.Tuple, exp.Var, exp.Where, exp.WindowSpec, exp.WithinGroup,
)  # fmt: skip

_AGGREGATES: Final[tuple[type[exp.Expr], ...]] = (
    exp.Avg, exp.Count, exp.CumeDist, exp.DenseRank, exp.FirstValue, exp.GroupConcat, exp.Lag, exp.LastValue, exp.Lead,
    exp.LogicalAnd, exp.LogicalOr, exp.Max, exp.Median, exp.Min, exp.NthValue, exp.Ntile, exp.PercentRank,
    exp.PercentileCont, exp.PercentileDisc, exp.Rank, exp.RowNumber, exp.Stddev, exp.StddevPop, exp.StddevSamp,
    exp.Sum, exp.Variance, exp.VariancePop,
)  # fmt: skip

_TEXT: Final[tuple[type[exp.Expr], ...]] = (
    exp.Coalesce, exp.Concat, exp.ConcatWs, exp.Greatest, exp.Initcap, exp.Least, exp.Left, exp.Length, exp.Lower,
    exp.Nullif, exp.Replace, exp.Reverse, exp.Right, exp.SplitPart, exp.StrPosition, exp.Substring, exp.Trim,
    exp.Unicode, exp.Upper,
)  # fmt: skip

_NUMBERS: Final[tuple[type[exp.Expr], ...]] = (
    exp.Abs, exp.Acos, exp.Asin, exp.Atan, exp.Atan2, exp.Ceil, exp.Cos, exp.Degrees, exp.Exp, exp.Floor, exp.Ln,
    exp.Log, exp.Pi, exp.Pow, exp.Radians, exp.Round, exp.Sign, exp.Sin, exp.Sqrt, exp.Tan, exp.Trunc,
)  # fmt: skip

_DATES: Final[tuple[type[exp.Expr], ...]] = (
    exp.CurrentDate, exp.CurrentTimestamp, exp.Date, exp.DateAdd, exp.DateDiff, exp.DateSub, exp.Day, exp.DayOfMonth,
    exp.DayOfWeek, exp.DayOfYear, exp.Dayname, exp.Extract, exp.Hour, exp.LastDay, exp.Minute, exp.Month, exp.Quarter,
    exp.Second, exp.TimeToStr, exp.TimestampDiff, exp.TimestampTrunc, exp.TsOrDsToDate, exp.TsOrDsToTimestamp,
    exp.Week, exp.Year,
)  # fmt: skip

NODES: Final[frozenset[type[exp.Expr]]] = frozenset(
    {*CLAUSES, *_OPERATORS, *_FORMS, *_AGGREGATES, *_TEXT, *_NUMBERS, *_DATES}
)

# What gives more text than one of its arguments holds.
GROWING: Final[tuple[type[exp.Expr], ...]] = (
    exp.Concat, exp.ConcatWs, exp.DPipe, exp.GroupConcat, exp.Replace,
)  # fmt: skip

# What the parser has no class for, in lower case.
ANONYMOUS_FUNCTIONS: Final[frozenset[str]] = frozenset(
    {"age", "date", "datetime", "julianday", "now", "strftime", "time", "total", "unixepoch", "weekday"}
)

TYPES: Final = frozenset(
    {
        exp.DataType.Type.BIGINT, exp.DataType.Type.BOOLEAN, exp.DataType.Type.CHAR, exp.DataType.Type.DATE,
        exp.DataType.Type.DATETIME, exp.DataType.Type.DECIMAL, exp.DataType.Type.DOUBLE, exp.DataType.Type.FLOAT,
        exp.DataType.Type.INT, exp.DataType.Type.SMALLINT, exp.DataType.Type.TEXT, exp.DataType.Type.TIME,
        exp.DataType.Type.TIMESTAMP, exp.DataType.Type.TIMESTAMPTZ, exp.DataType.Type.UBIGINT,
        exp.DataType.Type.VARCHAR,
    }
)  # fmt: skip
