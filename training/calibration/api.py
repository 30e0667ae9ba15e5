"""`calibrate`: the command of this name, from Python. scikit-learn is imported when it is called."""

from collections.abc import Sequence
from pathlib import Path

from pairscore.runtime.arguments import python_call
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.machine import require_modules
from pairscore.runtime.pairs_file import Pairs, given_pairs, read_label_names, read_labels, read_pairs
from pairscore.runtime.types import Pair
from pairscore.training.calibration.fit import TARGETS, CalibrationReport, calibrate_bundle


@python_call()
def calibrate(
    bundle: str | Path,
    pairs: Pairs,
    labels: Sequence[bool] | Sequence[str] | None = None,
    *,
    claim_column: str = "claim",
    evidence_column: str = "evidence",
    label_column: str = "relevant",
    precision: str = "fp32",
    engine: str = "auto",
    device: str = "cpu",
    want_precision: Sequence[float] = TARGETS,
    want_recall: Sequence[float] = TARGETS,
) -> CalibrationReport:
    """Fit a bundle's scores to pairs whose labels are known, and keep the fit for `activation="calibrated"`.

    `pairs`: a list of (claim, evidence) with `labels`, one a pair, or a Parquet file that has the labels in
    `label_column`: truth values, or of a model with several labels their names. `precision`: the bundle's variant that
    is fitted. `want_precision`, `want_recall`: what thresholds are wanted for.

    Raises PairscoreError for too few labels, for a label that the model does not have, and for scores that do not rise
    with the labels. An earlier fit of this variant is replaced.
    """
    require_modules(("sklearn",), "calibrating", "train")
    if isinstance(pairs, str | Path):
        if labels is not None:
            raise PairscoreError("labels of a file stand in its label_column: leave out labels")
        pairs, labels = read_labelled_pairs(bundle, Path(pairs), claim_column, evidence_column, label_column)
    elif labels is None:
        raise PairscoreError("pairs without labels: give labels, one a pair, or a Parquet file that has them")
    else:
        pairs = given_pairs(pairs, claim_column, evidence_column)
    return calibrate_bundle(
        bundle,
        pairs,
        labels,
        precision=precision,
        engine=engine,
        device=device,
        precisions=want_precision,
        recalls=want_recall,
    )


def read_labelled_pairs(
    bundle: str | Path, file: Path, claim_column: str, evidence_column: str, label_column: str
) -> tuple[Sequence[Pair], Sequence[bool] | Sequence[str]]:
    """The pairs of a Parquet file and the label of each: a truth value, or a name where the bundle has several."""
    pairs = read_pairs(file, claim_column, evidence_column)
    if len(Bundle.open(bundle).manifest.labels) > 1:
        return pairs, read_label_names(file, label_column)
    return pairs, read_labels(file, label_column)
