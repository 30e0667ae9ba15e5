"""Scoring as a step of a Ray Data pipeline."""

from pairscore.runtime.integrations.ray import ScorePairs, score

__all__ = ["ScorePairs", "score"]
