"""Training samples: each claim's relevant evidence and 12 negatives, half of them hard.

A negative is a sentence that nobody annotated for the claim. Hard ones are drawn from BM25's best
`HARD_RANKS` sentences, the others from all the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pairscore.runtime.errors import PairscoreError
from pairscore.training.annotations import Annotations, Claim
from pairscore.training.bm25 import Bm25

NEGATIVES = 12
HARD_NEGATIVES = 6
HARD_RANKS = 50


@dataclass(frozen=True)
class Sample:
    """One claim-evidence pair and its label: in [0, 1], or the place of one of several labels."""

    claim: str
    evidence: str
    label: float


class NegativeSampler:
    """Draws the negatives of annotated claims.

    The same seed and epoch give the same ones; another epoch gives others.
    """

    def __init__(self, annotations: Annotations, seed: int) -> None:
        self._annotations = annotations
        self._seed = seed
        self._hard = _hard_candidates(annotations)

    def epoch(self, epoch: int) -> list[Sample]:
        """All samples of an epoch, claim by claim: the relevant evidence, then hard, then random negatives.

        Raises PairscoreError when the files hold too few sentences to draw from.
        """
        generator = np.random.default_rng([self._seed, epoch])
        samples: list[Sample] = []
        for claim, hard in zip(self._annotations.claims, self._hard, strict=True):
            negatives = _draw(claim, hard, self._annotations.evidence, generator)
            samples += [Sample(claim.text, sentence, 1.0) for sentence in claim.relevant]
            samples += [Sample(claim.text, sentence, 0.0) for sentence in negatives]
        expected = self._annotations.relevant_pairs + NEGATIVES * len(self._annotations.claims)
        if len(samples) != expected:
            raise RuntimeError(f"{len(samples)} samples were drawn, not {expected}")
        return samples


def _hard_candidates(annotations: Annotations) -> list[list[str]]:
    """For each claim BM25's best `HARD_RANKS` sentences that are not annotated for it."""
    ranking = Bm25(annotations.evidence)
    candidates = []
    for claim in annotations.claims:
        annotated = claim.annotated
        best = (annotations.evidence[place] for place in ranking.top(claim.text, HARD_RANKS + len(annotated)))
        candidates.append([sentence for sentence in best if sentence not in annotated][:HARD_RANKS])
    return candidates


def _draw(claim: Claim, hard: Sequence[str], pool: Sequence[str], generator: np.random.Generator) -> list[str]:
    taken = set(claim.annotated)
    available = len(pool) - len(taken)
    if available < NEGATIVES:
        raise PairscoreError(
            f"claim {claim.text[:80]!r} needs {NEGATIVES} sentences that are not annotated for it, and the files hold "
            f"{available}: give more annotated pairs"
        )
    places: list[int] = generator.choice(len(hard), HARD_NEGATIVES, replace=False).tolist()
    negatives = [hard[place] for place in places]
    taken.update(negatives)
    while len(negatives) < NEGATIVES:  # rejection: annotated sentences are a handful among thousands
        sentence = pool[int(generator.integers(len(pool)))]
        if sentence not in taken:
            taken.add(sentence)
            negatives.append(sentence)
    return negatives
