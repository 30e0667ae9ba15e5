"""One benchmark: a bundle's engines and precisions, PyTorch, and peers where asked for. The result is plain JSON."""

import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairscore.benchmarks import roofline
from pairscore.benchmarks.environment import environment, onnx_int8_configuration
from pairscore.benchmarks.loaders import Files, Pairs
from pairscore.benchmarks.samples import long_pairs, sample, token_lengths
from pairscore.benchmarks.systems import REFERENCE, System, own_systems, peers
from pairscore.benchmarks.tables.throughput import best_peers
from pairscore.benchmarks.throughput import Turns, Worker, Workers, figures, promise_of, stages, take_turns
from pairscore.benchmarks.work import matrix_shapes, operations, padding_by_policy
from pairscore.export.parity.ranking import ranking_figures
from pairscore.runtime.bundle.activation import activate
from pairscore.runtime.bundle.manifest import CLAIM_FIRST, Bundle, Manifest, sha256
from pairscore.runtime.machine import available_cores

CPU_TOKEN_BUDGET = 1024
CALIBRATION_PAIRS = 100
LONG_PAIRS, LONG_ROUNDS = 200, 1
MAX_SCATTER_POINTS = 400

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Set:
    """Pairs that are measured together. `lengths`: their tokens. `marked`: which are relevant."""

    pairs: Pairs
    lengths: Sequence[int]
    marked: Sequence[bool] | None = None

    def description(self, file: Path) -> dict[str, Any]:
        mean = statistics.fmean(self.lengths)
        return {"file": file.name, "sha256": sha256(file), "pairs": len(self.pairs), "mean_tokens": mean}


@dataclass(frozen=True)
class _Model:
    manifest: Manifest
    config: dict[str, Any]
    limits: dict[str, dict[str, Any]]


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
    long: int = LONG_PAIRS,
) -> dict[str, Any]:
    """Measure everything. labels: one a pair of `all_pairs`. environments: the folder of the peers'; None: no peers.

    long: pairs of the second set, which the reference, ours and the fastest peer of each precision score.
    """
    manifest = Bundle.open(bundle).manifest
    evidence_first = manifest.pair_order != CLAIM_FIRST
    rows = sample(all_pairs, limit)
    pairs = [all_pairs[row] for row in rows]
    marked = None if labels is None else [labels[row] for row in rows]
    tokenizer = bundle / "tokenizer.json"
    config = json.loads((bundle / "config.json").read_text())
    systems = [REFERENCE, *(peers() if environments else ()), *own_systems(manifest)]
    measured = set(rows)
    rest = [pair for row, pair in enumerate(all_pairs) if row not in measured] or pairs
    longer, made = long_pairs(tokenizer, rest, long)
    short_set = _Set(pairs, token_lengths(tokenizer, pairs, manifest.max_length), marked)
    long_set = _Set(longer, token_lengths(tokenizer, longer, manifest.max_length) if longer else [])
    with tempfile.TemporaryDirectory() as folder:
        files = Files(str(checkpoint), str(bundle), str(Path(folder) / "onnx"), str(Path(folder) / "openvino"))
        if environments:
            _prepare_peers(files, _swapped(rest) if evidence_first else rest, say)
        theirs = _swapped([*pairs, *longer]) if evidence_first else None
        with Workers(files, pairs, environments, say, more=longer, others=theirs) as starting:
            opened = dict(zip((each.name for each in systems), starting.start_all(systems), strict=True))
            workers = {name: each for name, each in opened.items() if isinstance(each, Worker)}
            if REFERENCE.name not in workers:
                raise RuntimeError(f"the reference did not run: {opened[REFERENCE.name]}")
            meters = _meters(starting, config)
            say(f"Measuring {len(workers)} systems, {rounds} rounds of {len(pairs)} pairs")
            rates = _rates(meters)
            turns = take_turns(workers, rounds, REFERENCE.name, range(len(pairs)))
            limits = roofline.best([*rates, *_rates(meters)])
            model = _Model(manifest, config, limits)
            short: dict[str, Any] = {
                "reference": REFERENCE.name,
                "systems": [_result(each, opened[each.name], turns, short_set, model) for each in systems],
            }
            for each in short["systems"]:
                if each["ours"] and "error" not in each and (whole := workers[each["name"]].run()) is not None:
                    each["stages"] = stages(whole, len(pairs))
            second: dict[str, Any] = {}
            if longer:
                say(f"Measuring {len(longer)} long pairs")
                fast = {REFERENCE.name, *(each["name"] for each in best_peers(short).values())}
                chosen = [each for each in systems if each.name in workers and (each.ours or each.name in fast)]
                places = range(len(pairs), len(pairs) + len(longer))
                compared = {each.name: workers[each.name] for each in chosen}
                of_long = take_turns(compared, LONG_ROUNDS, REFERENCE.name, places)
                second["long"] = {
                    "data": long_set.description(pairs_file) | {"made": made},
                    "rounds": LONG_ROUNDS,
                    "systems": [_result(each, workers[each.name], of_long, long_set, model) for each in chosen],
                }
    scores = {
        name: np.round(activate(manifest.activation, found[0].logits)[:MAX_SCATTER_POINTS, 0], 6).tolist()
        for name, found in turns.items()
        if found
    }
    least = operations(config, short_set.lengths, first_row_only=True)
    for each in limits.values():
        if least is not None:
            each["pairs_per_second"] = each["operations_per_second"] / (least / len(pairs))
    return {
        "environment": environment(),
        "checkpoint": manifest.source.name,
        "model": {"type": manifest.model_type, "layers": config.get("num_hidden_layers", config.get("n_layers"))},
        "data": short_set.description(pairs_file) | {"labels": marked is not None},
        "rounds": rounds,
        "statistic": "mean",
        **short,
        **second,
        "limits": limits,
        "padding": padding_by_policy(short_set.lengths, [len(a) + len(b) for a, b in pairs], CPU_TOKEN_BUDGET),
        "scores": scores,
    }


