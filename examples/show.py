"""Print the best and the worst evidence of some claims from a scored Parquet file.

python examples/show.py out/scored.parquet
"""

import sys

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

CLAIMS_SHOWN = 6


def show(scored: pa.Table) -> None:
    """scored: columns `claim`, `evidence` and `score`."""
    best_first = scored.sort_by([("score", "descending")]).to_pylist()
    claims = list(dict.fromkeys(row["claim"] for row in scored.select(["claim"]).to_pylist()))
    table = Table("claim", "", "evidence", "score", title="Best and worst evidence", show_lines=True)
    for claim in claims[:: max(1, len(claims) // CLAIMS_SHOWN)][:CLAIMS_SHOWN]:
        rows = [row for row in best_first if row["claim"] == claim]
        for label, row in (("best", rows[0]), ("worst", rows[-1])):
            table.add_row(claim if label == "best" else "", label, row["evidence"], f"{row['score']:.4f}")
    Console().print(table)


if __name__ == "__main__":
    show(pq.read_table(sys.argv[1], columns=["claim", "evidence", "score"]))
