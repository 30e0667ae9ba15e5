"""Ways to run one model in int8, side by side: speed and parity with PyTorch fp32 in one run.

    python -m studies.quantization --checkpoint models/climate-claims-minilm-l6 \
        --bundle out/bundle --pairs ../shared/climate-fever/train.parquet --output benchmarks/results/quantization.json

Calibration and judgement use different claims, of one file or of two (`--calibration`); `--only fp32 --only native`
measures the ways whose names hold one of these texts. The systems take turns in one process; a rate is that of the
median run, and a ratio that of two medians. `pairscore bench` has, among the peers, what libraries do by themselves:
one scale a batch, or static scales a tensor.
"""

import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir

from pairscore.benchmarks.samples import long_pairs
from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.encoder.read import read_encoder
from pairscore.export.model import LogitsModel
from pairscore.export.parity.gate import batch_difference
from pairscore.export.parity.measure import logits_of, open_unproven
from pairscore.export.quantization.calibration import CalibrationPairs, observe
from pairscore.export.quantization.int8 import GROUP_SIZES, products, quantize, rows_of_weights, sensitivities
from pairscore.export.quantization.native import ALPHA, Recipe, fitting, native_candidates
from pairscore.export.reference import Reference, load_reference
from pairscore.runtime.bundle.activation import activate
from pairscore.runtime.bundle.manifest import Bundle, Variant
from pairscore.runtime.bundle.parity import TIERS, compare
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.registry import is_installed
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.pairs_file import read_pairs
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.stream.batching import plan_batches
from pairscore.runtime.types import FloatArray, Pair
from studies.harness import study_options, study_result, time_in_turns, write_result

REFERENCE = "CrossEncoder.predict, torch fp32, batch 32"
LONG_PAIRS = 60

# Recipes of the native engine that an export does not try: what its rotation is worth.
NOT_ROTATED = (Recipe(0, 0, ALPHA), Recipe(0, 128, ALPHA), Recipe(128, 128, ALPHA), Recipe(64, 64, ALPHA))


@dataclass(frozen=True)
class Way:
    """One way to run the model. `file`: its graph, or the native engine's plan."""

    name: str
    file: Path
    engine: str
    precision: str
    settings: dict[str, str]


def main() -> None:
    """Measure and write the JSON."""
    parser = study_options(__doc__)
    parser.add_argument("--calibration", type=Path, help="Parquet file to fit to; by default half of --pairs")
    parser.add_argument("--only", action="append", help="measure only ways whose names hold this text; repeatable")
    parser.add_argument("--timed-long", type=int, default=LONG_PAIRS, help="long pairs that speed is measured on")
    parser.add_argument("--judged-long", type=int, default=LONG_PAIRS, help="long pairs that parity is measured on")
    parser.add_argument("--judged", type=int, default=1000, help="pairs that parity is measured on")
    parser.add_argument("--timed", type=int, default=1000, help="of these, pairs that speed is measured on")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    fitted, judged = split(options.pairs, options.calibration)
    short = random.Random(0).sample(judged, min(options.judged, len(judged)))
    long, _ = long_pairs(options.bundle / "tokenizer.json", list(judged), options.judged_long)
    manifest = Bundle.open(options.bundle).manifest
    reference = load_reference(open_checkpoint(str(options.checkpoint)), manifest.max_length)
    expected = [reference.logits(each) for each in (short, long)]
    timed = {"": short[: options.timed], "_long": long[: options.timed_long]}
    with tempfile.TemporaryDirectory() as scratch:
        results: list[dict[str, Any]] = []
        scorers: dict[str, Callable[[list[Pair]], Any]] = {REFERENCE: reference.logits}
        for way in make(options.bundle, reference, fitted, Path(scratch), options.only or [""]):
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
        seconds = {kind: time_in_turns(scorers, some, options.rounds)[0] for kind, some in timed.items()}
    for result in results:
        for kind, some in timed.items():
            if mine := seconds[kind].get(result["name"]):
                typical = statistics.median_low(mine)
                result |= {
                    f"seconds{kind}": mine,
                    f"pairs_per_second{kind}": len(some) / typical,
                    f"ratio{kind}": statistics.median_low(seconds[kind][REFERENCE]) / typical,
                }
        print(result["name"], result.get("error") or f"{result['pairs_per_second']:.0f} pairs/s, {result['parity']}")
    found = study_result(
        options,
        {"timed": len(timed[""]), "timed_long": len(timed["_long"])},
        fitted_pairs=len(fitted),
        fitted_file=(options.calibration or options.pairs).name,
        statistic="median",
        reference={"name": REFERENCE, **{f"seconds{kind}": each[REFERENCE] for kind, each in seconds.items()}},
        systems=results,
    )
    write_result(options.output, found)


