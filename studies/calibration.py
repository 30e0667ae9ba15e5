"""Calibrate the shipped model on half of the dev claims' candidates, and judge it on those of the other half.

Candidates are those of `pairscore evaluate`: BM25's best 50 sentences of the dev files, plus the relevant ones. A
bundle given with --bundle holds the precisions; it is copied, and the copy is calibrated. Run: python -m
studies.calibration --bundle out/bundle --checkpoint models/climate-claims-minilm-l6 --pairs dev.parquet --output FILE
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.types import Pair
from pairscore.training.annotations import read_annotations
from pairscore.training.calibration.fit import calibrate, figures
from pairscore.training.evaluate import reranking_evaluator
from studies.harness import study_options, study_result, write_result


def candidates(file: Path) -> tuple[list[Pair], list[bool]]:
    """Every candidate of every claim, and whether it is relevant."""
    annotations = read_annotations([file])
    pairs: list[Pair] = []
    relevant: list[bool] = []
    for sample in reranking_evaluator(annotations, annotations.evidence).samples:
        for document in dict.fromkeys([*sample["positive"], *sample["documents"]]):
            pairs.append((sample["query"], document))
            relevant.append(document in sample["positive"])
    return pairs, relevant


def halves(pairs: list[Pair]) -> list[bool]:
    """Whether a pair's claim is one of the first half, in an order drawn once."""
    claims = list(dict.fromkeys(claim for claim, _ in pairs))
    first = {claims[place] for place in np.random.default_rng(0).permutation(len(claims))[: len(claims) // 2]}
    return [claim in first for claim, _ in pairs]


def judged(bundle: Path, precision: str, pairs: list[Pair], relevant: list[bool]) -> dict[str, Any]:
    """The figures of one precision, fitted to the first half and judged on the second."""
    fitted = halves(pairs)
    mine = [row for row, inside in enumerate(fitted) if inside]
    rest = [row for row, inside in enumerate(fitted) if not inside]
    found = calibrate(bundle, [pairs[row] for row in mine], [relevant[row] for row in mine], precision=precision)
    truth = np.array([relevant[row] for row in rest], dtype=np.int64)
    scores = {
        name: Scorer.from_pretrained(bundle, precision=precision, activation=name).predict([pairs[row] for row in rest])
        for name in ("checkpoint", "calibrated")
    }
    same_order = np.array_equal(*(np.argsort(each, kind="stable") for each in scores.values()))
    return {
        "slope": found.scaling.slope,
        "intercept": found.scaling.intercept,
        "fitted_pairs": len(mine),
        "judged_pairs": len(rest),
        "same_order": bool(same_order),
        "before": figures(scores["checkpoint"][:, None], truth),
        "after": figures(scores["calibrated"][:, None], truth),
    }


def main() -> None:
    parser = study_options(__doc__)
    parser.add_argument("--bundle", required=True, type=Path)
    options = parser.parse_args()
    pairs, relevant = candidates(options.pairs)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(options.bundle, Path(folder) / "bundle"))
        for precision in Bundle.open(copy).manifest.variants:
            found[precision] = judged(copy, precision, pairs, relevant)
            print(precision, found[precision], flush=True)
    data = {"claims": len({claim for claim, _ in pairs}), "pairs": len(pairs), "relevant": sum(relevant)}
    write_result(options.output, study_result(options, data, precisions=found))


if __name__ == "__main__":
    main()
