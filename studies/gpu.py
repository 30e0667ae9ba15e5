"""What a GPU can do, and what the engine, the whole job and other libraries make of it: one command, one JSON.

    python -m studies.gpu --bundle out/bundle --checkpoint models/climate-claims-minilm-l6 \
        --pairs ../shared/climate-fever/train.parquet --judged ../shared/climate-fever/dev.parquet \
        --output benchmarks/results/gpu.json

The bundle needs the variant of --precision; its other variants are measured beside it, on this machine's CPU too.
`pairscore tune --device cuda` finds settings, which are used here once they are known.

The JSON is written after each section, so that a run that is cut off leaves what it had. A section that fails says why
in its place. `--device cpu` with small numbers tries it without a GPU.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pairscore import Scorer
from pairscore.benchmarks.loaders import Files, Pairs
from pairscore.benchmarks.samples import long_pairs
from pairscore.benchmarks.systems import REFERENCE, own_systems, peers
from pairscore.benchmarks.throughput import Turns, Worker, Workers, figures, promise_of
from pairscore.benchmarks.work import activation_bytes, matrix_shapes, operations
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.pairs_file import read_pairs
from pairscore.runtime.stream.batching import plan_batches
from studies.harness import crossed_pairs, score, study_options, study_result, write_crossed, write_result

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_BYTES = {"fp32": 4, "fp16": 2}
_SECONDS = 0.5
# Of a file, and of a part of the result: what is scored together. The more pairs of a length there are, the fuller are
# the batches.
_ROWS_A_FILE = 200_000
# A system's timed run takes as many of the sample's pairs as last about so long.
_SECONDS_A_RUN = 4
_LONG_PAIRS = 400
_SECONDS_A_SAMPLE = 0.1
Found = dict[str, Any]


def main() -> None:
    """Run the sections and write the JSON."""
    parser = study_options(__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--precision", default="fp16", help="a variant of --bundle")
    parser.add_argument("--judged", type=Path, required=True, help="Parquet whose pairs are compared with PyTorch's")
    parser.add_argument("--sample", type=int, default=100_000, help="pairs that are scored in memory")
    parser.add_argument("--job", type=int, default=1_000_000, help="pairs that are scored from Parquet to Parquet")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", type=Path, help="folder of the Pythons of other libraries: theirs in int8 and bf16")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    options = parser.parse_args()
    data = {"sample": options.sample}
    told = {"device": options.device, "precision": options.precision, "judged": options.judged.name}
    result = study_result(options, data, **told)
    for name in options.sections:
        try:
            result[name] = SECTIONS[name](options, result)
        except Exception as error:  # the sections after it have to run whatever broke here
            result[name] = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"}
        write_result(options.output, result)
        print(f"{name}: {result[name].get('error', 'done')}", flush=True)
    if failed := [name for name in options.sections if "error" in result[name]]:
        raise SystemExit(f"failed: {', '.join(failed)}; see {options.output}")


def limits(options: argparse.Namespace, _: Found) -> Found:
    """Operations a second in products of the model's shapes, by type, and bytes a second read and written by a copy."""
    sizes = matrix_shapes(_config(options))
    if sizes is None:
        raise ValueError("the configuration does not tell the model's shapes")
    on_gpu = options.device != "cpu"
    rows, copied = (32_768, 2**30) if on_gpu else (512, 2**24)
    torch.backends.cuda.matmul.allow_tf32 = False
    rates = {}
    for name, dtype in _DTYPES.items() if on_gpu else [("fp32", torch.float32), ("fp16", torch.float32)]:
        operands = [torch.rand(rows, size, device=options.device, dtype=dtype) for size in sizes]
        weights = [torch.rand(a, b, device=options.device, dtype=dtype) for a, b in (sizes, sizes[::-1])]
        products = [partial(torch.mm, left, right) for left, right in zip(operands, weights, strict=True)]
        rates[name] = 2 * rows * sizes[0] * sizes[1] * max(_rate(each, options.device) for each in products)
    source = torch.empty(copied, dtype=torch.uint8, device=options.device)
    moved = 2 * copied * _rate(partial(torch.empty_like(source).copy_, source), options.device)
    found: Found = {"matrix_flops_per_second": rates, "bytes_per_second": moved, "rows": rows}
    if on_gpu:
        properties = torch.cuda.get_device_properties(options.device)
        found |= {"name": properties.name, "memory_bytes": properties.total_memory}
    return found


