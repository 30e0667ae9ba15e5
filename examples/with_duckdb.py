"""Score with DuckDB, both ways: a function in SQL for a few rows, a stream for a whole table.

python examples/with_duckdb.py out/bundle examples/claims.parquet out/duckdb.parquet
"""

import sys

import duckdb
import pyarrow as pa

from pairscore import Scorer
from pairscore.integrations.duckdb import register


def main(bundle: str, pairs: str, output: str) -> None:
    """Print the best evidence for a claim; write `pairs` with a score column to the file `output`."""
    connection = duckdb.connect()
    register(connection, bundle)
    best = connection.execute(
        """
        SELECT evidence, score(claim, evidence) AS score FROM read_parquet($pairs)
        WHERE claim = (SELECT min(claim) FROM read_parquet($pairs)) ORDER BY score DESC LIMIT 3
        """,
        {"pairs": pairs},
    )
    for evidence, score in best.fetchall():
        print(f"{score:.4f}  {evidence}")  # noqa: T201

    relation = connection.read_parquet(pairs)
    scored = pa.RecordBatchReader.from_stream(Scorer.from_pretrained(bundle).score_batches(relation))
    duckdb.from_arrow(scored).write_parquet(output)  # DuckDB draws rows as they are scored


if __name__ == "__main__":
    main(*sys.argv[1:])
