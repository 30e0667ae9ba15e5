"""How well scores rank the evidence of each claim, by sentence-transformers' own evaluator."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator

from pairscore.runtime.drop_in import NoModelCard
from pairscore.runtime.types import FloatArray, Pair

CUTOFF = 5


def ranking_figures(pairs: Sequence[Pair], labels: Sequence[bool], scores: FloatArray) -> Mapping[str, float]:
    """MAP, MRR@5 and NDCG@5 over the claims that have both relevant and other evidence; empty without such claims.

    pairs, labels: one a row. scores: Shape (pairs,), higher for more relevant.
    """
    samples: dict[str, dict[str, Any]] = {}
    for (claim, evidence), relevant in zip(pairs, labels, strict=True):
        sample = samples.setdefault(claim, {"query": claim, "positive": [], "negative": []})
        sample["positive" if relevant else "negative"].append(evidence)
    usable = [sample for sample in samples.values() if sample["positive"] and sample["negative"]]
    if not usable:
        return {}
    evaluator = CrossEncoderRerankingEvaluator(usable, at_k=CUTOFF, write_csv=False, always_rerank_positives=True)
    means = evaluator(cast(CrossEncoder, _Known(dict(zip(pairs, scores, strict=True)))))
    return {name: float(means[key]) for name, key in (("MAP", "map"), ("MRR@5", "mrr@5"), ("NDCG@5", "ndcg@5"))}


class _Known:
    """What the evaluator asks of a model, answered from scores that are there already."""

    model_card_data = NoModelCard()

    def __init__(self, scores: Mapping[Pair, float]) -> None:
        self._scores = scores

    def predict(self, pairs: Sequence[Sequence[str]], **_: Any) -> FloatArray:
        return np.array([self._scores[claim, evidence] for claim, evidence in pairs], dtype=np.float32)
