"""Pairs beside a column of every type that a program can write, in files that this program wrote itself."""

import datetime as dt
from collections.abc import Collection, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 6
CLAIMS = [f"claim {row}" for row in range(ROWS)]
EVIDENCE = [f"evidence {row}" for row in range(ROWS)]
DAY = dt.date(2024, 2, 29)
MOMENT = dt.datetime(2024, 2, 29, 13, 30, 1)

DUCKDB: Mapping[str, str] = {
    "BOOLEAN": "true",
    "TINYINT": "-128",
    "SMALLINT": "1",
    "INTEGER": "1",
    "BIGINT": "9223372036854775807",
    "HUGEINT": "1",
    "UTINYINT": "255",
    "USMALLINT": "1",
    "UINTEGER": "1",
    "UBIGINT": "18446744073709551615",
    "FLOAT": "1.5",
    "DOUBLE": "'nan'",
    "DECIMAL(4,1)": "-1.5",
    "DECIMAL(18,3)": "1.5",
    "DECIMAL(38,10)": "1.5",
    "VARCHAR": "'é'",
    "BLOB": "'\\xAA'::BLOB",
    "DATE": "'0001-01-01'",
    "TIME": "'12:00:00.000001'",
    "TIMESTAMP": "'9999-12-31 23:59:59.999999'",
    "TIMESTAMPTZ": "'2024-01-01 00:00:00+02'",
    "TIMESTAMP_S": "'2024-01-01'",
    "TIMESTAMP_MS": "'2024-01-01'",
    "TIMESTAMP_NS": "'2024-01-01 00:00:00.000000001'",
    "UUID": "'550e8400-e29b-41d4-a716-446655440000'",
    "JSON": "'{\"a\":1}'",
    "BIT": "'101'",
    "ENUM('a','b')": "'a'",
    "INTEGER[]": "[1, NULL]",
    "VARCHAR[][]": "[['a'], []]",
    "STRUCT(a INTEGER, b STRUCT(c VARCHAR))": "{'a': 1, 'b': {'c': 'x'}}",
    "MAP(VARCHAR, INTEGER)": "MAP {'a': 1}",
    "TIMESTAMP[]": "['2024-01-01']",
    "GEOMETRY": "'POINT(1 2)'",
}
POLARS: Mapping[str, tuple[Any, Any]] = {
    **{str(kind): (5, kind) for kind in (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)},
    "UInt64": (2**64 - 1, pl.UInt64),
    "Float32": (1.5, pl.Float32),
    "Float64": (float("inf"), pl.Float64),
    "Decimal": (Decimal("1.50"), pl.Decimal(20, 2)),
    "String": ("é", pl.String),
    "Binary": (b"\xff", pl.Binary),
    "Boolean": (True, pl.Boolean),
    "Date": (DAY, pl.Date),
    "Time": (dt.time(13, 30), pl.Time),
    "Datetime ms": (MOMENT, pl.Datetime("ms")),
    "Datetime us Berlin": (MOMENT, pl.Datetime("us", "Europe/Berlin")),
    "Datetime ns": (MOMENT, pl.Datetime("ns")),
    "Duration": (dt.timedelta(days=1, microseconds=1), pl.Duration("us")),
    "Categorical": ("a", pl.Categorical),
    "Enum": ("b", pl.Enum(["a", "b"])),
    "List": (["a", None], pl.List(pl.String)),
    "Array": ([1, 2], pl.Array(pl.Int8, 2)),
    "Struct": ({"a": 1, "b": ["x"]}, pl.Struct({"a": pl.Int64, "b": pl.List(pl.String)})),
    "Null": (None, pl.Null),
}
PANDAS: Mapping[str, Any] = {
    "object": pd.array(["é"], dtype=object),
    "str": pd.array(["é"], dtype="str"),
    "string": pd.array(["é"], dtype="string"),
    "category": pd.Categorical(["a"]),
    "ordered": pd.Categorical(["b"], categories=["c", "b", "a"], ordered=True),
    "numbers": pd.Categorical([5]),
    "Int8": pd.array([5], dtype="Int8"),
    "UInt64": pd.array([2**64 - 1], dtype="UInt64"),
    "boolean": pd.array([True], dtype="boolean"),
    "Float32": pd.array([1.5], dtype="Float32"),
    "float64": np.array([1.5]),
    "naive": pd.array(["2024-02-29"], dtype="datetime64[us]"),
    "seconds": pd.array(["2024-02-29"], dtype="datetime64[s]"),
    "berlin": pd.array(["2024-02-29"], dtype="datetime64[ns, Europe/Berlin]"),
    "timedelta": pd.array(["1 days"], dtype="timedelta64[us]"),
    "period": pd.array(["2024-02"], dtype="period[M]"),
    "interval": pd.arrays.IntervalArray.from_tuples([(0, 1)]),
    "time": np.array([dt.time(13, 30)], dtype=object),
    "date": np.array([DAY], dtype=object),
    "decimal": np.array([Decimal("1.5")], dtype=object),
    "bytes": np.array([b"\xff"], dtype=object),
}
_BYTES = pa.array([b"0123456789abcdef"], pa.binary(16))
ARROW: Mapping[str, pa.Array] = {
    **{
        str(kind): pa.array([5], kind)
        for kind in (pa.int8(), pa.uint16(), pa.int64(), pa.float32(), pa.decimal32(5, 2))
    },
    "float16": pa.array(np.array([1.5], np.float16)),
    "decimal64": pa.array([Decimal("1.5")], pa.decimal64(10, 2)),
    "decimal256": pa.array([Decimal("1.5")], pa.decimal256(50, 2)),
    "time32": pa.array([dt.time(13, 30)], pa.time32("ms")),
    "time64": pa.array([dt.time(13, 30)], pa.time64("ns")),
    "seconds": pa.array([MOMENT], pa.timestamp("s")),
    "millis": pa.array([MOMENT], pa.timestamp("ms", "UTC")),
    "nanos": pa.array([MOMENT], pa.timestamp("ns", "America/New_York")),
    "duration": pa.array([dt.timedelta(days=1)], pa.duration("ms")),
    "large_string": pa.array(["é"], pa.large_string()),
    "string_view": pa.array(["é"], pa.string_view()),
    "binary_view": pa.array([b"\xff"], pa.binary_view()),
    "fixed": _BYTES,
    "large_list": pa.array([["a"]], pa.large_list(pa.string())),
    "fixed_list": pa.array([[1, 2]], pa.list_(pa.int8(), 2)),
    "dictionary": pa.array(["a"]).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string())),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())),
    "null": pa.nulls(1),
    "uuid": pa.ExtensionArray.from_storage(pa.uuid(), _BYTES),
    "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}"])),
    "bool8": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1], pa.int8())),
    "tensor": pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.int8(), (2,)), pa.array([[1, 2]], pa.list_(pa.int8(), 2))
    ),
    "strict": pa.StructArray.from_arrays(
        [pa.array([1], pa.int8())], fields=[pa.field("a", pa.int8(), nullable=False, metadata={"unit": "m"})]
    ),
}
SPARK: Mapping[str, str] = {
    "byte": "cast(1 as byte)",
    "short": "cast(1 as short)",
    "int": "1",
    "long": "1L",
    "float": "1.5f",
    "double": "1.5d",
    "dec5": "cast(1.5 as decimal(5,2))",
    "dec15": "cast(1.5 as decimal(15,2))",
    "dec38": "cast(1.5 as decimal(38,10))",
    "string": "'é'",
    "collated": "'a' collate UTF8_LCASE",
    "binary": "x'AA'",
    "boolean": "true",
    "date": "date'0001-01-01'",
    "timestamp": "timestamp'2024-02-29 13:30:00.000001'",
    "ntz": "timestamp_ntz'2024-01-01 00:00:00'",
    "array": "array(1, null)",
    "map": "map('a', 1)",
    "struct": "named_struct('a', 1, 'b', 'x')",
    "nested": "array(named_struct('t', timestamp'2024-01-01 00:00:00'))",
    "void": "null",
}


