"""One benchmark: a bundle's engines and precisions, PyTorch, and peers where asked for. The result is plain JSON."""

import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pairscore.benchmarks.environment import environment, onnx_int8_configuration
from pairscore.benchmarks.loaders import Files, Pairs
from pairscore.benchmarks.systems import REFERENCE, System, own_systems, peers
from pairscore.benchmarks.throughput import (
    MAX_SCATTER_POINTS,
    Worker,
    Workers,
    figures,
    promise_of,
    sample,
    take_turns,
    token_lengths,
    with_threads,
)
from pairscore.benchmarks.work import matrix_shapes, operations, padding_by_policy
from pairscore.export.parity.ranking import ranking_figures
from pairscore.runtime.bundle.activation import activate
from pairscore.runtime.bundle.manifest import Bundle, Manifest, sha256
from pairscore.runtime.machine import available_cores

LENGTHS = ((1, 32), (33, 64), (65, 128), (129, 256), (257, 100_000))
MAX_PAIRS_A_LENGTH = 64
SEARCHED_PAIRS = 20_000
MIN_PAIRS_A_LENGTH = 16
CPU_TOKEN_BUDGET = 1024
CALIBRATION_PAIRS = 100
THREADS_ROUNDS = 2
PRODUCTS = "matrix products"

Say = Callable[[str], None]


def run_bench(
    bundle: Path,
    checkpoint: Path,
    pairs_file: Path,
    all_pairs: Pairs,
    labels: Sequence[bool] | None,
    *,
    limit: int | None,
    rounds: int,
    environments: Path | None,
    say: Say,
) -> dict[str, Any]:
    """Measure everything. labels: one a pair of `all_pairs`. environments: the folder of the peers'; None: no peers."""
    manifest = Bundle.open(bundle).manifest
    rows = sample(all_pairs, limit)
    pairs = [all_pairs[row] for row in rows]
    marked = None if labels is None else [labels[row] for row in rows]
    lengths = token_lengths(bundle / "tokenizer.json", pairs, manifest.max_length)
    config = json.loads((bundle / "config.json").read_text())
    systems = [REFERENCE, *(peers() if environments else ()), *own_systems(manifest)]
    measured = set(rows)
    rest = [pair for row, pair in enumerate(all_pairs) if row not in measured]
    more, more_lengths = _of_every_length(bundle, rest, manifest.max_length)
    with tempfile.TemporaryDirectory() as folder:
        files = Files(str(checkpoint), str(bundle), str(Path(folder) / "onnx"), str(Path(folder) / "openvino"))
        if environments:
            _prepare_peers(files, rest or pairs, say)
        with Workers(files, pairs, environments, say, more=more) as starting:
            opened = {system.name: starting.start(system) for system in systems}
            workers = {name: each for name, each in opened.items() if isinstance(each, Worker)}
            everyone = workers | _matrix_products(starting, config)
            say(f"Measuring {len(workers)} systems, {rounds} rounds of {len(pairs)} pairs")
            turns = take_turns(everyone, rounds, REFERENCE.name) if REFERENCE.name in workers else {}
            by_length = _by_length(workers, lengths + more_lengths, [REFERENCE, *own_systems(manifest)])
        gemm = [turn.run.statistics["flops_per_second"] for turn in turns.pop(PRODUCTS, [])]
        by_threads = _by_threads(files, pairs, own_systems(manifest), say)
    if not turns.get(REFERENCE.name):
        failed = opened[REFERENCE.name]
        raise RuntimeError(f"the reference did not run: {failed.error if isinstance(failed, Worker) else failed}")
    reference = turns[REFERENCE.name]
    results = []
    for system in systems:
        found, failure = turns.get(system.name), opened[system.name]
        result: dict[str, Any] = {"name": system.name, "tier": system.tier, "ours": system.ours}
        result |= dict(system.arguments) if system.ours else {}
        result |= {"note": system.note} if system.note else {}
        if system.name in workers:
            result["versions"] = workers[system.name].versions
        if not found:
            results.append(result | {"error": failure if isinstance(failure, str) else failure.error})
            continue
        promise = promise_of(system, {name: variant.tier for name, variant in manifest.variants.items()})
        result |= figures(found, reference, pairs, tokens=sum(lengths), activation=manifest.activation, promise=promise)
        if marked is not None and len(manifest.labels) == 1:
            result["ranking"] = dict(ranking_figures(pairs, marked, found[0].run.logits[:, 0]))
        work = operations(config, lengths, first_row_only=system.ours and _narrowed(manifest, system))
        if gemm and system.ours and work is not None:
            result["gemm_share"] = work / min(result["seconds"]) / max(gemm)
        results.append(result)
    scores = {
        name: np.round(activate(manifest.activation, turn.run.logits)[:MAX_SCATTER_POINTS, 0], 6).tolist()
        for name, found in turns.items()
        for turn in found[:1]
    }
    return {
        "environment": environment(),
        "checkpoint": manifest.source.name,
        "model": {"type": manifest.model_type, "layers": config.get("num_hidden_layers", config.get("n_layers"))},
        "data": {
            "file": pairs_file.name,
            "sha256": sha256(pairs_file),
            "pairs": len(pairs),
            "mean_tokens": statistics.fmean(lengths),
            "labels": marked is not None,
        },
        "rounds": rounds,
        "statistic": "fastest",
        "reference": REFERENCE.name,
        "gemm_flops_per_second": gemm,
        "systems": results,
        "by_length": by_length,
        "by_threads": by_threads,
        "padding": padding_by_policy(lengths, [len(a) + len(b) for a, b in pairs], CPU_TOKEN_BUDGET),
        "scores": scores,
    }


