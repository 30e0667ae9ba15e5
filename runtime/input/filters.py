"""`--filter`: a condition on columns in SQL, to an Arrow expression.

    relevant and claim_id < 1000
    article IN ('Sea level', 'Polar bear') OR evidence IS NOT NULL
    "odd name" BETWEEN 0.5 AND 2 AND day >= '2024-01-31' AND claim NOT LIKE '%CO2%'

Nulls follow SQL: a comparison with one is neither true nor false, and only rows for which the condition is true are
kept. Literals take the column's type. The text is parsed by sqlglot and only what is listed in `_UNDERSTOOD` is let
through; nothing is evaluated. Python's spelling works too where it can mean one thing only: `==`, `1 <= x < 5`,
`is not None`, `x in [1, 2]`, `field("odd name")`, and texts in double quotes where no column has that name.
"""
# pyarrow makes the functions of `compute` when it is imported:
# pyright: reportAttributeAccessIssue=false

import operator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from pairscore.runtime.errors import PairscoreError, no_column, one_line
from pairscore.runtime.input.comparisons import (
    Expression,
    Operator,
    among,
    columns_compared,
    compared,
    decoded,
    joined,
    unknown,
)
from pairscore.runtime.input.literals import Column, Value, is_text

_UNDERSTOOD = (
    "columns, numbers, texts in single quotes, dates, TRUE, FALSE, NULL, =, <>, <, <=, >, >=, IN (...), BETWEEN, LIKE, "
    "ILIKE, IS [NOT] NULL, IS [NOT] TRUE, IS [NOT] DISTINCT FROM, AND, OR, NOT"
)
# Types that SQL names before a text, as in DATE '2024-01-31'.
_TYPED = {
    "DATE": "date",
    "TIMESTAMP": "timestamp",
    "TIMESTAMPNTZ": "timestamp",
    "TIMESTAMPTZ": "timestamp",
    "TIME": "time",
}
_FLIPPED: dict[Operator, Operator] = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True)
class Condition:
    """A condition that was parsed, for columns that are not known yet. `text`: as the user wrote it."""

    text: str
    _tree: Any  # sqlglot.exp.Expression

    def bind(self, schema: pa.Schema) -> tuple[Expression, frozenset[str]]:
        """The expression over columns of `schema`, and the names of those that it reads.

        Raises PairscoreError for a column that is not there, a literal that does not fit its column, and everything
        else that the condition may not hold.
        """
        binding = _Binding(schema)
        try:
            expression = binding.condition(self._tree)
            if not binding.used:
                raise PairscoreError("it names no column: write, for example, 'claim_id < 10'")
            schema.empty_table().select(sorted(binding.used)).filter(expression)
        except PairscoreError as error:
            raise PairscoreError(f"--filter {self.text!r:.300}: {error}") from error
        except RecursionError:
            raise PairscoreError(f"--filter {self.text!r:.300} is nested too deeply: write it simpler") from None
        except (pa.ArrowException, TypeError) as error:
            raise PairscoreError(
                f"--filter {self.text!r:.300} does not fit the columns' types: {one_line(error)}"
            ) from error
        return expression, frozenset(binding.used)


def parse_filter(text: str) -> Condition:
    """The condition. Raises PairscoreError for what is not SQL, naming the place."""
    try:
        tree = sqlglot.parse_one(text, into=exp.Condition, dialect="duckdb")
    except (SqlglotError, RecursionError) as error:
        raise PairscoreError(
            f"--filter {text!r:.300} cannot be read{_place(error)}: write SQL, for example 'claim_id < 10'"
        ) from None
    return Condition(text, tree)


