"""Everything that is to be known of a GPU, by one command that leaves one JSON.

    pairscore export models/climate-claims-minilm-l6 out/bundle
    pairscore export models/climate-claims-minilm-l6 out/bundle --precision fp16
    python -m pairscore.benchmarks.studies.gpu --bundle out/bundle --checkpoint models/climate-claims-minilm-l6 \
        --pairs ../shared/climate-fever/train.parquet --parity-pairs ../shared/climate-fever/dev.parquet \
        --output benchmarks/results/gpu.json

The sections run one after the other, and the JSON is written after each, so that a run that is cut off leaves what it
had. A section that fails says why in its place. `--device cpu` with small numbers rehearses all of it without a GPU.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pairscore import Scorer
from pairscore.benchmarks.environment import environment
from pairscore.benchmarks.loaders import Pairs
from pairscore.benchmarks.studies import gpu_torch
from pairscore.benchmarks.studies.attention_kernels import attention_kernels
from pairscore.benchmarks.studies.crossed import crossed_pairs, write_crossed
from pairscore.benchmarks.work import activation_bytes, operations
from pairscore.runtime.bundle.manifest import Bundle, sha256
from pairscore.runtime.engines.tuned import forget, remember
from pairscore.runtime.pairs_file import read_pairs
from pairscore.runtime.stream.batching import plan_batches
from pairscore.runtime.tuning import tune

# Dollars an hour, assumed: put your provider's in their place with --gpu-price and --core-price.
GPU_HOUR = 3.50
CORE_HOUR = 0.05
_BYTES = {"fp32": 4, "fp16": 2}


@dataclass(frozen=True)
class Context:
    """What every section gets. `rows`: of the end-to-end job. `sample`: pairs of the other sections.

    `seconds`: for tuning. `so_far`: what the sections before have found, by name.
    """

    bundle: Path
    checkpoint: Path
    pairs_file: Path
    parity_file: Path
    device: str
    precision: str
    rows: int
    sample: int
    seconds: float
    repeats: int
    so_far: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """The model's configuration."""
        config: dict[str, Any] = json.loads((self.bundle / "config.json").read_text())
        return config


def main() -> None:
    """Run the sections and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", required=True, type=Path, help="with a variant of --precision")
    parser.add_argument("--checkpoint", required=True, type=Path, help="what the bundle was exported from")
    parser.add_argument("--pairs", required=True, type=Path, help="Parquet with columns claim and evidence")
    parser.add_argument("--parity-pairs", type=Path, help="the same, for the comparison with PyTorch  [--pairs]")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--rows", type=int, default=1_000_000, help="pairs of the end-to-end job")
    parser.add_argument("--sample", type=int, default=20_000, help="pairs of the other sections")
    parser.add_argument("--seconds", type=float, default=60.0, help="for tuning")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gpu-price", type=float, default=GPU_HOUR, help="dollars an hour of the GPU machine")
    parser.add_argument("--core-price", type=float, default=CORE_HOUR, help="dollars an hour of a CPU core")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    options = parser.parse_args()
    manifest = Bundle.open(options.bundle).manifest
    result: dict[str, Any] = {
        "environment": environment(),
        "checkpoint": manifest.source.name,
        "device": options.device,
        "precision": options.precision,
        "data": {"file": options.pairs.name, "sha256": sha256(options.pairs), "rows": options.rows},
        "prices": {"gpu_hour": options.gpu_price, "core_hour": options.core_price},
    }
    context = Context(
        options.bundle,
        options.checkpoint,
        options.pairs,
        options.parity_pairs or options.pairs,
        options.device,
        options.precision,
        options.rows,
        options.sample,
        options.seconds,
        options.repeats,
        result,
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for name in options.sections:
        started = time.perf_counter()
        try:
            result[name] = SECTIONS[name](context)
        except Exception as error:  # the sections after it have to run whatever broke here
            result[name] = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"}
        result[name]["section_seconds"] = round(time.perf_counter() - started, 2)
        options.output.write_text(json.dumps(result, indent=2) + "\n")
        print(f"{name}: {result[name].get('error', 'done')} ({result[name]['section_seconds']:.0f} s)", flush=True)
    if failed := [name for name in options.sections if "error" in result[name]]:
        raise SystemExit(f"failed: {', '.join(failed)}; see {options.output}")


def limits(context: Context) -> dict[str, Any]:
    """What the device can do: matrix products of the model's shapes, and copies within its memory."""
    return gpu_torch.limits(context.device, context.config)


def parity(context: Context) -> dict[str, Any]:
    """How far every precision is from PyTorch in fp32 on the CPU, on pairs of the file and on long ones."""
    pairs = read_pairs(context.parity_file, "claim", "evidence", min(context.sample, 5000))
    return gpu_torch.parity(context.bundle, context.checkpoint, context.device, pairs)


def attention(context: Context) -> dict[str, Any]:
    """The kernels that ONNX Runtime says it computes attention with."""
    return {"kernels": attention_kernels(context.bundle, context.precision, context.device)}


