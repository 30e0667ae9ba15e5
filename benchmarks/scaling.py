"""Time and memory by the number of pairs and by their length.

    python -m pairscore.benchmarks.scaling --checkpoint models/climate-claims-minilm-l6 --layers 1 \
        --pairs ../shared/climate-fever/train.parquet --output benchmarks/results/scaling.json

Every point is a process of its own that scores pairs in memory; `scale.py` measures whole jobs of a million pairs.
Pairs of a length are made by joining evidence until claim and evidence have about so many tokens.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from pairscore.benchmarks.environment import environment
from pairscore.benchmarks.loaders import Files, Pairs
from pairscore.benchmarks.scale import keep_layers
from pairscore.benchmarks.systems import System
from pairscore.benchmarks.throughput import Worker, Workers, token_lengths
from pairscore.export.bundle import export_bundle
from pairscore.export.pairs_file import read_pairs
from pairscore.runtime.bundle import sha256

LENGTHS = (32, 64, 128, 256, 512)
SYSTEM = System(
    "pairscore fp32", "fp32", True, "pairscore", {"precision": "fp32", "engine": "onnxruntime", "device": "cpu"}
)


def main() -> None:
    """Measure every point and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--layers", type=int, default=1, help="keep only the first layers of the checkpoint")
    parser.add_argument("--pairs", required=True, type=Path, help="Parquet with columns claim and evidence")
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000], help="numbers of pairs at 64 tokens")
    parser.add_argument("--by-length", type=int, default=1000, help="pairs of each length")
    parser.add_argument("--output", required=True, type=Path)
    options = parser.parse_args()
    texts = read_pairs(options.pairs, "claim", "evidence")
    points = [(count, 64) for count in options.counts] + [(options.by_length, length) for length in LENGTHS]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, bundle = Path(folder) / "checkpoint", Path(folder) / "bundle"
        keep_layers(options.checkpoint, checkpoint, options.layers)
        export_bundle(str(checkpoint), bundle)
        measured = [
            measure(bundle, made_pairs(texts, count, length, bundle)) for count, length in dict.fromkeys(points)
        ]
    result = {
        "environment": environment(),
        "checkpoint": options.checkpoint.name,
        "layers": options.layers,
        "data": {"file": options.pairs.name, "sha256": sha256(options.pairs)},
        "points": measured,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    for point in measured:
        print(
            f"{point['pairs']:>9,} x {point['mean_tokens']:.0f} tokens: {point['pairs_per_second']:.0f} pairs/s, "
            f"{point['peak_memory_bytes'] / 2**30:.2f} GiB"
        )


def made_pairs(texts: Pairs, count: int, length: int, bundle: Path) -> Pairs:
    """`count` different pairs of about `length` tokens: claims crossed with joined pieces of evidence."""
    tokens = token_lengths(bundle / "tokenizer.json", texts)
    needed = max(1, round(length / statistics.fmean(tokens)))
    short = [text for text, own in zip(texts, tokens, strict=True) if needed > 1 or own <= length * 1.5] or texts
    claims = list(dict.fromkeys(claim for claim, _ in short))
    evidence = list(dict.fromkeys(text for _, text in short))
    made: Pairs = []
    for row in range(count):
        first = row // len(claims) + row
        made.append(
            (
                claims[row % len(claims)],
                " ".join(evidence[(first * needed + more) % len(evidence)] for more in range(needed)),
            )
        )
    return made


def measure(bundle: Path, pairs: Pairs) -> dict[str, Any]:
    """One point: its own process, loaded and warm."""
    lengths = token_lengths(bundle / "tokenizer.json", pairs, 512)
    with Workers(Files("", str(bundle), "", ""), pairs) as workers:
        worker = workers.start(SYSTEM)
        run = worker.run() if isinstance(worker, Worker) else None
        if run is None:
            raise SystemExit(f"{SYSTEM.name} did not run: {worker.error if isinstance(worker, Worker) else worker}")
    return {
        "pairs": len(pairs),
        "mean_tokens": statistics.fmean(lengths),
        "seconds": run.seconds,
        "pairs_per_second": len(pairs) / run.seconds,
        "tokens_per_second": sum(lengths) / run.seconds,
        "peak_memory_bytes": run.peak_memory_bytes,
    }


if __name__ == "__main__":
    main()
