"""`pairscore calibrate`: scores that are probabilities, fitted to pairs whose labels are known.

The map from logit to probability has one slope and, for one label, an intercept: see `Scaling`. It is fitted by maximum
likelihood with scikit-learn and SciPy. The figures come from folds of claims that the fit had not seen.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pairscore.runtime.bundle.activation import Scaling, activate, scaled
from pairscore.runtime.bundle.manifest import MANIFEST_NAME, Bundle
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.storage.local import LocalStorage
from pairscore.runtime.types import FloatArray, Int64Array, Pair

FOLDS = 5
BINS = 15
# Fewer give a map that other pairs would change visibly.
LEAST_CLAIMS = 2 * FOLDS
LEAST_OF_A_LABEL = 20
TARGETS = (0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Bin:
    """Pairs whose probability lies in one of `BINS` equal ranges: their number, mean probability, and share that is
    true.
    """

    pairs: int
    probability: float
    share: float


@dataclass(frozen=True)
class Threshold:
    """Of the pairs whose probability of `label` is at least `score`, `precision` are true: `recall` of all true ones.

    `wanted`: what it was chosen for, "precision 0.9" for example. `score` is None where no threshold gives that.
    """

    label: str
    wanted: str
    score: float | None
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class CalibrationReport:
    """The fit, and how far scores are from the shares of true pairs before and after it, on held-out folds.

    `scaling.before`, `scaling.after`: log loss, Brier score and expected calibration error.
    """

    bundle: str
    precision: str
    claims: int
    labels: dict[str, int]
    scaling: Scaling
    bins_before: tuple[Bin, ...]
    bins_after: tuple[Bin, ...]
    thresholds: tuple[Threshold, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def calibrate_bundle(
    bundle: str | Path,
    pairs: Sequence[Pair],
    labels: Sequence[bool] | Sequence[str],
    *,
    precision: str = "fp32",
    engine: str = "auto",
    device: str = "cpu",
    precisions: Sequence[float] = TARGETS,
    recalls: Sequence[float] = TARGETS,
) -> CalibrationReport:
    """Fit a variant's scores to labels and keep the fit in the bundle, for `activation="calibrated"`.

    labels: one a pair; of a model with one label whether the pair is true, else the name of its label. `precisions`,
    `recalls`: what thresholds are wanted for. An earlier fit of this variant is replaced. Raises PairscoreError for too
    few labels, for a label that the model does not have, and for scores that do not rise with the labels.
    """
    opened = Bundle.open(bundle)
    names = opened.manifest.labels
    truth = _truth(labels, names)
    folds = _folds(pairs, truth, names)
    scorer = Scorer.from_pretrained(bundle, precision=precision, engine=engine, device=device, activation="identity")
    logits = np.asarray(scorer.predict(list(pairs)), dtype=np.float32).reshape(len(pairs), len(names))
    slope, intercept = fit(logits, truth)
    held_out = np.empty_like(logits)
    for fold in range(FOLDS):
        rest = folds != fold
        held_out[~rest] = scaled(*fit(logits[rest], truth[rest]), logits[~rest])
    before = _probabilities(opened.manifest.activation, logits)
    scaling = Scaling(
        slope, intercept, len(pairs), probability_errors(before, truth), probability_errors(held_out, truth)
    )
    _keep(opened, precision, scaling)
    counts = Counter(truth.tolist())
    return CalibrationReport(
        bundle=str(bundle),
        precision=precision,
        claims=len({claim for claim, _ in pairs}),
        labels={name: counts[place] for place, name in enumerate(_outcomes(names))},
        scaling=scaling,
        bins_before=reliability(before, truth),
        bins_after=reliability(held_out, truth),
        thresholds=thresholds(scaled(slope, intercept, logits), truth, names, precisions, recalls),
    )


def fit(logits: FloatArray, truth: Int64Array) -> tuple[float, float]:
    """Slope and intercept of the most likely `Scaling`. logits: Shape (pairs, labels). truth: Shape (pairs,).

    truth: of one label 1 or 0, else the place of the pair's label.
    """
    x = logits.astype(np.float64)
    if logits.shape[1] == 1:
        from sklearn.linear_model import LogisticRegression

        # No penalty to speak of: `penalty=None` has another spelling in each release.
        fitted = LogisticRegression(C=1e12, max_iter=1000).fit(x, truth)
        slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    else:
        from scipy.optimize import minimize_scalar

        def loss(log_slope: float) -> float:
            z = np.exp(log_slope) * x
            return float((np.logaddexp.reduce(z, axis=1) - z[np.arange(len(z)), truth]).mean())

        found: Any = minimize_scalar(loss, bounds=(-7, 7), method="bounded")
        slope, intercept = float(np.exp(found.x)), 0.0
    if not slope > 0:
        raise PairscoreError(
            "the model's scores fall as the labels rise, so no map that keeps their order makes them probabilities: "
            "check that --label-column marks what the model scores"
        )
    return slope, intercept


def probability_errors(probabilities: FloatArray, truth: Int64Array) -> dict[str, float]:
    """Log loss, Brier score (the mean squared distance over the outcomes) and expected calibration error.

    probabilities: Shape (pairs, labels). The error is the mean distance between a range's mean probability and its
    share of true pairs; of several labels, of the most likely one's.
    """
    p = probabilities.astype(np.float64)
    rows = np.arange(len(p))
    if p.shape[1] == 1:
        given = np.where(truth == 1, p[:, 0], 1 - p[:, 0])
        brier = (p[:, 0] - truth) ** 2
    else:
        given = p[rows, truth]
        brier = ((p - np.eye(p.shape[1])[truth]) ** 2).sum(axis=1)
    total = sum(each.pairs for each in reliability(probabilities, truth))
    error = sum(each.pairs * abs(each.probability - each.share) for each in reliability(probabilities, truth)) / total
    return {
        "log loss": float(-np.log(np.maximum(given, np.finfo(np.float32).tiny)).mean()),
        "Brier score": float(brier.mean()),
        "expected calibration error": float(error),
    }


def reliability(probabilities: FloatArray, truth: Int64Array) -> tuple[Bin, ...]:
    """The ranges that hold a pair, from the lowest. Of several labels, of the most likely one."""
    p = probabilities.astype(np.float64)
    top, true = p.max(axis=1), (truth == 1 if p.shape[1] == 1 else p.argmax(axis=1) == truth)
    places = np.minimum((top * BINS).astype(np.int64), BINS - 1)
    return tuple(
        Bin(int(mine.sum()), float(top[mine].mean()), float(true[mine].mean()))
        for mine in (places == place for place in range(BINS))
        if mine.any()
    )


def thresholds(
    probabilities: FloatArray,
    truth: Int64Array,
    names: Sequence[str],
    precisions: Sequence[float],
    recalls: Sequence[float],
) -> tuple[Threshold, ...]:
    """For each label, the lowest threshold of each wanted precision, and the highest one of each wanted recall."""
    from sklearn.metrics import precision_recall_curve

    found: list[Threshold] = []
    for place, name in enumerate(names):
        true = truth == (1 if len(names) == 1 else place)
        precision, recall, scores = precision_recall_curve(true, probabilities[:, place])
        precision, recall = precision[:-1], recall[:-1]  # behind the last threshold nothing is left
        wanted = [(f"precision {value:g}", np.flatnonzero(precision >= value)[:1]) for value in precisions]
        wanted += [(f"recall {value:g}", np.flatnonzero(recall >= value)[-1:]) for value in recalls]
        for text, rows in wanted:
            values = [float(array[rows[0]]) if len(rows) else None for array in (scores, precision, recall)]
            found.append(Threshold(name, text, *values))
    return tuple(found)


def _outcomes(names: Sequence[str]) -> Sequence[str]:
    return ("false", "true") if len(names) == 1 else names


def _truth(labels: Sequence[bool] | Sequence[str], names: Sequence[str]) -> Int64Array:
    """Shape (pairs,): 1 or 0 for one label, else the place of the pair's label."""
    if len(names) == 1:
        return np.array([bool(label) for label in labels], dtype=np.int64)
    unknown = next((label for label in labels if label not in names), None)
    if unknown is not None:
        raise PairscoreError(f"the label {unknown!r:.80} is none of this model's, {', '.join(names)}: rename it")
    return np.array([list(names).index(str(label)) for label in labels], dtype=np.int64)


