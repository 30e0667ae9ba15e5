"""Where the time of the native engine goes: samples of one computing thread, by operation.

`perf` (Debian: apt install linux-perf) samples this process while it scores. The kernels have to be built with the
names of their functions: `make kernels-profile` does that, and runs this. The output's name gets the processor's kind.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from pairscore.benchmarks.environment import processor_kind
from pairscore.benchmarks.loaders import Pairs
from pairscore.benchmarks.samples import long_pairs, sample
from pairscore.benchmarks.tables.table import Row, Table
from pairscore.benchmarks.tables.throughput import where
from pairscore.runtime.pairs_file import read_pairs
from pairscore.runtime.scorer import Scorer
from studies.harness import study_options, study_result, write_result

SECONDS = 10
# An operation and the functions that compute it, by the first pattern that is found in their names.
OPERATIONS = {
    "products of whole rows: query, key, value, output": r"ScaledSums<true, true, \(pairscore::Activation\)0>",
    "product up, with its activation": r"ScaledSums<.*\(pairscore::Activation\)[1-4]>",
    "product down, in groups": r"ScaledSums<",
    "attention: queries times keys": r"ScoredSums",
    "attention: sums of values": r"weigh_tile",
    "attention in the last layer, in float": r"state_attention|float_tile",
    "attention: rounding, exponentials": r"attention",
    "quantizing and rotation": r"quantize",
    "norms": r"layer_norm",
    "tiles of fewer rows": r"StoredSums|linear_with",
    "other kernels": r"pairscore::",
    "outside of the kernels": r"",
}


def shares(report: str) -> dict[str, float]:
    """The share of each operation in a report of perf, whose lines are a percentage and a function."""
    found = dict.fromkeys(OPERATIONS, 0.0)
    for percent, name in re.findall(r"^ *([\d.]+)% +\[.\] (.+)$", report, re.MULTILINE):
        found[next(each for each, pattern in OPERATIONS.items() if re.search(pattern, name))] += float(percent)
    if not sum(found.values()):
        raise SystemExit("perf took no samples of this process: see whether `perf record -e cpu-clock` may run here")
    return {operation: share / sum(found.values()) for operation, share in found.items()}


def profile(scorer: Scorer, pairs: Pairs) -> dict[str, float]:
    """The shares while the pairs are scored again and again, for `SECONDS`."""
    scorer.predict(pairs)
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder, "perf.data"))
        sampling = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "1999", "-p", str(os.getpid()), "-o", data]
        with subprocess.Popen([*sampling, "--", "sleep", str(SECONDS)]) as running:
            while running.poll() is None:
                scorer.predict(pairs)
        command = ["perf", "report", "-q", "-i", data, "--stdio", "-F", "overhead,sym"]
        return shares(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Sample short and long pairs, and write the JSON."""
    options = study_options(__doc__).parse_args()
    rows = read_pairs(options.pairs, "claim", "evidence")
    long, _ = long_pairs(options.bundle / "tokenizer.json", rows, 100)
    scorer = Scorer.from_pretrained(options.bundle, precision="int8", engine="native", threads=1)
    found = {}
    for kind, pairs in {"short": [rows[row] for row in sample(rows, 1000)], "long": long}.items():
        tokens = float(scorer.tokenize(pairs).lengths.mean())
        found[kind] = {"mean_tokens": tokens, "shares": profile(scorer, pairs)}
    result = study_result(options, {"pairs": len(rows)}, kinds=found)
    kind = processor_kind(result["environment"]["instruction_sets"])
    write_result(options.output.with_stem(f"{options.output.stem}-{kind}"), result)


def profile_table(result: dict[str, Any]) -> Table:
    """One row an operation: its share of the time on short and on long pairs."""
    kinds = result["kinds"]
    rows = tuple(Row((name, *(f"{each['shares'][name]:.1%}" for each in kinds.values()))) for name in OPERATIONS)
    headings = (f"{kind} pairs, {each['mean_tokens']:.0f} tokens" for kind, each in kinds.items())
    return Table(("operation", *headings), rows, (f"Of one computing thread. {where(result)}",))


if __name__ == "__main__":
    main()
