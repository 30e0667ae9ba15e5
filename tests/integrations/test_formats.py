"""Real writers, a job, real readers: every column comes back as it was, its type included, with a score beside it."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.job.run import run_job
from tests.integrations import writers
from tests.pairs_files import job

# Rows of the input that the filter keeps; the last part of the output holds none.
KEPT, PART_ROWS = 4, 2
WRITERS = ("duckdb", "polars", "pandas", "arrow", "spark")

# Column -> its type in words, and the rows as text, in which NaN equals NaN.
Seen = tuple[dict[str, str], list[dict[str, str]]]


def files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.glob("part-*.parquet"))


def by_arrow(path: Path, _: Any) -> Seen:
    tables = [pq.read_table(file, coerce_int96_timestamp_unit="us", partitioning=None) for file in files(path)]
    schemas = [_without_own_key(table.schema) for table in tables]
    assert all(schema.equals(schemas[0], check_metadata=True) for schema in schemas)
    table = pa.concat_tables(tables)
    types = {each.name: f"{each.type} {each.nullable} {each.metadata or {}}" for each in table.schema}
    types["keys"] = str(sorted(schemas[0].metadata or {}))
    return types, [{name: repr(value) for name, value in row.items()} for row in table.to_pylist()]


def _without_own_key(schema: pa.Schema) -> pa.Schema:
    return schema.with_metadata({key: value for key, value in (schema.metadata or {}).items() if key != b"pairscore"})


def by_duckdb(path: Path, _: Any) -> Seen:
    with duckdb.connect() as database:
        database.sql("SET TimeZone = 'UTC'")
        relation = database.sql(f"FROM read_parquet({[str(file) for file in files(path)]})")
        types = dict(zip(relation.columns, map(str, relation.types), strict=True))
        texts = ", ".join(f'CAST("{name}" AS VARCHAR) AS "{name}"' for name in relation.columns)
        rows = database.sql(f"SELECT {texts} FROM relation").fetchall()
    return types, [dict(zip(types, map(repr, row), strict=True)) for row in rows]


def by_polars(path: Path, _: Any) -> Seen:
    frame = pl.read_parquet(files(path))
    return {name: repr(kind) for name, kind in frame.schema.items()}, [
        {name: repr(value) for name, value in row.items()} for row in frame.to_dicts()
    ]


def by_pandas(path: Path, _: Any) -> Seen:
    frame = pd.read_parquet(path, coerce_int96_timestamp_unit="us")
    types = {name: repr(kind) for name, kind in frame.dtypes.items()}
    types["index"] = f"{frame.index.name} {frame.index.dtype} {frame.attrs}"
    rows = [{name: repr(_plain(value)) for name, value in row.items()} for row in frame.to_dict("records")]
    return types, [{**row, "index": repr(label)} for row, label in zip(rows, frame.index, strict=True)]


def _plain(value: Any) -> Any:
    """A nested value with floats for whole numbers, which pandas makes of them where a null is near."""
    if isinstance(value, dict):
        return {name: float(each) if type(each) is int else _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | np.ndarray) else value


def by_spark(path: Path, session: Any) -> Seen:
    frame = session.read.parquet(str(path))
    types = {each["name"]: json.dumps(each, sort_keys=True) for each in frame.schema.jsonValue()["fields"]}
    rows = [{name: repr(value) for name, value in row.asDict().items()} for row in frame.orderBy("id").collect()]
    return types, rows


READERS = {"arrow": by_arrow, "duckdb": by_duckdb, "polars": by_polars, "pandas": by_pandas, "spark": by_spark}


def write(writer: str, path: Path, session: Any, without: Collection[str]) -> None:
    if writer == "spark":
        writers.write_spark(session, path, without)
    else:
        getattr(writers, f"write_{writer}")(path, without)


@pytest.mark.parametrize("output", ["out", "out.parquet"])
@pytest.mark.parametrize("writer", WRITERS)
def test_every_reader_gets_back_what_was_written(session, small_bundle, tmp_path, writer, output):
    # Spark does not tell two resolutions apart; without this it refuses nanoseconds altogether.
    session.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    differences: dict[str, tuple[str | None, str | None]] = {}
    columns = set(getattr(writers, writer.upper()))
    together: dict[frozenset[str], list[str]] = {}
    for reader, unreadable in writers.UNREADABLE.items():
        together.setdefault(frozenset(columns.intersection(unreadable)), []).append(reader)
    for without, readers in together.items():
        folder = tmp_path / readers[0]
        folder.mkdir()
        write(writer, folder / "in.parquet", session, without)
        options = job(
            small_bundle(), folder / "in.parquet", folder / output, part_rows=PART_ROWS, filter=f"id < {KEPT}"
        )
        assert run_job(options).whole
        if output == "out":
            assert len(files(folder / output)) == writers.ROWS // PART_ROWS
        for name in readers:
            types, rows = READERS[name](folder / "in.parquet", session)
            new_types, new_rows = READERS[name](folder / output, session)
            assert "float" in new_types.pop("score").lower()
            assert all(row.pop("score") not in ("None", "nan") for row in new_rows)
            if (writer, name) == ("spark", "polars"):  # which reads INT96 in nanoseconds
                types = {column: kind.replace("'ns'", "'us'") for column, kind in types.items()}
            kept = [row for row in rows if int(row["id"].strip("'")) < KEPT]
            assert len(kept) == len(new_rows) == KEPT
            changed = {column: (types.get(column), new_types.get(column)) for column in {*types, *new_types}}
            changed = {column: kinds for column, kinds in changed.items() if kinds[0] != kinds[1]}
            for column in types.keys() & new_types.keys() - {"keys"}:
                values = [[row.get(column) for row in each] for each in (kept, new_rows)]
                if values[0] != values[1]:
                    changed[column] = (str(values[0]), str(values[1]))
            differences |= {f"{name}: {column}": kinds for column, kinds in changed.items()}
    assert not differences