@dataclass
class _Binding:
    """A walk over the tree. `used`: names of the columns that were met."""

    schema: pa.Schema
    used: set[str] = field(default_factory=set)

    def condition(self, node: Any) -> Expression:  # noqa: PLR0911 (a line a kind of node)
        """A truth value: true, false or unknown."""
        match node:
            case exp.Paren():
                return self.condition(node.this)
            case exp.And() | exp.Or():
                join = operator.and_ if isinstance(node, exp.And) else operator.or_
                return joined([self.condition(each) for each in node.flatten()], join)
            case exp.Not():
                return ~self.condition(node.this)
            case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE():
                return self._comparison(node)
            case exp.Between() if not node.args.get("symmetric"):
                low = self._compared(node.this, ">=", node.args["low"])
                return low & self._compared(node.this, "<=", node.args["high"])
            case exp.In() if not any(node.args.get(name) for name in ("query", "unnest", "field")):
                column = self._column(node.this)
                return among(column, [self._value(each) for each in node.expressions])
            case exp.Like() | exp.ILike() | exp.Escape():
                return self._like(node)
            case exp.Is():
                return self._is(node)
            case exp.NullSafeEQ() | exp.NullSafeNEQ():
                same = self._same(node.this, node.expression)
                return ~same if isinstance(node, exp.NullSafeNEQ) else same
            case exp.Boolean():
                return pc.scalar(bool(node.this))
            case exp.Null():
                return unknown()
            case exp.Column() | exp.Anonymous() | exp.Dot():
                return self._truth(self._column(node))
        raise _refused(node)

    def _comparison(self, node: Any) -> Expression:
        """One comparison, or Python's chain of them: `1 <= x < 5`."""
        sign = _sign(node)
        chained = isinstance(node.this, exp.LT | exp.LTE | exp.GT | exp.GTE)
        if chained and isinstance(node, exp.LT | exp.LTE | exp.GT | exp.GTE):
            return self._comparison(node.this) & self._compared(node.this.expression, sign, node.expression)
        return self._compared(node.this, sign, node.expression)

    def _compared(self, left: Any, sign: Operator, right: Any) -> Expression:
        one, other = self._operand(left), self._operand(right)
        if isinstance(one, Value):
            one, other, sign = other, one, _FLIPPED[sign]
        if isinstance(one, Value):
            for node in (left, right):
                if _literal(node) is None:
                    self._path(node)  # a name in double quotes that is no column
            raise PairscoreError(f"{left.sql()} and {right.sql()} are two values: compare a column with a value")
        return compared(one, sign, other) if isinstance(other, Value) else columns_compared(one, sign, other)

    def _same(self, left: Any, right: Any) -> Expression:
        """`IS NOT DISTINCT FROM`: null equals null."""
        one, other = self._operand(left), self._operand(right)
        if isinstance(one, Value):
            left, one, other = right, other, one
        if isinstance(one, Value):
            raise _refused(left)
        if isinstance(other, Value):
            null = pc.scalar(other.kind == "null")
            return pc.if_else(one.values.is_null(), null, pc.coalesce(compared(one, "=", other), pc.scalar(False)))
        both = one.values.is_null() & other.values.is_null()
        return both | pc.coalesce(columns_compared(one, "=", other), pc.scalar(False))

    def _is(self, node: Any) -> Expression:
        asked = node.expression
        if isinstance(asked, exp.Null) or (isinstance(asked, exp.Column) and asked.name == "None"):
            return self._column(node.this).values.is_null()
        if isinstance(asked, exp.Boolean) or (isinstance(asked, exp.Column) and asked.name in ("True", "False")):
            wanted = str(asked.name or asked.this).lower() == "true"
            truth = self.condition(node.this)
            return pc.coalesce(truth if wanted else ~truth, pc.scalar(False))
        raise _refused(node)

    def _like(self, node: Any) -> Expression:
        escape = ""
        if isinstance(node, exp.Escape):
            escape, node = str(node.expression.this), node.this
        if not isinstance(node, exp.Like | exp.ILike) or len(escape) > 1:
            raise _refused(node)
        column, pattern = self._column(node.this), self._operand(node.expression)
        if not is_text(column.type):
            raise PairscoreError(f"column {column.name!r} is of type {column.type}: LIKE needs text")
        if not isinstance(pattern, Value) or pattern.kind not in ("text", "null"):
            raise PairscoreError(f"{node.sql()}: LIKE needs a pattern in single quotes")
        if pattern.kind == "null":
            return unknown()
        folded = isinstance(node, exp.ILike)
        values = pc.utf8_lower(column.values) if folded else column.values
        text = pc.utf8_lower(pattern.text).as_py() if folded else pattern.text
        found = pc.match_substring_regex(values, _regex(text, escape))
        return ~found if node.args.get("negate") else found

    def _truth(self, column: Column) -> Expression:
        if not pa.types.is_boolean(column.type):
            raise PairscoreError(f"column {column.name!r} is of type {column.type}, not true or false: compare it")
        return column.values

    def _operand(self, node: Any) -> Column | Value:
        value = _literal(node)
        if value is not None:
            return value
        quoted = isinstance(node, exp.Column) and node.this.quoted and len(node.parts) == 1
        if quoted and node.name not in self.schema.names:
            return Value("text", node.name)
        return self._column(node)

    def _value(self, node: Any) -> Value:
        value = self._operand(node)
        if isinstance(value, Column):
            raise PairscoreError(f"{node.sql()}: IN takes values, and {value.name!r} is a column")
        return value

    def _column(self, node: Any) -> Column:
        path = self._path(node)
        found = self.schema.field(path[0])
        for name in path[1:]:
            found = found.type.field(name)
        self.used.add(path[0])
        return decoded(Column(".".join(path), found.type, pc.field(path[0] if len(path) == 1 else tuple(path))))

    def _path(self, node: Any) -> list[str]:
        """The name of a column, or the names that lead to a field of a struct."""
        if isinstance(node, exp.Anonymous) and node.name.lower() == "field" and len(node.expressions) == 1:
            (named,) = node.expressions
            if isinstance(named, exp.Literal) or (isinstance(named, exp.Column) and named.this.quoted):
                node = exp.column(named.name, quoted=True)
        parts = node.parts if isinstance(node, exp.Column | exp.Dot) else []
        if not parts or not all(isinstance(part, exp.Identifier) for part in parts):
            raise _refused(node)
        names = [part.name for part in parts]
        if ".".join(names) in self.schema.names:
            return [".".join(names)]
        path = [self._known(names[0], bool(parts[0].args.get("quoted")))]
        kind = self.schema.field(path[0]).type
        for name in names[1:]:
            if not pa.types.is_struct(kind) or kind.get_field_index(name) < 0:
                raise PairscoreError(f"column {'.'.join(path)!r} is of type {kind!s:.80} and has no field {name!r}")
            kind = kind.field(name).type
            path.append(name)
        return path

    def _known(self, name: str, quoted: bool) -> str:
        """A column's name as the schema spells it; SQL looks at the case of quoted names alone."""
        if name in self.schema.names:
            return name
        alike: list[str] = [each for each in self.schema.names if each.lower() == name.lower()]
        if len(alike) == 1 and not quoted:
            return alike[0]
        raise PairscoreError(no_column(name, self.schema.names))


