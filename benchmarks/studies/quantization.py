"""Ways to run one model in int8, side by side: speed and parity with PyTorch fp32 in one run.

    python -m pairscore.benchmarks.studies.quantization --checkpoint models/climate-claims-minilm-l6 \
        --bundle out/bundle --pairs ../shared/climate-fever/train.parquet --output benchmarks/results/quantization.json

Calibration and judgement use different claims. Long pairs are made by joining evidence to 256 tokens and more. The
systems take turns in one process; a ratio compares two runs of one round.
"""

import argparse
import json
import logging
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pairscore.benchmarks.environment import environment
from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.parity.gate import batch_difference
from pairscore.export.parity.measure import open_unproven
from pairscore.export.quantization.calibration import Calibration, observe
from pairscore.export.quantization.int8 import GROUP_SIZES, products, quantize, sensitivities
from pairscore.export.reference import load_reference
from pairscore.runtime.bundle.activation import activate
from pairscore.runtime.bundle.manifest import Bundle, Variant, sha256
from pairscore.runtime.bundle.parity import TIERS, compare
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.pairs_file import read_pairs
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.stream.batching import plan_batches
from pairscore.runtime.types import FloatArray, Pair

REFERENCE = "CrossEncoder.predict, torch fp32, batch 32"
_LONG_TOKENS = 256


@dataclass(frozen=True)
class Way:
    """One way to run the model. `file`: its graph."""

    name: str
    file: Path
    engine: str
    precision: str
    settings: dict[str, str]


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--bundle", required=True, type=Path)
    parser.add_argument("--pairs", required=True, type=Path, help="Parquet with columns claim and evidence")
    parser.add_argument("--judged", type=int, default=1000, help="pairs that parity is measured on")
    parser.add_argument("--timed", type=int, default=300, help="of these, pairs that speed is measured on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", required=True, type=Path)
    options = parser.parse_args()

    pairs = read_pairs(options.pairs, "claim", "evidence")
    fitted, judged = Calibration(tuple(pairs)).split()
    short = random.Random(0).sample(judged.pairs, min(options.judged, len(judged.pairs)))
    long = lengthened(judged.pairs, 60)
    manifest = Bundle.open(options.bundle).manifest
    reference = load_reference(open_checkpoint(options.checkpoint), manifest.max_length)
    expected = [reference.logits(each) for each in (short, long)]
    with tempfile.TemporaryDirectory() as scratch:
        ways = make(options.bundle, fitted.pairs, Path(scratch))
        results: list[dict[str, Any]] = []
        scorers: dict[str, Callable[[list[Pair]], Any]] = {}
        for way in ways:
            result: dict[str, Any] = {"name": way.name, "engine": way.engine}
            results.append(result)
            try:
                scorer = opened(options.bundle, way)
                result["parity"] = parity(scorer, short, expected[0])
                result["parity_long"] = parity(scorer, long, expected[1])
                scorers[way.name] = scorer.predict
            except PairscoreError as error:
                result["error"] = str(error)
        print(f"Timing {len(scorers) + 1} systems", flush=True)
        seconds = time_in_turns({REFERENCE: reference.logits, **scorers}, short[: options.timed], options.rounds)
    for result in results:
        if result["name"] in seconds:
            result |= {"seconds": seconds[result["name"]]}
    systems = [with_speed(result, seconds[REFERENCE], options.timed) for result in results]
    summary = {
        "environment": environment(),
        "checkpoint": Path(options.checkpoint).name,
        "data": {"file": options.pairs.name, "sha256": sha256(options.pairs), "timed": options.timed},
        "fitted_pairs": len(fitted.pairs),
        "reference": {"name": REFERENCE, "seconds": seconds[REFERENCE]},
        "systems": systems,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(summary, indent=2) + "\n")
    for result in systems:
        print(result["name"], result.get("error") or f"{result['pairs_per_second']:.0f} pairs/s, {result['parity']}")


