"""How much the extras of pairscore take on the disk, with all that they bring.

    python -m studies.sizes --output benchmarks/results/sizes.json

Each extra is installed by pip into an empty folder, at the releases of requirements/tested.txt, from a wheel of this
checkout.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pairscore.benchmarks.environment import environment
from pairscore.benchmarks.tables.table import Table, table_of
from pairscore.benchmarks.tables.throughput import where
from studies.harness import write_result

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("cpu", "openvino", "kernels", "nanotoken", "remote", "duckdb", "ray", "spark", "export")


def main() -> None:
    """Install, add up and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", required=True, type=Path)
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        wheels = Path(folder, "wheels")
        _pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(ROOT), str(ROOT / "kernels"))
        for extra in ("", *EXTRAS):
            target = Path(folder, f"extra-{extra}")
            wheel = next(wheels.glob("pairscore-*.whl"))
            named = f"{wheel}[{extra}]" if extra else str(wheel)
            constraints = str(ROOT / "requirements/tested.txt")
            _pip("install", "--target", str(target), "--find-links", str(wheels), "-c", constraints, named)
            size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file() and not path.is_symlink())
            found.append({"extra": extra, "bytes": size})
            print(f"{extra or 'none':10} {size / 1e6:8.0f} MB", flush=True)
    write_result(options.output, {"environment": environment(), "extras": found})


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)


def sizes_table(result: dict[str, Any]) -> Table:
    """One row an extra: its megabytes, those of the package without extras included."""
    columns = {
        "installed": lambda each: f"pairscore[{each['extra']}]" if each["extra"] else "pairscore alone",
        "MB on the disk": lambda each: f"{each['bytes'] / 1e6:,.0f}",
    }
    return table_of(result["extras"], columns, f"Every row counts all that pip installs. {where(result)}")


if __name__ == "__main__":
    main()
