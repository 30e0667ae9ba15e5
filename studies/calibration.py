"""Calibrate the shipped model on half of the dev claims' pairs, and judge it on those of the other half.

Pairs are the candidates of `pairscore evaluate` (BM25's best 50 sentences of the dev files, plus the relevant ones),
and in a second part the annotated pairs alone, all of which are near their claim. The bundle is copied, and the copy is
calibrated. Run it with: python -m studies.calibration --bundle out/bundle --checkpoint models/climate-claims-minilm-l6
--pairs dev.parquet --output FILE
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pairscore.runtime.bundle.activation import CALIBRATED, CHECKPOINT, choose_activation
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.types import Pair
from pairscore.training.annotations import read_annotations
from pairscore.training.calibration.fit import calibrate_bundle, probability_errors
from pairscore.training.evaluate import reranking_evaluator
from studies.harness import study_options, study_result, write_result


def candidates(file: Path) -> tuple[list[Pair], list[bool]]:
    """Every candidate of every claim, and whether it is relevant."""
    annotations = read_annotations([file])
    pairs: list[Pair] = []
    relevant: list[bool] = []
    samples: list[Any] = reranking_evaluator(annotations, annotations.evidence).samples
    for sample in samples:
        for document in dict.fromkeys([*sample["positive"], *sample["documents"]]):
            pairs.append((sample["query"], document))
            relevant.append(document in sample["positive"])
    return pairs, relevant


def annotated(file: Path) -> tuple[list[Pair], list[bool]]:
    """The annotated pairs alone."""
    claims = read_annotations([file]).claims
    pairs = [(claim.text, sentence) for claim in claims for sentence in (*claim.relevant, *claim.irrelevant)]
    return pairs, [sentence in claim.relevant for claim in claims for sentence in (*claim.relevant, *claim.irrelevant)]


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
    found = calibrate_bundle(bundle, [pairs[row] for row in mine], [relevant[row] for row in mine], precision=precision)
    truth = np.array([relevant[row] for row in rest], dtype=np.int64)
    scorer = Scorer.from_pretrained(bundle, precision=precision, activation="identity")
    logits = scorer.predict([pairs[row] for row in rest])[:, None]
    own, scaling = scorer.bundle.manifest.activation, scorer.bundle.variant(precision).scaling
    before, after = (choose_activation(name, own, scaling)(logits) for name in (CHECKPOINT, CALIBRATED))
    return {
        "slope": found.scaling.slope,
        "intercept": found.scaling.intercept,
        "fitted_pairs": len(mine),
        "judged_pairs": len(rest),
        "same_order": bool((np.diff(after[np.argsort(logits[:, 0]), 0]) >= 0).all()),
        "before": probability_errors(before, truth),
        "after": probability_errors(after, truth),
    }


def main() -> None:
    """Measure and write the JSON."""
    options = study_options(__doc__).parse_args()
    kinds = {"candidates": candidates(options.pairs), "annotated": annotated(options.pairs)}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(options.bundle, Path(folder) / "bundle"))
        for kind, (pairs, relevant) in kinds.items():
            counts = {"claims": len({claim for claim, _ in pairs}), "pairs": len(pairs), "relevant": sum(relevant)}
            found[kind] = {**counts, "precisions": {}}
            for precision in Bundle.open(copy).manifest.variants:
                found[kind]["precisions"][precision] = judged(copy, precision, pairs, relevant)
                print(kind, precision, found[kind]["precisions"][precision], flush=True)
    write_result(options.output, study_result(options, {}, kinds=found))


if __name__ == "__main__":
    main()