def failures(result: Mapping[str, Any]) -> list[str]:
    """What no result may show: a broken promise of ours, or a system that is faster than the machine's limit."""
    sets = [("", result["systems"]), (" on long pairs", result.get("long", {}).get("systems", []))]
    found = []
    for where, systems in sets:
        for each in systems:
            if each["ours"] and each.get("violations"):
                found.append(f"{each['name']} breaks its promise{where}: {'; '.join(each['violations'])}")
            if each.get("limit_share", 0) > 1:
                found.append(
                    f"{each['name']} reached {each['limit_share']:.0%} of the limit{where}: something disturbed what "
                    "measured the limit, so measure again with nothing else running"
                )
    return found


def _result(
    system: System, worker: Worker | str, turns: Mapping[str, Turns], scored: _Set, model: _Model
) -> dict[str, Any]:
    result: dict[str, Any] = {"name": system.name, "tier": system.tier, "ours": system.ours}
    result |= dict(system.arguments) if system.ours else {}
    result |= {"note": system.note} if system.note else {}
    if isinstance(worker, Worker):
        result["versions"] = worker.versions
    if not turns.get(system.name):
        return result | {"error": worker if isinstance(worker, str) else worker.error}
    manifest, found, pairs = model.manifest, turns[system.name], scored.pairs
    tokens, reference = sum(scored.lengths), turns[REFERENCE.name]
    result |= figures(
        found, reference, pairs, tokens=tokens, activation=manifest.activation, promise=promise_of(system, manifest)
    )
    if scored.marked is not None and len(manifest.labels) == 1:
        result["ranking"] = dict(ranking_figures(pairs, scored.marked, found[0].logits[:, 0]))
    if system.ours and system.arguments["device"] == "cpu" and system.tier in model.limits:
        work = operations(model.config, scored.lengths, first_row_only=_narrowed(manifest))
        limit = model.limits[system.tier]["operations_per_second"]
        seconds = statistics.fmean(result["seconds"])
        result |= {"limit_share": work / seconds / limit} if work else {}
    return result


def _rates(meters: Mapping[str, Worker]) -> list[tuple[str, Mapping[str, float]]]:
    """What each library that measures the machine's rates says now."""
    runs = [(name, worker.run()) for name, worker in meters.items()]
    return [(name, run.statistics) for name, run in runs if run is not None]


def _meters(starting: Workers, config: dict[str, Any]) -> dict[str, Worker]:
    """The workers that measure the machine's rates, by library, where the configuration tells the model's shapes."""
    shapes = matrix_shapes(config)
    if shapes is None:
        return {}
    sizes = {"hidden": shapes[0], "inner": shapes[1], "threads": available_cores()}
    systems = [System(each, "fp32", True, "roofline.rates", {"library": each, **sizes}) for each in roofline.LIBRARIES]
    found = starting.start_all(systems)
    return {each.system.name: each for each in found if isinstance(each, Worker)}


def _prepare_peers(files: Files, pairs: Pairs, say: Say) -> None:
    """Make the files that peers load, and leave `pairs` for those that calibrate."""
    say("Making the ONNX files that peers load")
    Path(files.openvino).mkdir()
    (Path(files.openvino) / "calibration.json").write_text(json.dumps(pairs[:CALIBRATION_PAIRS]))
    system = System("preparation", "fp32", False, "prepare_onnx", {"int8_configuration": onnx_int8_configuration()})
    with Workers(files, pairs) as preparing:
        preparing.start(system)


def _swapped(pairs: Pairs) -> Pairs:
    """What a library is given that does not know that the model reads the evidence first."""
    return [(evidence, claim) for claim, evidence in pairs]


def _narrowed(manifest: Manifest) -> bool:
    """Whether the last layer computes the first token's row only; every variant is made of the fp32 graph."""
    notes = manifest.variants["fp32"].notes if "fp32" in manifest.variants else ()
    return any(note.startswith("first row only") and "not applied" not in note for note in notes)
