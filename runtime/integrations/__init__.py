"""Scoring as a step of somebody else's engine: DuckDB, Ray Data, Spark."""