# What readers cannot read, whoever wrote it.
UNREADABLE: Mapping[str, Collection[str]] = {
    "spark": {"TIME", "UUID", "Time", "time", "float16", "time32", "time64", "uuid", "decimal256"},
    "polars": {"void", "decimal256"},
    "arrow": (),
    "duckdb": (),
    "pandas": (),
}


def write_duckdb(path: Path, without: Collection[str] = ()) -> None:
    columns = ", ".join(
        f'CASE WHEN row % 3 = 2 THEN NULL ELSE ({value})::{kind} END AS "{kind}"'
        for kind, value in DUCKDB.items()
        if kind not in without
    )
    pairs = "'claim ' || row AS claim, 'evidence ' || row AS evidence, row AS id"
    duckdb.sql(f"COPY (SELECT {pairs}, {columns} FROM range({ROWS}) AS t(row)) TO '{path}' (FORMAT PARQUET)")


def write_polars(path: Path, without: Collection[str] = ()) -> None:
    columns = [
        pl.Series(name, [None if row % 3 == 2 else value for row in range(ROWS)], kind)
        for name, (value, kind) in POLARS.items()
        if name not in without
    ]
    pl.DataFrame({"claim": CLAIMS, "evidence": EVIDENCE, "id": range(ROWS)}).with_columns(columns).write_parquet(path)


