"""Logits to scores, as the checkpoint's activation says or the user."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.types import FloatArray

ACTIVATIONS = ("sigmoid", "identity", "tanh", "softmax")
# What names the bundle's own.
CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Activation:
    """What turns logits into scores. Calling it is `activate`. `name`: one of the manifest's activations."""

    name: str

    def __call__(self, logits: FloatArray) -> FloatArray:
        """Logits to scores, both of Shape (pairs, labels)."""
        return activate(self.name, logits)

    def __str__(self) -> str:
        return self.name

    def unless(self, own: str) -> str | None:
        """Its text, or None where it is a bundle's own: as run records have it."""
        return None if str(self) == own else str(self)


def choose_activation(asked: str | None, own: str) -> Activation:
    """The activation that was asked for; None for the bundle's `own`. Raises PairscoreError for an unknown name."""
    name = own if asked is None or asked == CHECKPOINT else asked
    if name not in ACTIVATIONS:
        raise PairscoreError(f"unknown activation {name!r}: use {', '.join((*ACTIVATIONS, CHECKPOINT))}")
    return Activation(name)


def activate(name: str, logits: FloatArray) -> FloatArray:
    """Scores of Shape (pairs, labels) from logits of the same shape.

    Computed in double precision and rounded once, so that the result is within one unit in the last place
    of any correct float32 implementation. Raises PairscoreError for an unknown name.
    """
    x = logits.astype(np.float64)
    scores: npt.NDArray[np.float64]
    match name:
        case "identity":
            return logits
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
            raise PairscoreError(f"unknown activation {name!r}: use sigmoid, identity, tanh or softmax")
    return scores.astype(np.float32)
