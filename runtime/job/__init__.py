"""What `pairscore score` does: read Parquet, score, write Parquet, and continue where a run was stopped."""
