"""Ways to run one model in int8, side by side: speed and parity with PyTorch fp32 in one run.

    python -m pairscore.benchmarks.studies.quantization --checkpoint models/climate-claims-minilm-l6 \
        --bundle out/bundle --pairs ../shared/climate-fever/train.parquet --output benchmarks/results/quantization.json

Calibration and judgement use different claims. The systems take turns in one process; a ratio is that of two fastest
runs. What libraries do by themselves, one scale a batch or static scales a tensor, stands among the peers of
`pairscore bench`.
"""

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pairscore.benchmarks.samples import long_pairs
from pairscore.benchmarks.studies.harness import study_options, study_result, time_in_turns, write_result
from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.parity.gate import batch_difference
from pairscore.export.parity.measure import open_unproven
from pairscore.export.quantization.calibration import Calibration, observe
from pairscore.export.quantization.int8 import GROUP_SIZES, products, quantize, sensitivities
from pairscore.export.reference import load_reference
from pairscore.runtime.bundle.activation import activate
from pairscore.runtime.bundle.manifest import Bundle, Variant
from pairscore.runtime.bundle.parity import TIERS, compare
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.pairs_file import read_pairs
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.stream.batching import plan_batches
from pairscore.runtime.types import FloatArray, Pair

REFERENCE = "CrossEncoder.predict, torch fp32, batch 32"
LONG_PAIRS = 60


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
    parser = study_options(__doc__)
    parser.add_argument("--bundle", required=True, type=Path)
    parser.add_argument("--judged", type=int, default=1000, help="pairs that parity is measured on")
    parser.add_argument("--timed", type=int, default=1000, help="of these, pairs that speed is measured on")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    fitted, judged = Calibration(tuple(read_pairs(options.pairs, "claim", "evidence"))).split()
    short = random.Random(0).sample(judged.pairs, min(options.judged, len(judged.pairs)))
    long, _ = long_pairs(options.bundle / "tokenizer.json", list(judged.pairs), LONG_PAIRS)
    manifest = Bundle.open(options.bundle).manifest
    reference = load_reference(open_checkpoint(str(options.checkpoint)), manifest.max_length)
    expected = [reference.logits(each) for each in (short, long)]
    timed = short[: options.timed]
    with tempfile.TemporaryDirectory() as scratch:
        results: list[dict[str, Any]] = []
        scorers: dict[str, Callable[[list[Pair]], Any]] = {REFERENCE: reference.logits}
        for way in make(options.bundle, fitted.pairs, Path(scratch)):
            result: dict[str, Any] = {"name": way.name, "engine": way.engine}
            results.append(result)
            try:
                scorer = opened(options.bundle, way)
                result["parity"] = parity(scorer, short, expected[0])
                result["parity_long"] = parity(scorer, long, expected[1])
                scorers[way.name] = scorer.predict
            except PairscoreError as error:
                result["error"] = str(error)
        print(f"Timing {len(scorers)} systems", flush=True)
        seconds, _ = time_in_turns(scorers, timed, options.rounds)
    for result in results:
        if mine := seconds.get(result["name"]):
            ratio = min(seconds[REFERENCE]) / min(mine)
            result |= {"seconds": mine, "pairs_per_second": len(timed) / min(mine), "ratio": ratio}
        print(result["name"], result.get("error") or f"{result['pairs_per_second']:.0f} pairs/s, {result['parity']}")
    found = study_result(
        options,
        {"timed": len(timed)},
        fitted_pairs=len(fitted.pairs),
        statistic="fastest",
        reference={"name": REFERENCE, "seconds": seconds[REFERENCE]},
        systems=results,
    )
    write_result(options.output, found)


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
    return ways


def batches_of(scorer: Scorer, pairs: Sequence[Pair]) -> list[Batch]:
    """Pairs as the runtime would batch them."""
    tokenized = scorer.tokenize(pairs)
    return [tokenized.batch(rows) for rows in plan_batches(tokenized.lengths, 1024)]


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


if __name__ == "__main__":
    main()
