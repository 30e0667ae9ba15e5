"""Scoring as a step of somebody else's engine: `pairscore.integrations.ray`, `.spark` and `.duckdb`."""