def _rate(work: Callable[[], Any], device: str) -> float:
    """Calls a second, the best of three."""

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize(device)

    best = 0.0
    for _ in range(3):
        work()
        wait()
        started, calls = time.perf_counter(), 0
        while time.perf_counter() - started < _SECONDS:
            for _ in range(10):
                work()
            calls += 10
            wait()
        best = max(best, calls / (time.perf_counter() - started))
    return best


def engine(options: argparse.Namespace, so_far: Found) -> Found:
    """The engine alone: batches that are assembled before the clock starts, as the tuned engine takes them."""
    scorer = Scorer.from_pretrained(options.bundle, precision=options.precision, device=options.device)
    pairs = crossed_pairs(options.pairs, options.sample)
    tokenized = scorer.tokenize(pairs)
    batches = [tokenized.batch(rows) for rows in plan_batches(tokenized.lengths, scorer.engine.token_budget)]
    seconds = []
    with ThreadPoolExecutor(scorer.engine.callers) as callers:
        for _ in range(options.repeats + 1):  # the first warms up
            started = time.perf_counter()
            list(callers.map(scorer.engine.run, batches))
            seconds.append(time.perf_counter() - started)
    typical = statistics.median(seconds[1:])
    lengths, config, top = tokenized.lengths.tolist(), _config(options), so_far.get("limits", {})
    found: Found = {
        "pairs": len(tokenized),
        "batches": len(batches),
        "mean_tokens": statistics.fmean(lengths),
        "token_budget": scorer.engine.token_budget,
        "callers": scorer.engine.callers,
        "tuned": str(scorer.tuned) if scorer.tuned else None,
        "seconds": seconds[1:],
        "pairs_per_second": len(tokenized) / typical,
    }
    work = operations(config, lengths, first_row_only=True)
    moved = activation_bytes(config, lengths, _BYTES[options.precision])
    if work and moved and "matrix_flops_per_second" in top:
        found["matrix_share"] = work / typical / top["matrix_flops_per_second"][options.precision]
        found["bandwidth_share"] = moved / typical / top["bytes_per_second"]
    return found