def split(pairs: Path, calibration: Path | None) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """The pairs to fit to, as an export takes them, and those to judge on: no claim is in both."""
    rows = read_pairs(pairs, "claim", "evidence")
    if calibration is None:
        fitted, judged = CalibrationPairs(tuple(rows)).split()
        return fitted.pairs, judged.pairs
    others = read_pairs(calibration, "claim", "evidence")
    claims = {claim for claim, _ in others}
    return CalibrationPairs(tuple(others)).split()[0].pairs, tuple(pair for pair in rows if pair[0] not in claims)


def make(bundle: Path, reference: Reference, fitted: Sequence[Pair], folder: Path, only: Sequence[str]) -> list[Way]:
    """Every way whose name holds one of the texts `only`, its graph written into `folder`."""
    fp32 = open_unproven(bundle, "fp32", "onnxruntime")
    graph = bundle / fp32.bundle.variant("fp32").files[0]
    batches = batches_of(fp32, fitted)
    pytorch = LogitsModel(reference.encoder)
    encoder = read_encoder(pytorch, fp32.max_length)
    rows_of = rows_of_weights(pytorch, graph, encoder)
    seen = observe(pytorch, [*rows_of.values(), *(each.input for _, each in encoder.products())], batches)
    seen_by = {name: seen[rows] for name, rows in rows_of.items()}
    ways = [Way(f"fp32, {engine}", graph, engine, "fp32", {}) for engine in ("onnxruntime", "openvino")]

    def grouped(name: str, size: int, made: Callable[[], tuple[onnx_ir.Model, str]]) -> None:
        if not any(text in f"{name}, {engine}" for text in only for engine in ("onnxruntime", "openvino")):
            return
        file = folder / f"{len(ways)}.onnx"
        onnx_ir.save(made()[0], file)
        ways.append(Way(f"{name}, onnxruntime", file, "onnxruntime", "int8", {}))
        ways.append(Way(f"{name}, openvino", file, "openvino", "int8", {"DYNAMIC_QUANTIZATION_GROUP_SIZE": str(size)}))

    for size in GROUP_SIZES:
        grouped(f"GPTQ, groups of {size}", size, partial(quantize, graph, size, seen_by))
    smallest, every = GROUP_SIZES[0], len(products(onnx_ir.load(graph)))
    grouped(f"round to nearest, groups of {smallest}", smallest, partial(quantize, graph, smallest))
    kept = every // 4
    grouped(
        f"GPTQ, groups of {smallest}, all but {kept} of {every} products",
        smallest,
        lambda: quantize(graph, smallest, seen_by, list(sensitivities(graph, batches))[:kept]),
    )
    recipes = [each for each in (*fitting(encoder), *NOT_ROTATED) if any(text in f"{each} on native" for text in only)]
    if is_installed("native"):
        ways += [
            Way(each.name, each.files[0], each.engine, "int8", {})
            for each in native_candidates(encoder, folder, seen, recipes)
        ]
    return [way for way in ways if any(text in way.name for text in only)]


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
    logits = logits_of(scorer, pairs)
    activation = scorer.bundle.manifest.activation
    scores, reference = activate(activation, logits), activate(activation, expected)
    report = compare(logits, expected, scores, reference, [claim for claim, _ in pairs])
    report = replace(report, batch_difference=batch_difference(scorer, pairs, logits))
    return asdict(report) | {"violations": report.violations(TIERS["int8"])}


if __name__ == "__main__":
    main()
