"""How relevant a bi-encoder finds the evidence of claim-evidence pairs, as a probability.

A sentence embedding model that becomes a cross-encoder starts with a head that knows nothing. Its own cosine
similarities rank evidence well from the first step, so they can stand in for a share of the labels
(self-distillation; Hinton, Vinyals and Dean 2015, arXiv 1503.02531).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression


@dataclass(frozen=True)
class CosineFit:
    """p = 1 / (1 + exp(-(slope * cosine + intercept)))."""

    slope: float
    intercept: float

    def probabilities(self, cosines: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Cosine similarities as probabilities."""
        return 1.0 / (1.0 + np.exp(-(self.slope * cosines + self.intercept)))


def cosines(start: str, pairs: Sequence[Sequence[str]], show_progress: bool) -> npt.NDArray[np.float64]:
    """Cosine similarity of the two texts of each pair. Shape (pairs,). `start`: the folder of a bi-encoder."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    vectors = SentenceTransformer(start).encode(texts, normalize_embeddings=True, show_progress_bar=show_progress)
    place = {text: row for row, text in enumerate(texts)}
    first, second = ([place[pair[side]] for pair in pairs] for side in (0, 1))
    similarity: npt.NDArray[np.float64] = np.einsum("ij,ij->i", vectors[first], vectors[second], dtype=np.float64)
    return similarity


def fit_cosines(cosine: npt.NDArray[np.float64], labels: npt.NDArray[np.float64]) -> CosineFit:
    """Fit the probability that a pair is relevant to its cosine, by logistic regression (Platt 1999).

    cosine, labels: Shape (samples,); labels are 0 or 1, both present.
    """
    fitted = LogisticRegression(C=100.0).fit(cosine.reshape(-1, 1), labels.astype(np.int64))
    return CosineFit(float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))
