"""Scoring as a step of a Spark job."""

from pairscore.runtime.integrations.spark import score

__all__ = ["score"]