def tuning(context: Context) -> dict[str, Any]:
    """What `pairscore tune` finds; remembered, as a user would, so that the job below scores with it."""
    kind = context.device.partition(":")[0]
    pairs = _sample(context)
    results, default, choice = tune(context.bundle, context.precision, pairs, context.seconds, context.device)
    digest = Bundle.open(context.bundle).digest(context.precision)
    if choice:
        remember(digest, choice)
    else:
        forget(digest, kind)
    return {
        "results": [asdict(each) for each in results],
        "default": asdict(default),
        "choice": asdict(choice) if choice else None,
    }


def job(context: Context) -> dict[str, Any]:
    """`pairscore score`, Parquet to Parquet, in a process of its own, several times; the fastest and all others."""
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "pairs"
        write_crossed(context.pairs_file, data, context.rows, files=1, row_group=131_072)
        for repeat in range(context.repeats):
            output = Path(folder) / f"scored-{repeat}"
            command = [sys.executable, "-m", "pairscore.cli", "score", data, "--output", output, "--json"]
            command[4:4] = [context.bundle]
            command += ["--device", context.device, "--precision", context.precision]
            started = time.perf_counter()
            with _Watch() as watch:
                done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)
            seconds = time.perf_counter() - started
            if done.returncode:
                raise RuntimeError(f"pairscore score ended with {done.returncode}: {done.stderr.strip()[-300:]}")
            rows = sum(pq.read_metadata(path).num_rows for path in output.glob("part-*.parquet"))
            if rows != context.rows:
                raise RuntimeError(f"wrote {rows} rows instead of {context.rows}")
            summary = json.loads(done.stdout)
            runs.append({**summary, "output": output.name, "process_seconds": seconds, "gpu": watch.figures()})
    return {"runs": runs, "pairs_per_second": max(run["pairs_per_second"] for run in runs)}


def engine(context: Context) -> dict[str, Any]:
    """The engine alone: batches that are assembled before the clock starts, as the tuned engine takes them."""
    scorer = Scorer.from_pretrained(context.bundle, precision=context.precision, device=context.device)
    pairs = _sample(context)
    tokenized = scorer.tokenize(pairs)
    batches = [tokenized.batch(rows) for rows in plan_batches(tokenized.lengths, scorer.engine.token_budget)]
    seconds = []
    with ThreadPoolExecutor(scorer.engine.callers) as callers:
        for _ in range(context.repeats + 1):  # the first warms up
            started = time.perf_counter()
            list(callers.map(scorer.engine.run, batches))
            seconds.append(time.perf_counter() - started)
    typical = statistics.median(seconds[1:])
    lengths = tokenized.lengths.tolist()
    work = operations(context.config, lengths, first_row_only=True)
    moved = activation_bytes(context.config, lengths, _BYTES[context.precision])
    found: dict[str, Any] = {
        "pairs": len(tokenized),
        "batches": len(batches),
        "mean_tokens": statistics.fmean(lengths),
        "token_budget": scorer.engine.token_budget,
        "callers": scorer.engine.callers,
        "tuned": str(scorer.tuned) if scorer.tuned else None,
        "seconds": seconds[1:],
        "pairs_per_second": len(tokenized) / typical,
    }
    top = context.so_far.get("limits", {})
    if work is not None and "matrix_flops_per_second" in top:
        found["matrix_share"] = work / typical / top["matrix_flops_per_second"][context.precision]
    if moved is not None and "bytes_per_second" in top:
        found["bandwidth_share"] = moved / typical / top["bytes_per_second"]
    return found


def peers(context: Context) -> dict[str, Any]:
    """sentence-transformers in every precision, attention and batch size that it offers, and ours, in one run."""
    return gpu_torch.peers(
        context.bundle, context.checkpoint, context.device, context.precision, _sample(context), repeats=context.repeats
    )


def profile(context: Context) -> dict[str, Any]:
    """Where the device's time goes while the product scores pairs: by kernel."""
    return gpu_torch.profile(context.bundle, context.device, context.precision, _sample(context))


def _sample(context: Context) -> Pairs:
    return crossed_pairs(context.pairs_file, context.sample)


class _Watch:
    """Reads NVIDIA's own figures while a job runs: share of time in which a kernel ran, and memory."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "_Watch":
        query = "--query-gpu=utilization.gpu,memory.used"
        with suppress(OSError):  # no driver, no figures
            self._process = subprocess.Popen(
                ["nvidia-smi", query, "--format=csv,noheader,nounits", "-lms", "100"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        return self

    def _read(self) -> None:
        if self._process and self._process.stdout:
            self._lines.extend(self._process.stdout)

    def __exit__(self, *error: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()
            self._reader.join(timeout=10)

    def figures(self) -> dict[str, Any] | None:
        """Percent of the samples' time and MiB, of the first GPU; None without a driver."""
        samples = [line.split(",") for line in self._lines if line.count(",") == 1]
        numbers = [(float(busy), float(memory)) for busy, memory in samples if busy.strip().replace(".", "").isdigit()]
        if not numbers:
            return None
        return {"utilization": [busy for busy, _ in numbers], "memory_mib": max(memory for _, memory in numbers)}


SECTIONS: dict[str, Callable[[Context], dict[str, Any]]] = {
    "limits": limits,
    "attention": attention,
    "parity": parity,
    "tuning": tuning,
    "job": job,
    "engine": engine,
    "peers": peers,
    "profile": profile,
}

if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    main()
