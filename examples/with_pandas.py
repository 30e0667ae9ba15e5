"""Score a pandas frame.

python examples/with_pandas.py out/bundle examples/claims.parquet out/pandas.parquet
"""

import sys

import pandas as pd

from pairscore import Scorer


def main(bundle: str, pairs: str, output: str) -> None:
    """Write the pairs with a score column, best first, to the file `output`."""
    frame = pd.read_parquet(pairs)
    frame["score"] = Scorer.from_pretrained(bundle).score_batches(frame).read_all()["score"].to_numpy()
    frame.sort_values("score", ascending=False).to_parquet(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
