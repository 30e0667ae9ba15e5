"""What `pairscore score --reuse` saves, and the memory that many old pairs take.

    python -m studies.reuse --bundle out/bundle --pairs ../shared/climate-fever/train.parquet \
        --rows 200000 --precision int8 --output benchmarks/results/reuse.json

The pairs are crossed from the file's texts, and all of the model's layers score them. The whole is scored first. An old
output of the first 95 % of the rows is made with it (with --reuse, so nothing is computed twice); then the whole job is
done again, with the old output. Both jobs are commands in processes of their own, timed from start to end, loading
included. The results must be equal, bit for bit.

For memory, a folder of `--old-pairs` pairs, each with evidence of its own and made up scores, joins the old output.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pairscore.benchmarks.environment import environment
from pairscore.runtime.bundle.manifest import sha256
from pairscore.runtime.job.output.layout import SUCCESS_NAME
from pairscore.runtime.job.parts import Part, figures, part_bytes
from studies.harness import write_crossed, write_result

OLD_SHARE = 0.95
MAX_SHARE_OF_TIME = 0.10
MAX_PEAK_BYTES = 2 * 2**30
_PART_ROWS = 65_536


def main() -> None:
    """Make the input, run the jobs, write the JSON; exit with 1 when results differ or a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", required=True, type=Path)
    parser.add_argument("--pairs", required=True, type=Path, help="Parquet with columns claim and evidence")
    parser.add_argument("--precision", default="fp32", help="the bundle's variant")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--old-pairs", type=int, default=10_000_000)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_crossed(options.pairs, work / "data", options.rows, 4, 50_000)
        score = partial(_score, options.bundle, work / "data", options.precision)
        # The first command reads files that no cache holds: it is not timed.
        score(work / "first.parquet", "--limit", 500)
        whole = score(work / "whole.parquet")
        old_rows = int(options.rows * OLD_SHARE)
        old = work / "old.parquet"
        score(old, "--limit", old_rows, "--reuse", work / "whole.parquet")
        reusing = score(work / "reusing.parquet", "--reuse", old)
        check_equal(work / "whole.parquet", work / "reusing.parquet")
        write_old(options.pairs, old, work / "many", options.old_pairs)
        many = score(work / "third.parquet", "--reuse", work / "many", "--reuse", old)
        check_equal(work / "whole.parquet", work / "third.parquet")
    result = {
        "environment": environment(),
        "data": {"file": options.pairs.name, "sha256": sha256(options.pairs), "rows": options.rows},
        "old_share": OLD_SHARE,
        "old_pairs": options.old_pairs,
        "whole": whole,
        "reusing": reusing,
        "reusing_many": many,
        "share_of_time": reusing["wall_seconds"] / whole["wall_seconds"],
        "share_of_processor_time": reusing["processor_seconds"] / whole["processor_seconds"],
    }
    print(json.dumps(result, indent=2))
    if options.output:
        write_result(options.output, result)
    if result["share_of_processor_time"] > MAX_SHARE_OF_TIME or many["peak_memory_bytes"] > MAX_PEAK_BYTES:
        raise SystemExit("missed: see share_of_processor_time and peak_memory_bytes")


def write_old(pairs: Path, like: Path, folder: Path, rows: int) -> None:
    """A finished folder of parts with `rows` different pairs and made up scores. like: an output of the same run."""
    metadata = pq.read_metadata(like)
    told = figures(metadata)
    texts = pq.read_table(pairs, columns=["claim", "evidence"])
    claims, evidence = (texts[name].combine_chunks() for name in ("claim", "evidence"))
    folder.mkdir()
    random = np.random.default_rng(0)
    for start in range(0, rows, _PART_ROWS):
        ids = np.arange(start, min(start + _PART_ROWS, rows))
        numbers = pa.array(ids).cast(pa.string())
        taken = pa.array(ids % len(evidence))
        table = pa.table(
            {
                "claim": claims.take(pa.array(ids % len(claims))),
                "evidence": pc.call_function("binary_join_element_wise", [evidence.take(taken), numbers, " "]),
                "score": pa.array(random.random(len(ids), dtype=np.float32)),
            }
        )
        part = Part(0, start, start + len(ids))
        (folder / part.name).write_bytes(part_bytes(table, told, "zstd"))
    (folder / SUCCESS_NAME).touch()


def check_equal(one: Path, other: Path) -> None:
    """Raise ValueError unless all columns are equal and all scores have the same bits."""
    left, right = pq.read_table(one), pq.read_table(other)
    bits = [table["score"].to_numpy().view(np.uint32) for table in (left, right)]
    if not (left.equals(right) and np.array_equal(*bits)):
        raise ValueError(f"{other.name} differs from {one.name}")


def _score(bundle: Path, data: Path, precision: str, output: Path, *more: object) -> dict[str, Any]:
    """The command's summary, with the wall time and the processor time of its process."""
    options = ["--precision", precision, "--output", output, "--json", *more]
    command = [sys.executable, "-m", "pairscore.cli", "score", bundle, data, *options]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([str(each) for each in command], stdout=subprocess.PIPE, text=True, check=True)
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    summary: dict[str, Any] = json.loads(done.stdout)
    return {**summary, "output": output.name, "wall_seconds": seconds, "processor_seconds": used}


if __name__ == "__main__":
    main()
