"""Time and memory by the number of pairs and by their length, as whole jobs from Parquet to Parquet.

    python -m pairscore.benchmarks.studies.scaling --checkpoint models/climate-claims-minilm-l6 --layers 1 \
        --pairs ../shared/climate-fever/train.parquet --output benchmarks/results/scaling.json

Every point is a `pairscore score` in a process of its own: a million pairs as Python tuples would take more memory than
scoring them. Pairs are made: a claim and a stretch of the evidence's words, as many as give the wanted tokens.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from pairscore.benchmarks.environment import environment
from pairscore.benchmarks.loaders import Pairs
from pairscore.benchmarks.studies.large_jobs import keep_layers
from pairscore.export.bundle import export_bundle
from pairscore.runtime.bundle.manifest import Bundle, sha256
from pairscore.runtime.pairs_file import read_pairs

COUNTS = (1_000, 10_000, 100_000, 1_000_000)
LENGTHS = (32, 64, 128, 256, 512)
ROWS_A_FILE = 50_000
# A pair's tokens lie within this share of the mean, where the model takes so many.
SPREAD = 0.25


def main() -> None:
    """Measure every point and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--layers", type=int, default=1, help="keep only the first layers of the checkpoint")
    parser.add_argument("--pairs", required=True, type=Path, help="Parquet with columns claim and evidence")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="numbers of the shortest pairs")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="mean tokens of a pair")
    parser.add_argument("--by-length", type=int, default=3000, help="pairs of each length")
    parser.add_argument("--output", required=True, type=Path)
    options = parser.parse_args()
    shortest = min(options.lengths)
    points = [(count, shortest) for count in options.counts]
    points += [(options.by_length, length) for length in options.lengths]
    texts = read_pairs(options.pairs, "claim", "evidence")
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, bundle, data = (Path(folder) / name for name in ("checkpoint", "bundle", "data"))
        keep_layers(options.checkpoint, checkpoint, options.layers)
        export_bundle(str(checkpoint), bundle)
        for place, (count, length) in enumerate(points):
            write_made(texts, bundle, count, length, data / str(place))
            point = measure(bundle, data / str(place), Path(folder) / f"scored-{place}")
            print(
                f"{point['pairs']:>9,} x {point['mean_tokens']:.0f} tokens: {point['pairs_per_second']:.0f} pairs/s, "
                f"{point['peak_memory_bytes'] / 2**30:.2f} GiB"
            )
            measured.append(point)
    result = {
        "environment": environment(),
        "checkpoint": options.checkpoint.name,
        "layers": options.layers,
        "data": {"file": options.pairs.name, "sha256": sha256(options.pairs)},
        "points": measured,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")


def write_made(texts: Pairs, bundle: Path, count: int, length: int, folder: Path) -> None:
    """Parquet files of `count` different pairs with about `length` tokens on average, special tokens included.

    Raises ValueError when the texts do not make so many.
    """
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    special = tokenizer.num_special_tokens_to_add(True)
    claims = _beginnings(tokenizer, [claim for claim, _ in texts], length // 2)
    sizes = _token_counts(tokenizer, claims)
    words = " ".join(dict.fromkeys(evidence for _, evidence in texts)).split()
    rounds = -(-count // max(1, len(claims)))  # how often every claim is taken
    step = len(words) // max(1, rounds)
    if not claims or not step:
        raise ValueError(f"the texts make fewer than {count:,} different pairs of {length} tokens")
    words += words  # a stretch may run over the end
    tokens = _token_counts(tokenizer, words)
    ends = np.array([0, *accumulate(tokens[word] for word in words)])
    # Where the model takes no more tokens than the mean, every pair has as many.
    spread = SPREAD if length * (1 + SPREAD) <= (Bundle.open(bundle).manifest.max_length or length) else 0
    folder.mkdir(parents=True)
    for start in range(0, count, ROWS_A_FILE):
        chosen: list[str] = []
        made: list[str] = []
        for row in range(start, min(start + ROWS_A_FILE, count)):
            claim, first = claims[row % len(claims)], row // len(claims) * step
            share = row * 0.618 % 1  # spread evenly, the same every time
            wanted = length * (1 - spread + 2 * spread * share) - special - sizes[claim] - 0.5
            last = max(first + 1, int(np.searchsorted(ends, ends[first] + wanted)))
            chosen.append(claim)
            made.append(" ".join(words[first:last]))
        table = pa.table({"claim": chosen, "evidence": made})
        pq.write_table(table, folder / f"pairs-{start // ROWS_A_FILE:04d}.parquet")


def measure(bundle: Path, data: Path, output: Path) -> dict[str, Any]:
    """One point, by the summary of `pairscore score`. Loading is outside of its seconds, not of its memory."""
    command = ["score", bundle, data, "--output", output, "--engine", "onnxruntime", "--no-tuning", "--json", "--quiet"]
    scored = subprocess.run(
        [sys.executable, "-m", "pairscore.cli", *map(str, command)], stdout=subprocess.PIPE, text=True, check=True
    )
    summary = json.loads(scored.stdout)
    return {
        "pairs": summary["pairs"],
        "mean_tokens": summary["tokens"] / summary["pairs"],
        "seconds": summary["seconds"],
        "pairs_per_second": summary["pairs_per_second"],
        "tokens_per_second": summary["tokens_per_second"],
        "peak_memory_bytes": summary["peak_memory_bytes"],
        "input_bytes": sum(path.stat().st_size for path in data.glob("*.parquet")),
        "seconds_by_stage": summary["seconds_by_stage"],
    }


def _beginnings(tokenizer: Tokenizer, texts: Sequence[str], most: int) -> list[str]:
    """The first words of each text that have at most so many tokens together, without repetitions."""
    tokens = _token_counts(tokenizer, [word for text in texts for word in text.split()])
    found = []
    for text in dict.fromkeys(texts):
        words = text.split()
        fitting = int(np.searchsorted(np.cumsum([tokens[word] for word in words]), most, side="right"))
        found.append(" ".join(words[:fitting]))
    return [text for text in dict.fromkeys(found) if text]


def _token_counts(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, int]:
    """Tokens of each different text by itself, special tokens excluded."""
    different = list(dict.fromkeys(texts))
    encodings = tokenizer.encode_batch(different, add_special_tokens=False)
    return {text: len(encoding.ids) for text, encoding in zip(different, encodings, strict=True)}


if __name__ == "__main__":
    main()
