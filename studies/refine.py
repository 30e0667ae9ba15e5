"""The exact best rows at int8's speed: `--refine fp32` against int8 alone and fp32 alone, claims crossed with evidence.

Each claim gets as many candidates, drawn from all evidence of --pairs. Where the claims are fewer than --rows asks for,
they come again, each time with other candidates. Processor seconds are those of the job's process less those of the
same job on no row, which loads the models too: they say the same on a machine with other work. Run it with: python -m
studies.refine --bundle out/bundle --checkpoint models/climate-claims-minilm-l6 --pairs train.parquet --output FILE
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pairscore import Summary, score_files
from studies.harness import study_options, study_result, write_result


def crossed(file: Path, groups: int, candidates: int) -> pa.Table:
    """`groups` times a claim with so many different pieces of the file's evidence; the same every time.

    The column `group` counts from 0. Claims come in the file's order, after the last the first again.
    """
    table = pq.read_table(file, columns=["claim", "evidence"])
    claims, texts = (table[name].unique().drop_null() for name in ("claim", "evidence"))
    draw = np.random.default_rng(0)
    of_group = [draw.choice(len(texts), min(candidates, len(texts)), replace=False) for _ in range(groups)]
    group = np.repeat(np.arange(groups), [len(each) for each in of_group])
    evidence = texts.take(pa.array(np.concatenate(of_group)))
    return pa.table({"group": group, "claim": claims.take(pa.array(group % len(claims))), "evidence": evidence})


def study(bundle: Path, table: pa.Table, most: Sequence[int], folder: Path) -> dict[str, Any]:
    """Seconds, share of rows computed again, and agreement with fp32, for each of the numbers of best rows `most`."""
    source = folder / "pairs.parquet"
    pq.write_table(table, source)

    def run(name: str, **options: Any) -> tuple[Summary, pa.Table, dict[str, float]]:
        spent = []
        for limit in (0, None):
            before = time.process_time()
            summary = score_files(
                bundle,
                source,
                folder / f"{name}.parquet",
                by="group",
                overwrite=True,
                tuning=False,
                limit=limit,
                **options,
            )
            spent.append(time.process_time() - before)
        times = {"wall_seconds": summary.seconds, "processor_seconds": spent[1] - spent[0]}
        return summary, pq.read_table(folder / f"{name}.parquet"), times

    # The best of fewer rows stand in the best of more.
    _, expected, exact_times = run("fp32", top_k=max(most))
    _, rough, first_times = run("int8", top_k=max(most), precision="int8")
    found: dict[str, Any] = {"fp32": exact_times, "int8": first_times, "best": {}}
    for best in most:
        summary, refined, times = run("refined", top_k=best, precision="int8", refine="fp32")
        wanted, of_int8 = (each.filter(pc.field("rank") <= best) for each in (expected, rough))
        if summary.refined is None:
            raise RuntimeError("nothing was refined")
        found["best"][str(best)] = {
            **times,
            "rows_again": summary.refined.rows / table.num_rows,
            "largest_difference": summary.refined.largest_difference,
            "margin": summary.refined.margin,
            "same_bytes": refined.equals(wanted),
            "agreement": _agreement(refined, wanted),
            "agreement_of_int8": _agreement(of_int8, wanted),
        }
    return found


def _agreement(one: pa.Table, other: pa.Table) -> float:
    """Share of the rows of `other` that `one` has."""
    rows = [set(zip(each["group"].to_pylist(), each["evidence"].to_pylist(), strict=True)) for each in (one, other)]
    return len(rows[0] & rows[1]) / len(rows[1])


def main() -> None:
    """Measure and write the JSON."""
    parser = study_options(__doc__)
    parser.add_argument("--rows", type=int, default=10_000, help="pairs of each number of candidates")
    parser.add_argument("--candidates", type=int, nargs="+", default=[12, 100, 1000], help="of a claim")
    parser.add_argument("--best", type=int, nargs="+", default=[1, 5, 10], help="rows that are kept of a claim")
    options = parser.parse_args()
    kinds = {}
    with tempfile.TemporaryDirectory() as folder:
        for candidates in options.candidates:
            table = crossed(options.pairs, max(1, options.rows // candidates), candidates)
            kinds[str(candidates)] = {
                "pairs": table.num_rows,
                **study(options.bundle, table, options.best, Path(folder)),
            }
            print(candidates, kinds[str(candidates)])
    write_result(options.output, study_result(options, {"rows": options.rows}, candidates=kinds))


if __name__ == "__main__":
    main()
