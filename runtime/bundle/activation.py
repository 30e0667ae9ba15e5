"""Logits to scores, as the checkpoint's activation says or the user."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.types import FloatArray

ACTIVATIONS = ("sigmoid", "identity", "tanh", "softmax")
# Names that a user may give beside these: the bundle's own, and the one that `pairscore calibrate` fitted.
CHECKPOINT = "checkpoint"
CALIBRATED = "calibrated"


@dataclass(frozen=True)
class Scaling:
    """What `pairscore calibrate` fitted.

    A probability is the sigmoid of `slope` * logit + `intercept` (Platt 1999), or, of several labels, the softmax of
    `slope` * logits (temperature scaling; Guo et al. 2017, arXiv 1706.04599).

    `pairs`: that it was fitted to. `before`, `after`: figure -> value on held-out pairs, with the activation that the
    bundle had and with this one.
    """

    slope: float
    intercept: float
    pairs: int
    before: Mapping[str, float]
    after: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.slope > 0:
            raise ValueError(f"slope is {self.slope}: only one above 0 keeps the order of scores")


@dataclass(frozen=True)
class Activation:
    """What turns logits into scores. `name`: one of `ACTIVATIONS`, or `CALIBRATED` with a `scaling`."""

    name: str
    scaling: Scaling | None = None

    def __call__(self, logits: FloatArray) -> FloatArray:
        """Logits to scores, both of Shape (pairs, labels)."""
        if self.scaling is None:
            return activate(self.name, logits)
        return scaled(self.scaling.slope, self.scaling.intercept, logits)

    def lowest(self, scores: npt.NDArray[np.float64], distance: float) -> npt.NDArray[np.float64]:
        """The lowest score of a logit at most `distance` below one that has the score, of one label. -inf stays.

        Scores that round to 0 or 1 stand for many logits: none of them is passed over.
        """
        slope = self.scaling.slope if self.scaling else 1.0
        if self.name == "identity":
            return rounded_down(scores - distance)
        below = np.clip(rounded_down(scores), -1.0 if self.name == "tanh" else 1e-300, 1.0)
        with np.errstate(divide="ignore"):
            if self.name == "tanh":
                lowest = np.tanh(np.arctanh(below) - distance)
            else:
                lowest = 1.0 / (1.0 + np.exp(distance * slope + np.log1p(-below) - np.log(below)))
        return np.where(np.isneginf(scores), scores, rounded_down(lowest))

    def __str__(self) -> str:
        scaling = self.scaling
        return self.name if scaling is None else f"{self.name} {scaling.slope!r} {scaling.intercept!r}"

    def unless(self, own: str) -> str | None:
        """Its text, or None where it is a bundle's own: as run records have it."""
        return None if str(self) == own else str(self)


def choose_activation(asked: str | None, own: str, scaling: Scaling | None = None) -> Activation:
    """The activation that was asked for; None for the bundle's `own`. scaling: the variant's, where it has one.

    Raises PairscoreError for an unknown name, and for a scaling that nobody fitted.
    """
    if asked == CALIBRATED:
        if scaling is None:
            raise PairscoreError(
                "this precision of the bundle has not been calibrated: do it with `pairscore calibrate BUNDLE "
                "--precision PRECISION --pairs FILE`, or choose another activation"
            )
        return Activation(CALIBRATED, scaling)
    name = own if asked is None or asked == CHECKPOINT else asked
    if name not in ACTIVATIONS:
        raise PairscoreError(f"unknown activation {name!r}: use {', '.join((*ACTIVATIONS, CHECKPOINT, CALIBRATED))}")
    return Activation(name)


def scaled(slope: float, intercept: float, logits: FloatArray) -> FloatArray:
    """The probabilities of a `Scaling`, Shape (pairs, labels), from logits of the same shape."""
    x = slope * logits.astype(np.float64) + intercept
    return _in_double("sigmoid" if logits.shape[1] == 1 else "softmax", x).astype(np.float32)


def rounded_down(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Two units of float32 below: less than any rounding of a score."""
    lower = np.float32(-np.inf)
    return np.nextafter(np.nextafter(scores.astype(np.float32), lower), lower).astype(np.float64)


def activate(name: str, logits: FloatArray) -> FloatArray:
    """Scores of Shape (pairs, labels) from logits of the same shape.

    Computed in double precision and rounded once, so that the result is within one unit in the last place
    of any correct float32 implementation. Raises PairscoreError for an unknown name.
    """
    return logits if name == "identity" else _in_double(name, logits.astype(np.float64)).astype(np.float32)


def _in_double(name: str, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    scores: npt.NDArray[np.float64]
    match name:
        case "sigmoid":
            # exp of a negative number only: no overflow at either end.
            decay = np.exp(-np.abs(x))
            scores = np.where(x >= 0, 1.0, decay) / (1.0 + decay)
        case "tanh":
            scores = np.tanh(x)
        case "softmax":
            weights = np.exp(x - x.max(axis=1, keepdims=True, initial=-np.inf))
            scores = weights / weights.sum(axis=1, keepdims=True)
        case _:
            raise PairscoreError(f"unknown activation {name!r}: use {', '.join(ACTIVATIONS)}")
    return scores
