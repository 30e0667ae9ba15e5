"""Files to rows: Parquet files found, checked by their footers, read in pieces; earlier outputs read again."""
