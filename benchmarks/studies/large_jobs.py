"""Memory and time outside the engine of `pairscore score` over many pairs, made by crossing texts.

    python -m pairscore.benchmarks.studies.large_jobs --checkpoint models/climate-claims-minilm-l6 --layers 1 \
        --pairs ../shared/climate-fever/train.parquet --rows 1000000 --files 20 --output scale.json

`--layers` keeps the first layers of the checkpoint only: what is measured here is the host's work, which is the same
for every model, and a million pairs through all six layers take hours on two cores.

Every claim of the pairs file meets every piece of evidence until there are enough pairs, none of them twice.
The command runs in a process of its own whose resident memory is read five times a second.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from pairscore.benchmarks.environment import environment
from pairscore.benchmarks.studies.crossed import write_crossed
from pairscore.export.bundle import export_bundle
from pairscore.runtime.bundle.manifest import sha256

SAMPLE_SECONDS = 0.2
MAX_PEAK_BYTES = 1.5 * 2**30
MAX_SHARE_OUTSIDE_ENGINE = 0.10


def main() -> None:
    """Make the input, score it, write the JSON; exit with 1 when a bar that applies is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--layers", type=int, help="keep only the first layers of the checkpoint")
    parser.add_argument("--pairs", required=True, type=Path, help="Parquet with columns claim and evidence")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--row-group", type=int, default=1_000_000, help="rows of a row group")
    parser.add_argument("--limit", type=int, help="score only the first rows of what was made")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_crossed(options.pairs, data, options.rows, options.files, options.row_group)
        checkpoint = options.checkpoint
        if options.layers is not None:
            checkpoint = Path(folder) / checkpoint.name
            keep_layers(options.checkpoint, checkpoint, options.layers)
        bundle = Path(folder) / "bundle"
        export_bundle(str(checkpoint), bundle)
        limit = ["--limit", str(options.limit)] if options.limit else []
        summary, samples = score(bundle, data, Path(folder) / "out", limit)
        rows = sum(pq.read_metadata(path).num_rows for path in (Path(folder) / "out").glob("part-*.parquet"))
    expected = options.limit or options.rows
    if rows != expected:
        raise SystemExit(f"wrote {rows} rows instead of {expected}")
    result = {
        "environment": environment(),
        "checkpoint": options.checkpoint.name,
        "layers": json.loads((options.checkpoint / "config.json").read_text())["num_hidden_layers"]
        if options.layers is None
        else options.layers,
        "data": {
            "file": options.pairs.name,
            "sha256": sha256(options.pairs),
            "rows": rows,
            "files": options.files,
            "row_group_rows": min(options.row_group, options.rows // options.files),
        },
        "summary": summary,
        "peak_bytes_by_fifth": peaks(samples, 5),
    }
    print(json.dumps(result, indent=2))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    peak = max(memory for _, memory in samples)
    if peak > MAX_PEAK_BYTES:
        raise SystemExit(f"missed: peak {peak / 2**30:.2f} GiB")
    if summary["share_outside_engine"] > MAX_SHARE_OUTSIDE_ENGINE:
        print(f"outside the engine for {summary['share_outside_engine']:.1%} of the run, more than promised")


def keep_layers(checkpoint: Path, target: Path, layers: int) -> None:
    """Copy a checkpoint without its encoder layers from `layers` on."""
    shutil.copytree(checkpoint, target)
    config = json.loads((checkpoint / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
    weights = load_file(checkpoint / "model.safetensors")
    numbers = {name: re.search(r"\.layer\.(\d+)\.", name) for name in weights}
    kept = {name: weights[name] for name, found in numbers.items() if found is None or int(found[1]) < layers}
    save_file(kept, target / "model.safetensors", metadata={"format": "pt"})


def score(bundle: Path, data: Path, output: Path, more: list[str]) -> tuple[dict[str, Any], list[tuple[float, int]]]:
    """The command's summary, and (seconds, resident bytes) of its process over time."""
    command = [sys.executable, "-m", "pairscore.cli", "score", bundle, data, "--output", output, "--json", *more]
    started = time.monotonic()
    samples: list[tuple[float, int]] = []
    with subprocess.Popen([str(each) for each in command], stdout=subprocess.PIPE, text=True) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                samples.append((time.monotonic() - started, watched.memory_info().rss))
            except psutil.NoSuchProcess:
                break
            time.sleep(SAMPLE_SECONDS)
        text = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"pairscore score ended with {process.returncode}")
    summary: dict[str, Any] = json.loads(text)
    return {**summary, "output": output.name}, samples


def peaks(samples: list[tuple[float, int]], shares: int) -> list[int]:
    """The largest resident size in each of `shares` equal parts of the samples: flat where memory does not grow."""
    parts = np.array_split([memory for _, memory in samples], shares)
    return [int(part.max(initial=0)) for part in parts]


if __name__ == "__main__":
    main()
