"""What a GPU can do, what the engine makes of it, and where its time goes: one command, one JSON.

    python -m studies.gpu --bundle out/bundle --checkpoint models/climate-claims-minilm-l6 \
        --pairs ../shared/climate-fever/train.parquet --output benchmarks/results/gpu.json

The bundle needs the variant of --precision. This study leaves out what others measure: `pairscore bench` has parity,
peers and rates in memory on the GPU, `pairscore tune` its settings, which are used here once they are known, and
`scaling --chapters rate --rates 1000000 --device cuda --precision fp16` the job from Parquet to Parquet.

The JSON is written after each section, so that a run that is cut off leaves what it had. A section that fails says why
in its place. `--device cpu` with small numbers rehearses it without a GPU.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch

from pairscore import Scorer
from pairscore.benchmarks.work import activation_bytes, matrix_shapes, operations
from pairscore.runtime.stream.batching import plan_batches
from studies.harness import crossed_pairs, study_options, study_result, write_result

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_BYTES = {"fp32": 4, "fp16": 2}
_SECONDS = 0.5
_MOST_KERNELS = 25
# ONNX Runtime prints a line for every attention that it computes, for example
# "Operator=MultiHeadAttention Node=... DataType=fp16 SdpaKernel=FLASH_ATTENTION".
_SWITCH = "ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO"
_LINE = re.compile(r"Operator=(\w+).*?DataType=(\w+) SdpaKernel=(\w+)")
# Opening replays the golden rows, pairs of every length: as many attentions as there are layers for each batch.
_OPEN = "import sys; from pairscore import Scorer; Scorer.from_pretrained(sys.argv[1], precision=sys.argv[2], device=sys.argv[3])"  # noqa: E501

Found = dict[str, Any]


def main() -> None:
    """Run the sections and write the JSON."""
    parser = study_options(__doc__)
    parser.add_argument("--bundle", required=True, help="with a variant of --precision")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--sample", type=int, default=20_000, help="pairs that are scored")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    data = {"sample": options.sample}
    result = study_result(options, data, device=options.device, precision=options.precision)
    for name, section in SECTIONS.items():
        try:
            result[name] = section(options, result)
        except Exception as error:  # the sections after it have to run whatever broke here
            result[name] = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"}
        write_result(options.output, result)
        print(f"{name}: {result[name].get('error', 'done')}", flush=True)
    if failed := [name for name in SECTIONS if "error" in result[name]]:
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


def attention(options: argparse.Namespace, _: Found) -> Found:
    """The kernels that ONNX Runtime says it computes attention with. None on a CPU, where it keeps no such log."""
    command = [sys.executable, "-c", _OPEN, options.bundle, options.precision, options.device]
    done = subprocess.run(command, env={**os.environ, _SWITCH: "1"}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{options.bundle} does not open on {options.device}: {done.stderr.strip()[-300:]}")
    return {"kernels": counted_kernels(done.stdout + done.stderr)}


def counted_kernels(log: str) -> list[dict[str, str | int]]:
    """Operator, type and kernel of each attention in a log, and how often."""
    return [
        {"operator": operator, "type": kind, "kernel": kernel, "count": count}
        for (operator, kind, kernel), count in Counter(_LINE.findall(log)).most_common()
    ]


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
    lengths, config, top = tokenized.lengths.tolist(), _config(options), so_far["limits"]
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
    if work and moved and "error" not in top:
        found["matrix_share"] = work / typical / top["matrix_flops_per_second"][options.precision]
        found["bandwidth_share"] = moved / typical / top["bytes_per_second"]
    return found


def profile(options: argparse.Namespace, _: Found) -> Found:
    """Device seconds by kernel while the product scores pairs, and the share of the time in which any kernel ran.

    PyTorch's profiler sees every kernel of the process, ONNX Runtime's too. Raises ValueError on a CPU.
    """
    if options.device == "cpu":
        raise ValueError("a CPU has no kernels to profile: use --device cuda")
    scorer = Scorer.from_pretrained(options.bundle, precision=options.precision, device=options.device)
    pairs = crossed_pairs(options.pairs, options.sample)
    scorer.predict(pairs)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        started = time.perf_counter()
        scorer.predict(pairs)
        seconds = time.perf_counter() - started
    events = [event for event in profiler.events() or () if event.device_type.name == "CUDA"]
    spans = [(event.name, float(event.time_range.start), float(event.time_range.end)) for event in events]
    totals: Counter[str] = Counter()
    for name, start, stop in spans:
        totals[name] += stop - start  # type: ignore[assignment]  # microseconds, with a fraction
    return {
        "seconds": seconds,
        "busy_share": busy([(start, stop) for _, start, stop in spans]) / 1e6 / seconds,
        "kernels": [
            {"name": name[:120], "seconds": spent / 1e6, "share": spent / max(sum(totals.values()), 1e-9)}
            for name, spent in totals.most_common(_MOST_KERNELS)
        ],
    }


def busy(spans: Sequence[tuple[float, float]]) -> float:
    """How long at least one of the spans (start, stop) lasted."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def _config(options: argparse.Namespace) -> Found:
    config: Found = json.loads((options.checkpoint / "config.json").read_text())
    return config


SECTIONS: dict[str, Callable[[argparse.Namespace, Found], Found]] = {
    "limits": limits,
    "attention": attention,
    "engine": engine,
    "profile": profile,
}

if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    main()
