"""The same checkpoint by each exporter: are the graphs equally fast, and equally exact?

    python -m studies.exporters BUNDLE... --pairs FILE --limit 200 --rounds 5 --output FILE.json

`pairscore export` made every bundle from the same checkpoint, each in the environment that its exporter needs. All run
here, in one process, in turns, and the others are compared with the first.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pairscore.benchmarks.environment import environment
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.pairs_file import read_pairs
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.types import Pair

# precision, engine; of int8, the engine that the gate chose.
_SYSTEMS = (("fp32", "onnxruntime"), ("fp32", "openvino"), ("int8", "auto"))


def compare(bundles: Sequence[Path], pairs: list[Pair], rounds: int) -> list[dict[str, Any]]:
    """One record a bundle: who exported it, and for each precision and engine its rate, ratio and differences.

    `ratio`: of rates, to the first bundle's. Rates are by processor time, so that other work on the machine matters
    little, and of the fastest of `rounds` interleaved runs. Raises ValueError for bundles of different checkpoints.
    """
    opened = [Bundle.open(bundle) for bundle in bundles]
    if len({each.manifest.source.digest for each in opened}) > 1:
        raise ValueError("the bundles are of different checkpoints: export one checkpoint with each exporter")
    scorers = {
        (place, *system): Scorer.from_pretrained(bundle.folder, precision=system[0], engine=system[1], tuning=False)
        for place, bundle in enumerate(opened)
        for system in _SYSTEMS
        if system[0] in bundle.manifest.variants
    }
    logits = {key: np.asarray(scorer.predict(pairs, activation="identity")) for key, scorer in scorers.items()}
    seconds = dict.fromkeys(scorers, float("inf"))
    for turn in range(rounds):
        keys = list(scorers)
        for key in keys[turn % len(keys) :] + keys[: turn % len(keys)]:
            started = time.process_time()
            scorers[key].predict(pairs, activation="identity")
            seconds[key] = min(seconds[key], time.process_time() - started)
    return [
        _exported_by(bundle)
        | {
            "systems": [
                {
                    "precision": precision,
                    "engine": scorers[key].engine.name,
                    "pairs_per_processor_second": len(pairs) / seconds[key],
                    "ratio": seconds[0, precision, engine] / seconds[key],
                    "max_logit_difference": float(np.abs(logits[key] - logits[0, "fp32", "onnxruntime"]).max()),
                }
                for key in scorers
                for _, precision, engine in [key]
                if key[0] == place and (0, precision, engine) in scorers
            ]
        }
        for place, bundle in enumerate(opened)
    ]


def _exported_by(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    variant = manifest.variants["fp32"]
    graph = onnx.load(str(bundle.graph(variant)), load_external_data=False)
    return {
        "exporter": variant.notes[0],
        "rewrites": list(variant.notes[1:]),
        "transformers": manifest.versions["transformers"],
        "nodes": sum(node.op_type != "Constant" for node in graph.graph.node),
        "max_logit_difference_to_pytorch": variant.parity.max_logit_difference,
    }


def main() -> None:
    """Run the study and write its JSON."""
    parser = argparse.ArgumentParser(description="Speed and parity of one checkpoint's bundles by several exporters.")
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    pairs = read_pairs(options.pairs, "claim", "evidence", options.limit)
    result = {
        "bundles": compare(options.bundles, pairs, options.rounds),
        "source": Bundle.open(options.bundles[0]).manifest.source.name,
        "data": {"file": options.pairs.name, "pairs": len(pairs)},
        "rounds": options.rounds,
        "load": load,
        "environment": environment(),
    }
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