def _folds(pairs: Sequence[Pair], truth: Int64Array, names: Sequence[str]) -> Int64Array:
    """The fold of each pair, Shape (pairs,): the pairs of a claim stay together. Raises PairscoreError for too few."""
    if len(pairs) != len(truth):
        raise PairscoreError(f"there are {len(pairs)} pairs and {len(truth)} labels: give one label a pair")
    counts = Counter(truth.tolist())
    claims = list(dict.fromkeys(claim for claim, _ in pairs))
    found = ", ".join(f"{counts[place]:,} {name}" for place, name in enumerate(_outcomes(names)))
    if len(claims) < LEAST_CLAIMS or any(counts[place] < LEAST_OF_A_LABEL for place in range(len(_outcomes(names)))):
        raise PairscoreError(
            f"too few labels to calibrate with: {found}, of {len(claims)} claims; at least {LEAST_OF_A_LABEL} of each, "
            f"of at least {LEAST_CLAIMS} claims, are needed: annotate more pairs"
        )
    order = np.random.default_rng(0).permutation(len(claims))
    fold_of = {claim: int(place) % FOLDS for claim, place in zip(claims, order, strict=True)}
    folds = np.array([fold_of[claim] for claim, _ in pairs])
    for fold in range(FOLDS):
        if len(set(truth[folds != fold].tolist())) < len(_outcomes(names)):
            raise PairscoreError(
                f"one claim holds nearly all pairs of a label ({found}): annotate pairs of more claims"
            )
    return folds


def _probabilities(activation: str, logits: FloatArray) -> FloatArray:
    """The scores that the bundle gave so far; where these are no probabilities, the sigmoid's or the softmax's."""
    if logits.shape[1] > 1:
        return activate("softmax", logits)
    return activate("sigmoid" if activation in ("identity", "tanh") else activation, logits)


def _keep(bundle: Bundle, precision: str, scaling: Scaling) -> None:
    """Write the manifest with the fit, at once."""
    variant = replace(bundle.variant(precision), scaling=scaling)
    manifest = replace(bundle.manifest, variants={**bundle.manifest.variants, precision: variant})
    path = bundle.folder / MANIFEST_NAME
    try:
        LocalStorage().write(str(path.absolute()), manifest.to_json().encode(), str(bundle.folder.absolute()))
    except OSError as error:
        raise PairscoreError(
            f"cannot write {str(path)!r} ({error.strerror}): calibrate a copy of the bundle that you may change"
        ) from error