def _literal(node: Any) -> Value | None:  # noqa: PLR0911 (a line a kind of node)
    """The value that a node stands for; None for anything else."""
    match node:
        case exp.Literal():
            return Value("text" if node.is_string else "number", str(node.this))
        case exp.Boolean():
            return Value("truth", str(node.this))
        case exp.Null():
            return Value("null", "NULL")
        case exp.Neg(this=exp.Literal() as number) if not number.is_string:
            return Value("number", f"-{number.this}")
        case exp.Paren():
            return _literal(node.this)
        case exp.Cast(this=exp.Literal() as text) if text.is_string:
            kind = _TYPED.get(node.to.this.name)
            return Value(kind, str(text.this)) if kind else None
        case exp.Column() if node.name in ("True", "False") and not node.this.quoted:
            return Value("truth", node.name)
    return None


def _regex(pattern: str, escape: str) -> str:
    """A LIKE pattern as a regular expression of RE2. Raises PairscoreError where it ends in the escape character."""
    parts = []
    characters = iter(pattern)
    for character in characters:
        if character == escape:
            escaped = next(characters, None)
            if escaped is None:
                raise PairscoreError(f"pattern {pattern!r} ends in its escape character")
            parts.append(_literally(escaped))
        else:
            parts.append({"%": ".*", "_": "."}.get(character) or _literally(character))
    return rf"(?s)\A{''.join(parts)}\z"


def _literally(character: str) -> str:
    return "\\" + character if character in r"\.+*?()|[]{}^$" else character


def _sign(node: Any) -> Operator:
    signs: dict[str, Operator] = {"EQ": "=", "NEQ": "!=", "LT": "<", "LTE": "<=", "GT": ">", "GTE": ">="}
    return signs[type(node).__name__]


def _place(error: Exception) -> str:
    """Where the parser stopped, in words."""
    found = getattr(error, "errors", None)
    if not found or not found[0].get("highlight"):
        return ""
    return f" at {found[0]['highlight']!r}"


def _refused(node: Any) -> PairscoreError:
    return PairscoreError(f"{node.sql(dialect='duckdb')!r:.120} is not understood: use {_UNDERSTOOD}")
