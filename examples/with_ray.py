"""Score Parquet with Ray Data.

    python examples/with_ray.py out/bundle examples/claims.parquet out/ray

On a cluster: `ray job submit`, with a bundle path that every node has, and input and output where every node reaches
them (s3://...).
"""

import sys
from pathlib import Path

import ray

from pairscore.integrations.ray import score


def main(bundle: str, pairs: str, output: str) -> None:
    """Write `pairs` with a score column into the folder `output`, one file a block."""
    # Absolute, since an actor runs in a directory of its own.
    scored = score(ray.data.read_parquet(pairs), str(Path(bundle).absolute()), num_cpus=1)
    scored.write_parquet(str(Path(output).absolute()))


if __name__ == "__main__":
    main(*sys.argv[1:])
