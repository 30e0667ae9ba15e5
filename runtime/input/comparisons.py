"""Comparisons of `--filter` as Arrow expressions: a literal takes its column's type, and nothing is rounded.

Whole numbers, decimals, dates and times count in steps of the column's type. A literal between two steps, or beyond the
type's range, is compared as what it is: `id > 3.5` keeps ids from 4 on, and `id = 3.5` keeps none.
"""
# pyarrow makes the functions of `compute` when it is imported:
# pyright: reportAttributeAccessIssue=false

import math
import operator
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.input.literals import (
    Column,
    Value,
    float_of,
    has_steps,
    is_binary,
    is_text,
    plain_of,
    steps_of,
)

Expression = Any  # pyarrow.compute.Expression
Operator = Literal["=", "!=", "<", "<=", ">", ">="]

PLAIN: dict[Operator, Callable[[Expression, Expression], Expression]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compared(column: Column, sign: Operator, value: Value) -> Expression:
    """`column sign value` in SQL's three-valued logic. Raises PairscoreError where the two do not go together."""
    kind = column.type
    if value.kind == "null" or pa.types.is_null(kind):
        return unknown()
    if pa.types.is_floating(kind):
        return floats_compared(column.values, sign, pc.scalar(pa.scalar(float_of(column, value), kind)))
    if not has_steps(kind):
        return PLAIN[sign](column.values, pc.scalar(pa.scalar(plain_of(column, value), kind)))
    return _steps_compared(column, sign, steps_of(column, value))


def among(column: Column, values: Sequence[Value]) -> Expression:
    """`column IN (values)` in SQL's three-valued logic. Raises PairscoreError as `compared` does."""
    kind = column.type
    given = [value for value in values if value.kind != "null"]
    if given and _is_hashed(kind):
        if has_steps(kind):
            low, high = _range(kind)
            steps = [steps_of(column, value) for value in given]
            sought = _array(kind, [int(each) for each in steps if each.denominator == 1 and low <= each <= high])
        else:
            sought = pa.array([plain_of(column, value) for value in given], kind)
        found = _where_known(column, column.values.isin(sought))
    else:
        found = (
            joined([compared(column, "=", value) for value in given], operator.or_)
            if given
            else _where_known(column, False)
        )
    return found | unknown() if len(given) < len(values) else found


def unknown() -> Expression:
    """SQL's third truth value."""
    return pc.scalar(pa.scalar(None, pa.bool_()))


def joined(conditions: Sequence[Expression], join: Callable[[Expression, Expression], Expression]) -> Expression:
    """Their AND or OR, in a tree of little depth: Arrow walks it recursively."""
    if len(conditions) == 1:
        return conditions[0]
    half = len(conditions) // 2
    return join(joined(conditions[:half], join), joined(conditions[half:], join))


def floats_compared(left: Expression, sign: Operator, right: Expression) -> Expression:
    """As DuckDB, Spark and PostgreSQL order floating-point numbers: NaN equals NaN and is above all others."""
    left_nan, right_nan = pc.is_nan(left), pc.is_nan(right)
    match sign:
        case "=":
            return (left == right) | (left_nan & right_nan)
        case "!=":
            return ~((left == right) | (left_nan & right_nan))
        case "<":
            return (left < right) | (right_nan & ~left_nan)
        case ">":
            return (left > right) | (left_nan & ~right_nan)
        case "<=":
            return ~((left > right) | (left_nan & ~right_nan))
        case ">=":
            return ~((left < right) | (right_nan & ~left_nan))


def _where_known(column: Column, condition: Expression | bool) -> Expression:
    """`condition` where the column has a value, and unknown elsewhere."""
    return pc.if_else(column.values.is_valid(), condition, unknown())


def _steps_compared(column: Column, sign: Operator, exact: Fraction) -> Expression:
    low, high = _range(column.type)
    if sign in ("=", "!="):
        if exact.denominator != 1 or not low <= exact <= high:
            return _where_known(column, sign == "!=")
        return PLAIN[sign](column.values, pc.scalar(_array(column.type, [int(exact)])[0]))
    if sign in ("<", "<="):
        most = math.ceil(exact) - 1 if sign == "<" else math.floor(exact)
        if not low <= most < high:
            return _where_known(column, most >= high)
        return column.values <= pc.scalar(_array(column.type, [most])[0])
    least = math.floor(exact) + 1 if sign == ">" else math.ceil(exact)
    if not low < least <= high:
        return _where_known(column, least <= low)
    return column.values >= pc.scalar(_array(column.type, [least])[0])


def _is_hashed(kind: pa.DataType) -> bool:
    """Whether Arrow's `is_in` has a kernel for the type that agrees with its `equal`."""
    if pa.types.is_decimal(kind):
        return bool(pa.types.is_decimal128(kind) or pa.types.is_decimal256(kind))
    return has_steps(kind) or is_text(kind) or is_binary(kind)


def _range(kind: pa.DataType) -> tuple[int, int]:
    """The smallest and the largest number of steps."""
    if pa.types.is_decimal(kind):
        return 1 - 10**kind.precision, 10**kind.precision - 1
    bits = 64 if pa.types.is_date64(kind) else kind.bit_width
    if pa.types.is_unsigned_integer(kind):
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def _array(kind: pa.DataType, numbers: Sequence[int]) -> pa.Array:
    """An array of the type from numbers of steps."""
    if pa.types.is_decimal(kind):
        return pa.array(
            [Decimal((number < 0, Decimal(abs(number)).as_tuple().digits, -kind.scale)) for number in numbers], kind
        )
    if pa.types.is_integer(kind):
        return pa.array(numbers, kind)
    return pa.array(numbers, pa.int64() if kind.bit_width == 64 else pa.int32()).view(kind)


def decoded(column: Column) -> Column:
    """The column in a type that Arrow can compare."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string_view(kind):
        kind = pa.string()
    elif pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        kind = pa.binary()
    elif pa.types.is_float16(kind):
        kind = pa.float32()
    return column if kind == column.type else Column(column.name, kind, column.values.cast(kind))


def columns_compared(one: Column, sign: Operator, other: Column) -> Expression:
    """`one sign other`. Raises PairscoreError for types that do not compare."""
    kinds = (one.type, other.type)
    both: pa.DataType | None = None
    if any(pa.types.is_null(kind) for kind in kinds):
        return unknown()
    if one.type == other.type:
        both = one.type
    elif all(_is_number(kind) for kind in kinds):
        floats = [kind for kind in kinds if pa.types.is_floating(kind)]
        scale = max(getattr(kind, "scale", 0) for kind in kinds)
        both = max(floats, key=lambda kind: kind.bit_width) if floats else pa.decimal256(76, scale)
    else:
        for test, common in _FAMILIES:
            if all(test(kind) for kind in kinds):
                both = common
    if both is None or pa.types.is_nested(both):
        raise PairscoreError(
            f"columns {one.name!r} and {other.name!r} are of types {one.type} and {other.type}, which do not compare"
        )
    left, right = (
        column.values if column.type == both else column.values.cast(both, safe=False) for column in (one, other)
    )
    return floats_compared(left, sign, right) if pa.types.is_floating(both) else PLAIN[sign](left, right)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_moment(kind: pa.DataType) -> bool:
    return bool(pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and kind.tz is None))


def _is_instant(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None)


# Types that compare with each other, and the one in which they do.
_FAMILIES = (
    (is_text, pa.large_string()),
    (is_binary, pa.large_binary()),
    (_is_moment, pa.timestamp("us")),
    (_is_instant, pa.timestamp("us", "UTC")),
    (pa.types.is_time, pa.time64("us")),
)
