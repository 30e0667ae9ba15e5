"""How far two sets of scores are apart, and how far each precision may be.

The reference is always `sentence_transformers.CrossEncoder.predict` in fp32 on the same checkpoint.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pairscore.runtime.types import FloatArray


@dataclass(frozen=True)
class Tier:
    """The promise of a precision against the PyTorch reference. None: no promise.

    `max_batch_difference`: between a pair's logits when it is alone in a batch and when it is among others.
    """

    max_logit_difference: float | None = None
    max_score_difference: float | None = None
    min_spearman: float | None = None
    max_batch_difference: float | None = None


# Precision -> promise. "Score" is what comes out of the activation: a probability under sigmoid. bf16 keeps 8 bits of a
# number: pairs whose scores agree to a few thousandths change places, which costs 2e-4 of Spearman and moves no score.
TIERS: dict[str, Tier] = {
    "fp32": Tier(max_logit_difference=1e-4),
    "bf16": Tier(max_score_difference=0.03, min_spearman=0.9995),
    "fp16": Tier(max_score_difference=0.03, min_spearman=0.9999),
    "int8": Tier(max_score_difference=0.10, min_spearman=0.999, max_batch_difference=1e-5),
}


@dataclass(frozen=True)
class ParityReport:
    """Differences between a variant's outputs and the reference's, over `pairs` pairs and all labels.

    `max_logit_difference`, `mean_logit_difference`, `max_score_difference`: absolute. `spearman`: rank
    correlation of the logits, the lowest over the labels; None with fewer than two pairs or with constant
    logits. `top1_agreement`: share of claims with several pairs whose best pair is the same; None without
    such claims. `worst_pairs`: row numbers of the largest logit differences, largest first. `batch_difference`: the
    largest between a pair's logits alone and among others; None where that was not measured.
    """

    pairs: int
    max_logit_difference: float
    mean_logit_difference: float
    max_score_difference: float
    spearman: float | None
    top1_agreement: float | None
    worst_pairs: tuple[int, ...]
    batch_difference: float | None = None

    def violations(self, tier: Tier) -> list[str]:
        """The broken promises, each as `name value (promised bound)`; empty when all are kept.

        A NaN never keeps a promise.
        """
        found = []
        for name, bound in (
            ("max_logit_difference", tier.max_logit_difference),
            ("max_score_difference", tier.max_score_difference),
            ("batch_difference", tier.max_batch_difference),
        ):
            value = getattr(self, name)
            if bound is not None and value is not None and not value <= bound:
                found.append(f"{name} {value:.3g} (promised at most {bound:g})")
        if tier.min_spearman is not None and self.spearman is not None and not self.spearman >= tier.min_spearman:
            found.append(f"spearman {self.spearman:.6f} (promised at least {tier.min_spearman:g})")
        return found


def compare(
    logits: FloatArray,
    reference_logits: FloatArray,
    scores: FloatArray,
    reference_scores: FloatArray,
    claims: list[str] | None = None,
) -> ParityReport:
    """Compare a variant with its reference.

    logits, reference_logits, scores, reference_scores: Shape (pairs, labels). claims: one per pair, for
    the top-1 agreement of single-label models. Raises ValueError when the shapes differ.
    """
    shapes = {array.shape for array in (logits, reference_logits, scores, reference_scores)}
    if len(shapes) != 1 or logits.ndim != 2:
        raise ValueError(f"expected four arrays of one shape (pairs, labels), got {sorted(shapes)}")
    difference = np.abs(logits.astype(np.float64) - reference_logits)
    # Two infinities of one sign are equal, though their difference is NaN.
    difference[logits == reference_logits] = 0.0
    score_difference = np.abs(scores.astype(np.float64) - reference_scores)
    score_difference[scores == reference_scores] = 0.0
    per_pair = np.where(np.isnan(difference), np.inf, difference).max(axis=1, initial=0.0)
    correlations = [spearman(logits[:, label], reference_logits[:, label]) for label in range(logits.shape[1])]
    known = [value for value in correlations if value is not None]
    return ParityReport(
        pairs=len(logits),
        max_logit_difference=float(difference.max(initial=0.0)),
        mean_logit_difference=float(difference.mean()) if difference.size else 0.0,
        max_score_difference=float(score_difference.max(initial=0.0)),
        spearman=min(known) if known else None,
        top1_agreement=_top1_agreement(logits, reference_logits, claims),
        worst_pairs=tuple(int(row) for row in np.argsort(-per_pair, kind="stable")[:5]),
    )


def spearman(x: npt.NDArray[np.floating], y: npt.NDArray[np.floating]) -> float | None:
    """Spearman's rank correlation with average ranks for ties; None where it is not defined.

    x, y: Shape (n,). A NaN in either gives NaN.
    """
    if len(x) < 2:
        return None
    if np.isnan(x).any() or np.isnan(y).any():
        return float("nan")
    ranks_x, ranks_y = average_ranks(x), average_ranks(y)
    ranks_x -= ranks_x.mean()
    ranks_y -= ranks_y.mean()
    norm = np.sqrt((ranks_x @ ranks_x) * (ranks_y @ ranks_y))
    return float(ranks_x @ ranks_y / norm) if norm > 0 else None


def average_ranks(x: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Ranks from 1, equal values sharing their average rank. x: Shape (n,)."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    average: npt.NDArray[np.float64] = last - (counts - 1) / 2.0
    return average[inverse]


def _top1_agreement(logits: FloatArray, reference: FloatArray, claims: list[str] | None) -> float | None:
    if claims is None or logits.shape[1] != 1:
        return None
    rows_of: dict[str, list[int]] = {}
    for row, claim in enumerate(claims):
        rows_of.setdefault(claim, []).append(row)
    several = [rows for rows in rows_of.values() if len(rows) > 1]
    if not several:
        return None
    same = sum(int(np.argmax(logits[rows, 0])) == int(np.argmax(reference[rows, 0])) for rows in several)
    return same / len(several)
