"""Random tables and conditions: `--filter` and DuckDB must keep the same rows.

python -m tests.robustness.filters --cases 10000 --seed 0
"""

import argparse
import datetime as dt
import random
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.runtime.input.filters import parse_filter

_WORDS = ["", "a", "A", "b", "ab", "a%b", "a_b", "it's", "é", "É", "CO2", "x\ny", "\\", "長い"]
_DAYS = [dt.date(1, 1, 1), dt.date(1969, 12, 31), dt.date(2024, 1, 5), dt.date(2024, 2, 29), dt.date(9999, 12, 31)]
_TIMES = [dt.time(0), dt.time(13, 30), dt.time(23, 59, 59, 999_999), dt.time(1, 2, 3, 4)]
_PATTERNS = ["%", "_", "a%", "%b", "%a%", "a!%b", "a\\%b", "", "_b", "%é%", ".", "(a", "!_%"]
_SIGNS = ["=", "==", "<>", "!=", "<", "<=", ">", ">="]
Draw = random.Random


def _moments(draw: Draw) -> dt.datetime:
    return dt.datetime.combine(draw.choice(_DAYS), draw.choice(_TIMES))


def _number(draw: Draw, value: int) -> str:
    return draw.choice([f"{value}", f"{value}.0", f"{value}.5", f"{value + 1}", f"'{value}'"])


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _moment(draw: Draw) -> str:
    text = _moments(draw).isoformat(sep=draw.choice(" T"))
    return draw.choice([f"'{text}'", f"TIMESTAMP '{text}'", f"'{text[:10]}'", f"DATE '{text[:10]}'"])


def _whole_kind(kind: pa.DataType) -> tuple[pa.DataType, Callable[[Draw], Any], Callable[[Draw], str]]:
    unsigned, bits = pa.types.is_unsigned_integer(kind), kind.bit_width
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    values = [low, high, high - 1, 0, 1, 2, 5]
    return kind, lambda draw: draw.choice(values), lambda draw: _number(draw, draw.choice(values))


_WHOLE_TYPES = [pa.int8(), pa.int32(), pa.int64(), pa.uint16(), pa.uint64()]
# Name -> (type, a random value, a random literal).
_KINDS: dict[str, tuple[pa.DataType, Callable[[Draw], Any], Callable[[Draw], str]]] = {
    **{str(kind): _whole_kind(kind) for kind in _WHOLE_TYPES},
    **{
        str(kind): (
            kind,
            lambda draw: draw.choice([0.0, -0.0, 0.1, 0.5, 1.0, 2.0, -3.5, 1e10, float("nan"), float("inf")]),
            lambda draw: draw.choice(["0", "0.1", "0.5", "1", "-3.5", "2.25", "'nan'", "'inf'", "'-inf'", "1e3"]),
        )
        for kind in (pa.float16(), pa.float32(), pa.float64())
    },
    "decimal": (
        pa.decimal128(9, 2),
        lambda draw: draw.choice([Decimal("0.00"), Decimal("1.10"), Decimal("5.55"), Decimal("-9999999.99")]),
        lambda draw: draw.choice(["0", "1.1", "5.555", "5.549", "-9999999.99", "123456789012", "'1.1'", "1.10"]),
    ),
    "wide": (
        pa.decimal128(38, 10),
        lambda draw: draw.choice([Decimal("1e-10"), Decimal("3.3333333333"), Decimal(10**27)]),
        lambda draw: draw.choice(["3.3333333333", "0.0000000001", "1", "1000000000000000000000000000"]),
    ),
    "text": (pa.string(), lambda draw: draw.choice(_WORDS), lambda draw: _text(draw.choice(_WORDS))),
    "large": (pa.large_string(), lambda draw: draw.choice(_WORDS), lambda draw: _text(draw.choice(_WORDS))),
    "kind": (
        pa.dictionary(pa.int8(), pa.string()),
        lambda draw: draw.choice(_WORDS),
        lambda draw: _text(draw.choice(_WORDS)),
    ),
    "flag": (pa.bool_(), lambda draw: draw.random() < 0.5, lambda draw: draw.choice(["true", "FALSE", "'true'", "1"])),
    "day": (
        pa.date32(),
        lambda draw: draw.choice(_DAYS),
        lambda draw: draw.choice(["'{}'", "DATE '{}'", "CAST('{}' AS DATE)", "TIMESTAMP '{} 13:30:00'"]).format(
            draw.choice(_DAYS).isoformat()
        ),
    ),
    "clock": (pa.time64("us"), lambda draw: draw.choice(_TIMES), lambda draw: f"'{draw.choice(_TIMES).isoformat()}'"),
    **{
        f"moment {unit}": (
            pa.timestamp(unit),
            lambda draw, unit=unit: _moments(draw).replace(microsecond=0 if unit == "ms" else draw.choice([0, 4])),
            _moment,
        )
        for unit in ("ms", "us")
    },
    "instant": (pa.timestamp("us", "UTC"), _moments, _moment),
    "bytes": (
        pa.binary(),
        lambda draw: draw.choice([b"", b"a", b"ab", b"\xff"]),
        lambda draw: draw.choice(["'a'", "''"]),
    ),
}
_COMPARABLE = [
    ["int8", "int32", "int64", "uint16", "uint64", "decimal", "wide"],
    ["float", "double", "int8", "uint16"],
    ["text", "large", "kind"],
    ["day", "moment ms", "moment us"],
]


