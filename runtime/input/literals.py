"""Literals of `--filter` as values of a column's type, exactly.

Whole numbers, decimals, dates and times are counted in steps of the column's type: `2.5` in a column of whole numbers
is two and a half steps, and nobody rounds it.
"""

import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

import pyarrow as pa

from pairscore.runtime.errors import PairscoreError

_MOMENT = re.compile(
    r"(\d{4}-\d{1,2}-\d{1,2})(?:[T ]+(\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?))?\s*(Z|UTC|[+-]\d{2}(?::?\d{2})?)?",
    re.IGNORECASE,
)
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?")


@dataclass(frozen=True)
class Value:
    """A literal. `kind`: number, text, truth or null, or date, timestamp or time where SQL names the type.

    `text`: as written; a number with its sign.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Column:
    """A column, or a field of a struct: what messages call it, its type, and the expression of its values."""

    name: str
    type: pa.DataType
    values: Any  # pyarrow.compute.Expression


def has_steps(kind: pa.DataType) -> bool:
    """Whether values of the type are whole numbers of steps."""
    test = pa.types
    is_number = test.is_integer(kind) or test.is_decimal(kind)
    return bool(is_number or test.is_date(kind) or test.is_timestamp(kind) or test.is_time(kind))


def is_text(kind: pa.DataType) -> bool:
    """Text that Arrow compares."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Bytes that Arrow compares."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def steps_of(column: Column, value: Value) -> Fraction:
    """The literal in steps of the column's type, exactly."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        if value.kind not in ("number", "text") or (number := _number(value.text)) is None:
            raise _misfit(column, value, "a number")
        if value.kind == "text" and pa.types.is_integer(kind) and number.denominator != 1:
            raise _misfit(column, value, "a whole number, or one without quotes")
        return number * 10**kind.scale if pa.types.is_decimal(kind) else number
    if pa.types.is_time(kind):
        nanoseconds = _time_of_day(value.text) if value.kind in ("text", "time") else None
        if nanoseconds is None:
            raise _misfit(column, value, "a time like '13:30:00'")
        return Fraction(nanoseconds, _nanoseconds(kind.unit))
    if value.kind not in ("text", "date", "timestamp"):
        raise _misfit(column, value, "a date in quotes like '2024-01-31'")
    nanoseconds, has_time, has_zone = _moment(column, value)
    if pa.types.is_timestamp(kind):
        if has_zone and kind.tz is None:
            raise _misfit(column, value, "a time without a zone, as the column has none")
        return Fraction(nanoseconds, _nanoseconds(kind.unit))
    if value.kind == "text" and has_time:
        raise _misfit(column, value, "a date alone, or TIMESTAMP and the time in quotes")
    return Fraction(nanoseconds, 86_400 * 10**9 if pa.types.is_date32(kind) else 10**6)


def _number(text: str) -> Fraction | None:
    """What a number's text means, exactly; None for anything else, NaN and infinity included."""
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    # An exponent of millions would make a number of millions of digits.
    return Fraction(number) if number.is_finite() and abs(number.adjusted()) < 5000 else None


def _nanoseconds(unit: str) -> int:
    return {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]


def _moment(column: Column, value: Value) -> tuple[int, bool, bool]:
    """Nanoseconds since 1970, and whether the literal names a time and a zone. Without a zone, UTC is meant."""
    match = _MOMENT.fullmatch(value.text.strip())
    if match is None:
        raise _misfit(column, value, "a date like '2024-01-31' or a time like '2024-01-31 13:30:00'")
    day, time, zone = match.groups()
    try:
        days = (date(*map(int, day.split("-"))) - date(1970, 1, 1)).days
    except ValueError as error:
        raise _misfit(column, value, f"a date of the calendar ({error})") from error
    of_day = _time_of_day(time) if time else 0
    if of_day is None or (value.kind == "date" and (time or zone)):
        raise _misfit(column, value, "a date of the calendar and a time of the day")
    offset = 0
    if zone and zone.upper() not in ("Z", "UTC"):
        digits = zone[1:].replace(":", "").ljust(4, "0")
        offset = (int(digits[:2]) * 60 + int(digits[2:])) * (-1 if zone[0] == "-" else 1)
    return days * 86_400 * 10**9 + of_day - offset * 60 * 10**9, time is not None, zone is not None


def _time_of_day(text: str) -> int | None:
    """Nanoseconds since midnight; None for what is no time of the day."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    hours, minutes, seconds = (int(each or 0) for each in match.groups()[:3])
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    return ((hours * 60 + minutes) * 60 + seconds) * 10**9 + int((match.group(4) or "").ljust(9, "0"))


def float_of(column: Column, value: Value) -> float:
    """A literal's value as a float of the column's type."""
    try:
        if value.kind in ("number", "text"):
            return float(value.text)
    except ValueError:
        pass
    raise _misfit(column, value, "a number")


def plain_of(column: Column, value: Value) -> bool | str | bytes:
    """The literal for a column of booleans, texts or bytes."""
    kind = column.type
    if pa.types.is_boolean(kind):
        truth = {"true": True, "false": False, "1": True, "0": False}.get(value.text.lower())
        if truth is None:
            raise _misfit(column, value, "true or false")
        return truth
    if is_text(kind) or is_binary(kind):
        if value.kind != "text":
            raise _misfit(column, value, f"a text in quotes: '{value.text}'")
        return value.text if is_text(kind) else value.text.encode()
    raise PairscoreError(f"column {column.name!r} is of type {kind!s:.80}, which can only be tested with IS NULL")


def _misfit(column: Column, value: Value, remedy: str) -> PairscoreError:
    shown = repr(value.text) if value.kind == "text" else value.text
    return PairscoreError(f"column {column.name!r} is of type {column.type}, and {shown:.60} is not: write {remedy}")
