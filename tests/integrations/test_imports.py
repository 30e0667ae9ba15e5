"""No engine is imported before it is used: each module loads where none of them is installed."""

import subprocess
import sys

ENGINES = ("ray", "pyspark", "duckdb", "polars", "pandas")


def test_the_modules_import_without_any_engine() -> None:
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({ENGINES!r}))\n"  # Python's own way to make an import fail
        "import pairscore.integrations.ray, pairscore.integrations.spark, pairscore.integrations.duckdb\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
