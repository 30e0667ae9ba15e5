"""Scoring as a function of DuckDB's SQL."""

from pairscore.runtime.integrations.duckdb import register

__all__ = ["register"]
