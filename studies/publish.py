"""Put a result of `make bench` among the committed ones, under the name of the processor that it was measured on.

    python -m studies.publish out/bench/bench.json            -> benchmarks/results/throughput-KIND.json
    python -m studies.publish out/bench-again/bench.json --again

With `--again` it becomes throughput-KIND-again.json, beside the first run, and the two are compared: exit code 1 where
they disagree.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from pairscore.benchmarks import agreement
from pairscore.benchmarks.environment import processor_kind
from studies.processors import RESULTS


def main() -> None:
    """Copy the file, then compare it where that was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("--again", action="store_true", help="a second run of what is published already")
    options = parser.parse_args()
    kind = processor_kind(json.loads(options.result.read_text())["environment"]["instruction_sets"])
    first = RESULTS / f"throughput-{kind}.json"
    target = RESULTS / f"throughput-{kind}-again.json" if options.again else first
    shutil.copyfile(options.result, target)
    print(f"Published {target}")
    if options.again:
        sys.argv = ["agreement", str(first), str(target)]
        agreement.main()


if __name__ == "__main__":
    main()
