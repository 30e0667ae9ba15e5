"""Scoring as a step of DuckDB, Ray Data or Spark."""