def write_pandas(path: Path, without: Collection[str] = ()) -> None:
    places = [-1 if row % 3 == 2 else 0 for row in range(ROWS)]
    frame = pd.DataFrame({"claim": CLAIMS, "evidence": EVIDENCE, "id": range(ROWS)})
    for name, value in PANDAS.items():
        if name in without:
            continue
        frame[name] = pd.Series(value).reindex(places).reset_index(drop=True)
    frame.index = pd.Index([f"row {row}" for row in range(ROWS)], name="label")
    frame.attrs = {"source": "tests"}
    frame.to_parquet(path)


def write_arrow(path: Path, without: Collection[str] = ()) -> None:
    places = pa.array([None if row % 3 == 2 else 0 for row in range(ROWS)], pa.int64())
    columns = {name: _taken(value, places) for name, value in ARROW.items() if name not in without}
    # A null struct in which nothing may be null.
    columns["strict"] = pa.StructArray.from_arrays(
        [pa.array([1] * ROWS, pa.int8())], fields=list(ARROW["strict"].type), mask=places.is_null()
    )
    table = pa.table({"claim": CLAIMS, "evidence": EVIDENCE, "id": range(ROWS), **columns})
    fields = [each.with_metadata({"comment": each.name}) for each in table.schema]
    fields[0] = fields[0].with_nullable(False)
    schema = pa.schema(fields, {"owner": "somebody"})
    pq.write_table(pa.Table.from_arrays(table.columns, schema=schema), path)


def _taken(value: pa.Array, places: pa.Array) -> pa.Array:
    """`value[0]` or null for each place; for types of which Arrow takes none, through Python."""
    try:
        return value.take(places)
    except pa.ArrowNotImplementedError:
        return pa.array([None if place is None else value[0].as_py() for place in places.to_pylist()], value.type)


def write_spark(session: Any, path: Path, without: Collection[str] = ()) -> None:
    columns = [
        f"CASE WHEN id % 3 = 2 THEN NULL ELSE {value} END AS {name}"
        for name, value in SPARK.items()
        if name not in without
    ]
    frame = session.range(ROWS).selectExpr("'claim ' || id AS claim", "'evidence ' || id AS evidence", "id", *columns)
    frame.coalesce(1).write.parquet(str(path))