def job(options: argparse.Namespace, _: Found) -> Found:
    """`pairscore score` from Parquet to Parquet, and the share of its time in which the driver saw a kernel run."""
    with tempfile.TemporaryDirectory() as folder:
        data, output = Path(folder, "pairs"), Path(folder, "scored")
        write_crossed(options.pairs, data, options.job, -(-options.job // _ROWS_A_FILE), _ROWS_A_FILE)
        with tempfile.TemporaryFile("w+") as told:
            watching = _watch(told)
            try:
                where = "--precision", options.precision, "--device", options.device, "--part-rows", _ROWS_A_FILE
                summary = score(options.bundle, data, output, "--quiet", *where)
            finally:
                if watching:
                    watching.terminate()
                    watching.wait()
            told.seek(0)
            shares = [int(line) / 100 for line in told.read().split() if line.isdecimal()]
    during = last_seconds(shares, summary["seconds"])
    kept = (
        "pairs", "seconds", "pairs_per_second", "tokens_per_second", "peak_memory_bytes", "share_outside_engine",
        "engine_idle_share", "seconds_by_stage", "engine",
    )  # fmt: skip
    return {
        **{name: summary[name] for name in kept},
        "mean_tokens": summary["tokens"] / summary["pairs"],
        "driver_busy_share": statistics.fmean(during) if during else None,
        "driver_samples": during,
    }


def last_seconds(shares: Sequence[float], seconds: float) -> list[float]:
    """The samples of so many seconds up to the last kernel: the monitor saw the model being loaded too."""
    stop = 1 + max((place for place, share in enumerate(shares) if share), default=-1)
    return list(shares[max(0, stop - round(seconds / _SECONDS_A_SAMPLE)) : stop])


def _watch(output: Any) -> "subprocess.Popen[str] | None":
    """NVIDIA's own monitor, which writes the percentage of time with a kernel at work to `output`; None without it."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    command += ["-lms", str(round(1000 * _SECONDS_A_SAMPLE))]
    return subprocess.Popen(command, stdout=output, text=True)


def systems(options: argparse.Namespace, so_far: Found) -> Found:
    """Ours on the device and on the processor, and others beside them, from texts in memory to logits in memory.

    The reference of parity is the first: sentence-transformers in fp32 on the device, over the judged pairs and long
    ones. Each system runs by itself, so a slow moment of the machine meets one of them alone. The JSON is written
    after each.
    """
    manifest = Bundle.open(options.bundle).manifest
    sample = crossed_pairs(options.pairs, options.sample)
    judged = read_pairs(options.judged, "claim", "evidence")
    longer, made = long_pairs(options.bundle / "tokenizer.json", judged, _LONG_PAIRS)
    kind = options.device.partition(":")[0]
    theirs = [each for each in peers() if kind != "cpu" and each.arguments.get("device") == kind] + [REFERENCE]
    others = [each for each in peers() if options.peers and each.environment and each.tier in ("int8", "bf16")]
    slow = () if kind == "cpu" else (("fp16", "cpu"),)  # made for GPUs: a CPU takes minutes
    ours = [each for each in own_systems(manifest) if (each.tier, each.arguments["device"]) not in slow]
    told = {"pairs": len(longer), "made": made}
    found: Found = {"sample": len(sample), "judged": len(judged), "long": told, "systems": []}
    so_far["systems"] = found
    reference: dict[str, Turns] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = Files(str(options.checkpoint), str(options.bundle), folder, folder)
        Path(folder, "calibration.json").write_text(json.dumps(sample[:100]))
        for system in [*theirs, *ours, *others]:
            entry: Found = {"name": system.name, "tier": system.tier, "ours": system.ours}
            promise = promise_of(system, manifest)
            with Workers(files, sample, options.peers, more=[*judged, *longer]) as starting:
                worker = starting.start(system)
                turns = _turns(worker, options.repeats, sample, judged, longer) if isinstance(worker, Worker) else {}
                entry |= {"error": worker if isinstance(worker, str) else worker.error} if not turns else {}
            reference = reference or turns
            for name, pairs in (("crossed", sample), ("judged", judged), ("long", longer)) if turns else ():
                seconds = [run.seconds for run in turns[name].values()]
                scored = len(turns[name][0].logits)
                rate = scored / statistics.median(seconds)
                entry[name] = {"pairs": scored, "seconds": seconds, "pairs_per_second": rate}
                if name != "crossed":
                    compared = figures(
                        turns[name], reference[name], pairs, tokens=0, activation=manifest.activation, promise=promise
                    )
                    entry[name] |= {key: compared[key] for key in ("parity", "violations")}
            found["systems"].append(entry)
            write_result(options.output, so_far)
    return found


def _pairs_in(worker: Worker, seconds: float, most: int) -> int:
    """About how many pairs last so long, by runs over ever more of them; `most` where all take less."""
    count = min(16, most)
    while (run := worker.run(range(count))) is not None and run.seconds < seconds and count < most:
        count = min(most, max(count + 1, int(count * min(8, seconds / run.seconds))))
    return count


def _turns(worker: Worker, repeats: int, sample: Pairs, judged: Pairs, longer: Pairs) -> dict[str, Turns]:
    """Runs over as many crossed pairs as last some seconds, and one over each other set; empty where it broke."""
    sets = {
        "crossed": range(_pairs_in(worker, _SECONDS_A_RUN, len(sample))),
        "judged": range(len(sample), len(sample) + len(judged)),
    }
    sets["long"] = range(sets["judged"].stop, sets["judged"].stop + len(longer))
    turns: dict[str, Turns] = {}
    for name, rows in sets.items():
        for place in range(repeats if name == "crossed" else 1):
            if worker.error or (run := worker.run(rows)) is None:
                return {}
            turns.setdefault(name, {})[place] = run
    return turns


def _config(options: argparse.Namespace) -> Found:
    config: Found = json.loads((options.checkpoint / "config.json").read_text())
    return config


SECTIONS: dict[str, Callable[[argparse.Namespace, Found], Found]] = {
    "limits": limits,
    "engine": engine,
    "job": job,
    "systems": systems,
}

if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    main()
