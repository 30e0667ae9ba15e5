"""What the tests of the pipeline engines share: one input, its scores by `pairscore score`, the examples."""

import runpy
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.runtime.job.options import JobOptions
from pairscore.runtime.job.run import run_job
from tests.pairs_files import pairs_table

ROOT = Path(__file__).parents[1]
ROWS = 240
NULL_EVERY = 37


def rich_table(rows: int = ROWS) -> pa.Table:
    """Pairs, some without evidence, among columns of many types, with nulls."""
    table = pairs_table(rows, null_every=NULL_EVERY)
    places = range(rows)
    extras = {
        "amount": pa.array([Decimal(f"{row}.25") for row in places], pa.decimal128(12, 2)),
        "day": pa.array([None if row % 5 == 0 else date(2020, 1, 1 + row % 28) for row in places]),
        "moment": pa.array([datetime(2020, 1, 1, row % 24, tzinfo=UTC) for row in places], pa.timestamp("us", "UTC")),
        "tags": pa.array([None if row % 7 == 0 else [f"t{row}", None] for row in places]),
        "origin": pa.array([{"page": row, "title": None if row % 3 else "ä"} for row in places]),
        "bytes": pa.array([bytes([row % 256]) for row in places], pa.binary()),
    }
    for name, values in extras.items():
        table = table.append_column(name, values)
    return table


def by_the_command(bundle: Path, pairs: Path, output: Path) -> pa.Table:
    """`pairs` scored by the job that `pairscore score` runs."""
    run_job(JobOptions(bundle=str(bundle), inputs=(str(pairs),), output=str(output), on_null="null"))
    return pq.read_table(output)


def assert_same(scored: pa.Table, expected: pa.Table) -> None:
    """The same rows, columns and nulls, in whatever order they came; scores within 1e-6."""
    scored, expected = (table.sort_by("id") for table in (scored, expected))
    assert scored.schema.names == expected.schema.names
    kept = [name for name in expected.schema.names if name != "score"]
    assert scored.select(kept).to_pylist() == expected.select(kept).to_pylist()
    assert scored["score"].is_valid().equals(expected["score"].is_valid())
    ours, theirs = (table["score"].drop_null().to_numpy() for table in (scored, expected))
    assert len(np.unique(theirs)) > len(theirs) // 2  # or the comparison would say nothing
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def example(name: str) -> Any:
    """The `main` of an example script."""
    return runpy.run_path(str(ROOT / "examples" / name))["main"]
