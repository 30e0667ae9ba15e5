"""A job: Parquet in, Parquet out, resumable. What `pairscore score` does."""