def _matrix_products(starting: Workers, config: dict[str, Any]) -> dict[str, Worker]:
    """The worker that measures the machine's rate, where the configuration tells the model's shapes."""
    shapes = matrix_shapes(config)
    if shapes is None:
        return {}
    arguments = {"shapes": shapes, "threads": available_cores()}
    worker = starting.start(System(PRODUCTS, "fp32", True, "gemm", arguments))
    return {PRODUCTS: worker} if isinstance(worker, Worker) else {}


def _prepare_peers(files: Files, pairs: Pairs, say: Say) -> None:
    """Make the files that peers load, and leave `pairs` for those that calibrate."""
    say("Making the ONNX files that peers load")
    Path(files.openvino).mkdir()
    (Path(files.openvino) / "calibration.json").write_text(json.dumps(pairs[:CALIBRATION_PAIRS]))
    system = System("preparation", "fp32", False, "prepare_onnx", {"int8_configuration": onnx_int8_configuration()})
    with Workers(files, pairs) as preparing:
        preparing.start(system)


def _narrowed(manifest: Manifest, system: System) -> bool:
    """Whether the variant's last layer computes the first token's row only."""
    notes = manifest.variants[system.tier].notes
    return any(note.startswith("first row only") and "not applied" not in note for note in notes)


def _of_every_length(bundle: Path, pairs: Pairs, max_length: int | None) -> tuple[Pairs, list[int]]:
    """Enough pairs of each of `LENGTHS`, where the first `SEARCHED_PAIRS` hold them, and their tokens."""
    some = pairs[:SEARCHED_PAIRS]
    lengths = token_lengths(bundle / "tokenizer.json", some, max_length) if some else []
    rows = [
        row
        for low, high in LENGTHS
        for row in [row for row, length in enumerate(lengths) if low <= length <= high][:MAX_PAIRS_A_LENGTH]
    ]
    return [some[row] for row in rows], [lengths[row] for row in rows]


def _by_length(workers: dict[str, Worker], lengths: Sequence[int], systems: Sequence[System]) -> list[dict[str, Any]]:
    """Rates over pairs of similar length in tokens, of the reference and ours; the faster of two runs."""
    found = []
    for low, high in LENGTHS:
        rows = [row for row, length in enumerate(lengths) if low <= length <= high][:MAX_PAIRS_A_LENGTH]
        if len(rows) < MIN_PAIRS_A_LENGTH:
            continue
        mean = statistics.fmean(lengths[row] for row in rows)
        for system in systems:
            worker = workers.get(system.name)
            runs = [worker.run(rows) for _ in range(2) if worker.error is None] if worker else []
            seconds = [run.seconds for run in runs if run is not None]
            if seconds:
                found.append(
                    {
                        "system": system.name,
                        "tokens": [low, high],
                        "mean_tokens": mean,
                        "pairs": len(rows),
                        "pairs_per_second": len(rows) / min(seconds),
                    }
                )
    return found


def _by_threads(files: Files, pairs: Pairs, systems: Sequence[System], say: Say) -> list[dict[str, Any]]:
    """Rates of our systems on the CPU with 1, 2, 4, ... threads up to all cores, on up to 256 pairs."""
    cores = available_cores()
    counts = sorted({*(2**power for power in range(cores.bit_length()) if 2**power <= cores), cores})
    some = pairs[:256]
    seconds: dict[tuple[str, int], list[float]] = {}
    with Workers(files, some, None, say) as starting:
        workers = {}
        for system in systems:
            if system.arguments["device"] == "cpu":
                for count in counts:
                    worker = starting.start(with_threads(system, count))
                    if isinstance(worker, Worker):
                        workers[system.name, count] = worker
        for _ in range(THREADS_ROUNDS):
            for key, worker in workers.items():
                run = worker.run() if worker.error is None else None
                if run is not None:
                    seconds.setdefault(key, []).append(run.seconds)
    return [
        {"system": name, "threads": count, "seconds": found, "pairs_per_second": len(some) / min(found)}
        for (name, count), found in seconds.items()
    ]
