"""Bundle and Parquet to scores: tokenize, bucket, run, write. Imports neither torch nor transformers."""
