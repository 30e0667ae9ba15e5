"""Score Parquet with Spark; the bundle travels to the executors by itself.

spark-submit --master 'local[2,4]' examples/with_spark.py out/bundle examples/claims.parquet out/spark
"""

import sys

from pyspark.sql import SparkSession

from pairscore.integrations.spark import score


def main(bundle: str, pairs: str, output: str) -> None:
    """Write `pairs` with a score column into the folder `output`, one file a partition."""
    session = SparkSession.builder.appName("pairscore").getOrCreate()
    score(session.read.parquet(pairs), bundle).write.parquet(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