def make(bundle: Path, fitted: Sequence[Pair], folder: Path) -> list[Way]:
    """Every way, its graph written into `folder`."""
    fp32 = open_unproven(bundle, "fp32", "onnxruntime")
    graph = bundle / fp32.bundle.variant("fp32").files[0]
    batches = batches_of(fp32, fitted)
    model = onnx.load(str(graph))
    every = products(model)
    seen = observe(graph, [each.activation for each in every], batches)
    ways = [Way(f"fp32, {engine}", graph, engine, "fp32", {}) for engine in ("onnxruntime", "openvino")]

    def grouped(name: str, made: onnx.ModelProto, size: int) -> None:
        file = folder / f"{len(ways)}.onnx"
        onnx.save(made, str(file))
        ways.append(Way(f"{name}, onnxruntime", file, "onnxruntime", "int8", {}))
        settings = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": str(size)}
        ways.append(Way(f"{name}, openvino", file, "openvino", "int8", settings))

    for size in GROUP_SIZES:
        grouped(f"GPTQ, groups of {size}", quantize(model, size, seen)[0], size)
    smallest = GROUP_SIZES[0]
    grouped(f"round to nearest, groups of {smallest}", quantize(model, smallest)[0], smallest)
    keep = list(sensitivities(model, batches))[: len(every) // 4]
    grouped(
        f"GPTQ, groups of {smallest}, {len(keep)} of {len(every)} products in fp32",
        quantize(model, smallest, seen, keep)[0],
        smallest,
    )
    ways.append(Way("dynamic int8, a scale a batch, onnxruntime", dynamic(graph, folder), "onnxruntime", "int8", {}))
    static = static_with_smoothquant(graph, batches, folder)
    ways.append(Way("static int8 with SmoothQuant (NNCF), openvino", static, "openvino", "int8", {}))
    return ways


def batches_of(scorer: Scorer, pairs: Sequence[Pair]) -> list[Batch]:
    """Pairs as the runtime would batch them."""
    tokenized = scorer.tokenize(pairs)
    return [tokenized.batch(rows) for rows in plan_batches(tokenized.lengths, 1024)]


def dynamic(graph: Path, folder: Path) -> Path:
    """ONNX Runtime's own recipe: weights by channel, activations with one scale for all that is in the batch."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)
    made = folder / "dynamic.onnx"
    quantize_dynamic(graph, made, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
    logging.disable(logging.NOTSET)
    return made


def static_with_smoothquant(graph: Path, batches: Sequence[Batch], folder: Path) -> Path:
    """NNCF's recipe for transformers: calibrated scales by tensor, SmoothQuant between them."""
    import nncf  # pyright: ignore[reportMissingImports]
    import openvino

    model = openvino.Core().read_model(graph)
    inputs = {node.get_any_name(): node.get_element_type().to_dtype() for node in model.inputs}
    data = nncf.Dataset(list(batches), lambda batch: batch.feeds(inputs))
    made = nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(batches))
    openvino.save_model(made, folder / "static.xml", compress_to_fp16=False)
    return folder / "static.xml"


def opened(bundle: Path, way: Way) -> Scorer:
    """A scorer that runs the way's graph with the bundle's tokenizer."""
    fp32 = Bundle.open(bundle).variant("fp32")
    variant: Variant = replace(
        fp32, precision=way.precision, files=(str(way.file.resolve()),), engines=(way.engine,), settings=way.settings
    )
    return open_unproven(bundle, way.precision, way.engine, variant=variant)


def parity(scorer: Scorer, pairs: Sequence[Pair], expected: FloatArray) -> dict[str, Any]:
    """Differences to PyTorch, and the promises of int8 that they break."""
    logits = np.asarray(scorer.predict(list(pairs), activation="identity"), dtype=np.float32).reshape(expected.shape)
    activation = scorer.bundle.manifest.activation
    scores, reference = activate(activation, logits), activate(activation, expected)
    report = compare(logits, expected, scores, reference, [claim for claim, _ in pairs])
    report = replace(report, batch_difference=batch_difference(scorer, pairs, logits))
    return asdict(report) | {"violations": report.violations(TIERS["int8"])}


def lengthened(pairs: Sequence[Pair], wanted: int) -> list[Pair]:
    """Pairs of a claim with the evidence of several, from 256 tokens up."""
    made: list[Pair] = []
    for start in range(0, len(pairs), 12):
        some = pairs[start : start + 12]
        if len(made) < wanted:
            made.append((some[0][0], " ".join(evidence for _, evidence in some)))
    return [pair for pair in made if len(pair[1].split()) > _LONG_TOKENS * 0.75]


def time_in_turns(
    systems: dict[str, Callable[[list[Pair]], Any]], pairs: Sequence[Pair], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each system in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for predict in systems.values():
        predict(list(pairs[:64]))
    for _ in range(rounds):
        for name, predict in systems.items():
            started = time.perf_counter()
            predict(list(pairs))
            seconds[name].append(time.perf_counter() - started)
    return seconds


def with_speed(result: dict[str, Any], reference: list[float], pairs: int) -> dict[str, Any]:
    """Add pairs per second and the ratio to the reference."""
    if "error" in result:
        return result
    ratios = [slow / fast for slow, fast in zip(reference, result["seconds"], strict=True)]
    return result | {
        "pairs_per_second": pairs / statistics.median(result["seconds"]),
        "ratio": statistics.median(ratios),
    }


if __name__ == "__main__":
    main()
