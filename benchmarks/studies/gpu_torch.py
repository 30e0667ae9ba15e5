"""The sections of `gpu.py` that need PyTorch: the device's limits, the reference, the peers and the profile."""

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from pairscore import Scorer
from pairscore.benchmarks.loaders import Pairs
from pairscore.benchmarks.work import matrix_shapes
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.bundle.parity import TIERS, compare
from pairscore.runtime.errors import one_line
from pairscore.runtime.types import FloatArray

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BATCH_SIZES = (32, 128, 512, 2048)
LONG_PAIRS = 100
_GPU_ROWS, _CPU_ROWS = 32_768, 512
_GPU_COPY, _CPU_COPY = 2**30, 2**24
_SECONDS = 0.5


def limits(device: str, config: dict[str, Any]) -> dict[str, Any]:
    """Operations a second in products of the model's shapes, by type, and bytes a second read and written by a copy."""
    on_gpu = device != "cpu"
    shapes = matrix_shapes(config)
    if shapes is None:
        raise ValueError("the configuration does not tell the model's shapes")
    rows = _GPU_ROWS if on_gpu else _CPU_ROWS
    torch.backends.cuda.matmul.allow_tf32 = False
    rates = {}
    for name, dtype in DTYPES.items() if on_gpu else [("fp32", torch.float32), ("fp16", torch.float32)]:
        operands = [
            (
                torch.rand(rows, inputs, device=device, dtype=dtype),
                torch.rand(inputs, outputs, device=device, dtype=dtype),
            )
            for _, inputs, outputs in shapes
        ]
        work = sum(2 * rows * inputs * outputs for _, inputs, outputs in shapes)
        rates[name] = work * _rate(partial(_multiply, operands), device)
    source = torch.empty(_GPU_COPY if on_gpu else _CPU_COPY, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = 2 * source.numel() * _rate(partial(target.copy_, source), device)
    found: dict[str, Any] = {"matrix_flops_per_second": rates, "bytes_per_second": copied, "rows": rows}
    if on_gpu:
        properties = torch.cuda.get_device_properties(device)
        found |= {"name": properties.name, "memory_bytes": properties.total_memory}
    return found


def _multiply(operands: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    for left, right in operands:
        torch.mm(left, right)


def _rate(work: Callable[[], Any], device: str) -> float:
    """Calls a second, the best of three."""
    best = 0.0
    for _ in range(3):
        work()
        _wait(device)
        started, calls = time.perf_counter(), 0
        while time.perf_counter() - started < _SECONDS:
            for _ in range(10):
                work()
            calls += 10
            _wait(device)
        best = max(best, calls / (time.perf_counter() - started))
    return best


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def parity(bundle: Path, checkpoint: Path, device: str, pairs: Pairs) -> dict[str, Any]:
    """By precision: the report and the broken promises, on `pairs` and on pairs of the greatest length."""
    manifest = Bundle.open(bundle).manifest
    sets = {"pairs": pairs, "long_pairs": long_pairs(pairs)}
    reference = CrossEncoder(str(checkpoint), device="cpu")
    identity = torch.nn.Identity()
    expected = {
        name: _rows(reference.predict(each, batch_size=32, activation_fn=identity)) for name, each in sets.items()
    }
    found: dict[str, Any] = {}
    for precision in [name for name in manifest.variants if name in TIERS]:
        try:
            scorer = Scorer.from_pretrained(bundle, precision=precision, device=device, tuning=False)
        except Exception as error:  # a precision that this device does not run
            found[precision] = {"error": one_line(error)}
            continue
        found[precision] = {}
        for name, each in sets.items():
            logits = _rows(scorer.predict(each, activation="identity"))
            theirs = expected[name]
            claims = [claim for claim, _ in each]
            report = compare(logits, theirs, scorer.scores(logits), scorer.scores(theirs), claims)
            broken = report.violations(manifest.variants[precision].tier)
            found[precision][name] = {**asdict(report), "violations": broken}
    return found


def long_pairs(pairs: Pairs) -> Pairs:
    """Pairs that fill the model: evidence joined, 12 pieces each."""
    texts = [text for _, text in pairs]
    return [
        (pairs[row][0], " ".join(texts[(row + more) % len(texts)] for more in range(12)))
        for row in range(min(LONG_PAIRS, len(pairs)))
    ]


def peers(bundle: Path, checkpoint: Path, device: str, precision: str, pairs: Pairs, *, repeats: int) -> dict[str, Any]:
    """Seconds for `pairs`, texts in memory to logits in memory, of each system; the systems take turns.

    A first pass over all, of a tenth of the pairs, finds the best batch size of each configuration of the peer; only
    that one goes on to the turns.
    """
    systems: dict[str, Callable[[Pairs], Any]] = {}
    failed: dict[str, str] = {}
    scorer = Scorer.from_pretrained(bundle, precision=precision, device=device)
    systems[f"pairscore {precision}"] = lambda rows: scorer.predict(rows, activation="identity")
    trials: list[dict[str, Any]] = []
    few = pairs[: max(64, len(pairs) // 10)]
    for dtype, attention, compiled in configurations(device):
        name = f"sentence-transformers, torch {dtype}, {attention}" + (", torch.compile" if compiled else "")
        try:
            model = _cross_encoder(checkpoint, device, dtype, attention, compiled=compiled)
            rates = {}
            for size in BATCH_SIZES:
                run = _predictor(model, size)
                run(few[: 2 * size])
                rates[size] = len(few) / _seconds(run, few)
                trials.append({"name": name, "batch_size": size, "pairs_per_second": rates[size]})
        except Exception as error:  # what a library cannot do here is its result
            failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            continue
        best = max(rates, key=lambda size: rates[size])
        systems[f"{name}, batch {best}"] = _predictor(model, best)
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    logits: dict[str, FloatArray] = {}
    for turn in range(repeats):
        names = list(systems)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            started = time.perf_counter()
            logits[name] = _rows(systems[name](pairs))
            seconds[name].append(time.perf_counter() - started)
    exact = next((found for name, found in logits.items() if "torch fp32" in name), None)
    return {
        "pairs": len(pairs),
        "trials": trials,
        "failed": failed,
        "systems": [
            {
                "name": name,
                "seconds": times,
                "pairs_per_second": len(pairs) / statistics.median(times),
                "max_logit_difference": None if exact is None else float(np.abs(logits[name] - exact).max()),
            }
            for name, times in seconds.items()
        ],
    }


def configurations(device: str) -> list[tuple[str, str, bool]]:
    """(type, attention, compiled) of the peer: on a CPU only what rehearses the code."""
    if device == "cpu":
        return [("fp32", "sdpa", False)]
    flash = ["flash_attention_2"] if importlib.util.find_spec("flash_attn") else []
    found = [("fp32", "sdpa", False)]
    for dtype in ("bf16", "fp16"):
        found += [(dtype, attention, False) for attention in ("sdpa", *flash)] + [(dtype, "sdpa", True)]
    return found


def _cross_encoder(checkpoint: Path, device: str, dtype: str, attention: str, *, compiled: bool) -> Any:
    arguments: dict[str, Any] = {"dtype": DTYPES[dtype], "attn_implementation": attention}
    model: Any = CrossEncoder(str(checkpoint), device=device, model_kwargs=arguments)
    if compiled:
        model.model.forward = torch.compile(model.model.forward, dynamic=True)
    return model


def _predictor(model: Any, batch_size: int) -> Callable[[Pairs], Any]:
    identity = torch.nn.Identity()
    return lambda rows: model.predict(rows, batch_size=batch_size, activation_fn=identity, show_progress_bar=False)


def _seconds(run: Callable[[Pairs], Any], pairs: Pairs) -> float:
    started = time.perf_counter()
    run(pairs)
    return time.perf_counter() - started


def profile(bundle: Path, device: str, precision: str, pairs: Pairs, most: int = 25) -> dict[str, Any]:
    """Device seconds by kernel while `pairs` are scored, and the share of the time in which any kernel ran.

    PyTorch's profiler sees every kernel of the process, ONNX Runtime's too. Raises ValueError on a CPU.
    """
    if device == "cpu":
        raise ValueError("a CPU has no kernels to profile: use --device cuda")
    scorer = Scorer.from_pretrained(bundle, precision=precision, device=device)
    scorer.predict(pairs)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        started = time.perf_counter()
        scorer.predict(pairs)
        seconds = time.perf_counter() - started
    spans = [
        (event.name, float(event.time_range.start), float(event.time_range.end))
        for event in profiler.events() or ()
        if event.device_type.name == "CUDA"
    ]
    totals: dict[str, float] = {}
    for name, start, stop in spans:
        totals[name] = totals.get(name, 0.0) + stop - start
    return {
        "seconds": seconds,
        "busy_share": busy([(start, stop) for _, start, stop in spans]) / 1e6 / seconds,
        "kernels": [
            {"name": name[:120], "seconds": spent / 1e6, "share": spent / max(sum(totals.values()), 1e-9)}
            for name, spent in sorted(totals.items(), key=lambda item: -item[1])[:most]
        ],
    }


def busy(spans: Sequence[tuple[float, float]]) -> float:
    """How long at least one of the spans (start, stop) lasted."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def _rows(values: Any) -> FloatArray:
    array = np.asarray(values, dtype=np.float32)
    return array.reshape(len(array), -1)
