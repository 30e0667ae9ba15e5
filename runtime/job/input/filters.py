"""`--filter`: a condition on columns, written as text, to an Arrow expression.

    relevant == true and claim_id < 1000
    article in ("Sea level", "Polar bear") or evidence is not null
    not field("odd name") >= 0.5

Columns stand as names, or as `field("any name")`. Values are numbers, quoted strings, `true` and `false`.
The text is parsed with Python's grammar and only what is listed here is let through; nothing is evaluated.
"""

import ast
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pairscore.runtime.errors import PairscoreError, one_line

_CONSTANTS = {"true": True, "false": False, "True": True, "False": False}
_NULLS = ("null", "None")
_COMPARISONS: dict[type[ast.cmpop], Any] = {
    ast.Eq: lambda left, right: left == right,
    ast.NotEq: lambda left, right: left != right,
    ast.Lt: lambda left, right: left < right,
    ast.LtE: lambda left, right: left <= right,
    ast.Gt: lambda left, right: left > right,
    ast.GtE: lambda left, right: left >= right,
}


def parse_filter(text: str) -> tuple[pc.Expression, frozenset[str]]:
    """The expression and the columns that it reads. Raises PairscoreError naming what is not allowed."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise PairscoreError(
            f"--filter {text!r} cannot be read ({error}): write, for example, 'claim_id < 10'"
        ) from None
    columns: set[str] = set()
    expression = _condition(tree.body, columns)
    if not columns:
        raise PairscoreError(f"--filter {text!r} names no column: write, for example, 'claim_id < 10'")
    return expression, frozenset(columns)


def check_filter(text: str, expression: pc.Expression, schema: pa.Schema) -> None:
    """Raise PairscoreError unless the expression fits the columns' types and gives true or false."""
    try:
        schema.empty_table().filter(expression)
    except (pa.ArrowException, TypeError) as error:
        raise PairscoreError(f"--filter {text!r} does not fit the columns' types: {one_line(error)}") from error


def _condition(node: ast.expr, columns: set[str]) -> pc.Expression:
    match node:
        case ast.BoolOp(op=op, values=values):
            conditions = [_condition(value, columns) for value in values]
            result = conditions[0]
            for condition in conditions[1:]:
                result = result & condition if isinstance(op, ast.And) else result | condition
            return result
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ~_condition(operand, columns)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            sides = [left, *comparators]
            result = _comparison(sides[0], ops[0], sides[1], columns)
            for place in range(1, len(ops)):
                result = result & _comparison(sides[place], ops[place], sides[place + 1], columns)
            return result
        case ast.Name() | ast.Call():
            return _column(node, columns)  # a column of booleans
    raise _refused(node)


def _comparison(left: ast.expr, op: ast.cmpop, right: ast.expr, columns: set[str]) -> pc.Expression:
    if isinstance(op, ast.Is | ast.IsNot) and isinstance(right, ast.Name | ast.Constant) and _is_null(right):
        column = _column(left, columns)
        return column.is_valid() if isinstance(op, ast.IsNot) else column.is_null()
    if isinstance(op, ast.In | ast.NotIn) and isinstance(right, ast.List | ast.Tuple | ast.Set):
        inside = _column(left, columns).isin([_value(each) for each in right.elts])
        return ~inside if isinstance(op, ast.NotIn) else inside
    if type(op) in _COMPARISONS:
        return _COMPARISONS[type(op)](_operand(left, columns), _operand(right, columns))
    raise _refused(right)


def _operand(node: ast.expr, columns: set[str]) -> pc.Expression:
    if isinstance(node, ast.Constant | ast.UnaryOp) or (isinstance(node, ast.Name) and node.id in _CONSTANTS):
        return pc.scalar(_value(node))
    return _column(node, columns)


def _column(node: ast.expr, columns: set[str]) -> pc.Expression:
    match node:
        case ast.Name(id=name) if name not in _CONSTANTS and name not in _NULLS:
            columns.add(name)
            return pc.field(name)
        case ast.Call(func=ast.Name(id="field"), args=[ast.Constant(value=str(name))], keywords=[]):
            columns.add(name)
            return pc.field(name)
    raise _refused(node)


def _value(node: ast.expr) -> bool | int | float | str:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return value
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
    raise _refused(node)


def _is_null(node: ast.Name | ast.Constant) -> bool:
    return node.id in _NULLS if isinstance(node, ast.Name) else node.value is None


def _refused(node: ast.expr) -> PairscoreError:
    return PairscoreError(
        f"--filter does not understand {ast.unparse(node)[:80]!r}: use columns, values, ==, !=, <, <=, >, >=, "
        "in (...), is null, is not null, and, or, not"
    )
