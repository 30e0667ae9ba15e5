"""Scoring as a function of DuckDB's SQL.

    register(connection, "bundle")
    connection.sql("SELECT claim, score(claim, evidence) FROM 'pairs.parquet'")

DuckDB hands over 2,048 rows at a time, and only these are sorted by length together. For a whole table, use
`Scorer.score_batches(relation)`: it sorts 65,536 rows at a time, and reads while it computes.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Unpack, cast

import pyarrow as pa

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.integrations.options import FunctionOptions, split
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.stream.columns import LongOptions

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def register(
    connection: "DuckDBPyConnection", bundle: str | Path, *, name: str = "score", **options: Unpack[FunctionOptions]
) -> None:
    """Make the SQL function `name(claim, evidence)`: FLOAT, or a STRUCT of a FLOAT a label where there are several.

    A NULL text gives NULL. options: those of `Scorer.from_pretrained`, whose errors this raises, and `long_evidence`
    with `overlap`, `combine` and `rank_by`. The bundle stays open until the connection is closed or
    `connection.remove_function(name)`.
    """
    import duckdb
    from duckdb.func import ARROW

    known = "SELECT 1 FROM duckdb_functions() WHERE function_name = ?"
    if connection.cursor().execute(known, [name.lower()]).fetchall():
        raise PairscoreError(
            f"an SQL function {name!r} exists already: give another name, or remove_function({name!r})"
        )
    opening, others = split(options)
    long = cast(LongOptions, others)
    scorer = Scorer.from_pretrained(bundle, **opening)
    kind = duckdb.sqltype("FLOAT")
    several = len(scorer.labels) > 1
    if several:
        kind = duckdb.struct_type(dict.fromkeys(scorer.labels, kind))

    def scores(claims: pa.ChunkedArray, evidence: pa.ChunkedArray) -> pa.Array:
        table = scorer.score_table(pa.table([claims, evidence], ["claim", "evidence"]), on_null="null", **long)
        columns = [column.combine_chunks() for column in table.columns[2:]]
        return pa.StructArray.from_arrays(columns, list(scorer.labels)) if several else columns[0]

    nothing = pa.chunked_array([], pa.string())
    scores(nothing, nothing)  # an option that does not fit shows here
    connection.create_function(name, scores, ["VARCHAR", "VARCHAR"], kind, type=ARROW)