def table(draw: Draw) -> pa.Table:
    """A few rows, a column of each kind, with nulls; `row` numbers the rows."""
    rows = draw.randint(0, 12)
    columns: dict[str, pa.Array] = {"row": pa.array(range(rows), pa.int64())}
    for name, (kind, value, _) in _KINDS.items():
        values = [None if draw.random() < 0.2 else value(draw) for _ in range(rows)]
        if pa.types.is_float16(kind):
            values = [None if each is None else np.float16(min(each, 60_000)) for each in values]
        is_dictionary = pa.types.is_dictionary(kind)
        array = pa.array(values, pa.string() if is_dictionary else kind)
        columns[name] = array.dictionary_encode().cast(kind) if is_dictionary else array
    columns["nothing"] = pa.nulls(rows)
    return pa.table(columns)


def condition(draw: Draw, depth: int = 3) -> str:  # noqa: PLR0911 (a return a kind of condition)
    """A condition over such a table."""
    if depth and draw.random() < 0.6:
        one, other = condition(draw, depth - 1), condition(draw, depth - 1)
        return draw.choice([f"({one}) AND {other}", f"{one} or ({other})", f"NOT ({one})", f"(not {one}) and {other}"])
    name = draw.choice(list(_KINDS))
    column, literal = f'"{name}"', _KINDS[name][2]
    match draw.randint(0, 8):
        case 0:
            values = [literal(draw) for _ in range(draw.randint(1, 4))] + ["NULL"] * (draw.random() < 0.2)
            return f"{column} {draw.choice(['IN', 'not in'])} ({', '.join(values)})"
        case 1:
            low, high = (draw.choice([literal(draw), literal(draw), "null"]) for _ in range(2))
            return f"{column} {draw.choice(['', 'NOT'])} BETWEEN {low} AND {high}"
        case 2:
            return f"{draw.choice([column, 'nothing'])} IS {draw.choice(['', 'NOT'])} NULL"
        case 3:
            escape = draw.choice(["", " ESCAPE '!'"])
            pattern = draw.choice([each for each in _PATTERNS if not escape or not each.endswith("!")])
            like = draw.choice(["LIKE", "NOT LIKE", "ilike", "NOT ILIKE"])
            return f"{draw.choice(['text', 'large', 'kind'])} {like} {_text(pattern)}{escape}"
        case 4:
            return draw.choice(["flag", "NOT flag", "flag is true", "flag IS NOT FALSE", "flag = NULL", "nothing = 1"])
        case 5:
            one, other = draw.sample(draw.choice(_COMPARABLE), 2)
            return f'"{one}" {draw.choice(_SIGNS)} "{other}"'
        case 6:
            return f"{column} IS {draw.choice(['', 'NOT'])} DISTINCT FROM {draw.choice([literal(draw), 'NULL'])}"
        case 7:
            return f"{literal(draw)} {draw.choice(_SIGNS)} {column}"
    return f"{column} {draw.choice(_SIGNS)} {literal(draw)}"


def differing(cases: int, seed: int, per_table: int = 10) -> list[str]:
    """The conditions on which both disagree, in words; empty where they agree on all."""
    draw = random.Random(seed)
    found = []
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as database:
        path = Path(folder, "rows.parquet")
        database.execute("SET TimeZone = 'UTC'")
        for case in range(cases):
            if case % per_table == 0:
                pq.write_table(table(draw), path)
                rows = pq.read_table(path)
                # Not from the file: DuckDB believes its statistics, which leave NaN out.
                database.execute(f"CREATE OR REPLACE TABLE data AS FROM '{path}'")
            text = condition(draw)
            try:
                kept = database.execute(f"SELECT row FROM data WHERE {text} ORDER BY row").fetchall()
            except duckdb.ConversionException:  # a literal that it does not take
                continue
            expression, _ = parse_filter(text).bind(rows.schema)
            theirs = [row for (row,) in kept]
            ours = rows.filter(expression)["row"].to_pylist()
            if ours != theirs:
                found.append(f"{text}: rows {ours}, and {theirs} by DuckDB")
    return found


def main() -> None:
    """Compare on as many cases as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found = differing(arguments.cases, arguments.seed)
    print("\n".join(found[:20]) or f"{arguments.cases:,} conditions keep the same rows as DuckDB's")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
