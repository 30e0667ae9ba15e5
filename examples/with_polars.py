"""Score with Polars: a lazy query streams through the scorer and into Parquet; memory stays bounded.

python examples/with_polars.py out/bundle examples/claims.parquet out/polars.parquet
"""

import sys

import polars as pl
import pyarrow.parquet as pq

from pairscore import Scorer


def main(bundle: str, pairs: str, output: str) -> None:
    """Write the pairs about climate with a score column to the file `output`."""
    query = pl.scan_parquet(pairs).filter(pl.col("topic") == "climate")
    scored = Scorer.from_pretrained(bundle).score_batches(query.collect_batches())
    with scored, pq.ParquetWriter(output, scored.schema) as writer:
        for batch in scored:
            writer.write_batch(batch)
    # What fits into memory is shorter: pl.DataFrame(scorer.score_batches(frame))


if __name__ == "__main__":
    main(*sys.argv[1:])
