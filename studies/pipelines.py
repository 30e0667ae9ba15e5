"""What Arrow streams, Polars, DuckDB, Ray Data and Spark cost against `pairscore score`, on the same pairs.

    python -m studies.pipelines --checkpoint models/climate-claims-minilm-l6 \
        --pairs ../shared/climate-fever/train.parquet --output benchmarks/results/pipelines.json

A job reads a Parquet file, scores it on all cores, and writes Parquet. The bundle is opened within it, except where
the engine keeps it between jobs. Every system runs in a process of its own that exits before the next one starts, so
that no idle engine takes time from another; the engine is started, and a small job run, before the clock starts.

`--layers` keeps the first layers of the checkpoint: a cheaper model makes every overhead a larger share, so what is
small there is smaller still with the whole model.
"""

import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.benchmarks.samples import mean_tokens
from pairscore.export.bundle import export_bundle
from pairscore.runtime.machine import available_cores
from studies.harness import keep_layers, study_options, study_result, write_result

Job = Callable[[str, str, str], None]  # bundle, input file, output (a file or a folder)
REFERENCE = "pairscore score"
WARM_UP_PAIRS = 500
MAX_DIFFERENCE = 1e-6


def command(precision: str) -> Job:
    """What the command line runs."""
    from pairscore.runtime.job.options import JobOptions
    from pairscore.runtime.job.run import run_job

    def job(bundle: str, pairs: str, output: str) -> None:
        run_job(JobOptions(bundle=bundle, inputs=(pairs,), output=f"{output}.parquet", precision=precision))

    return job


def arrow(precision: str) -> Job:
    """`score_batches` between a dataset scanner and a Parquet writer."""
    import pyarrow.dataset as ds

    return lambda bundle, pairs, output: _stream(bundle, precision, ds.dataset(pairs).scanner().to_reader(), output)


def polars(precision: str) -> Job:
    """The same behind a lazy Polars query."""
    import polars as pl

    return lambda bundle, pairs, output: _stream(bundle, precision, pl.scan_parquet(pairs).collect_batches(), output)


def duckdb_stream(precision: str) -> Job:
    """The same behind a DuckDB relation."""
    import duckdb

    return lambda bundle, pairs, output: _stream(bundle, precision, duckdb.connect().read_parquet(pairs), output)


def duckdb_function(precision: str) -> Job:
    """SQL that calls the registered function."""
    import duckdb

    from pairscore.integrations.duckdb import register

    def job(bundle: str, pairs: str, output: str) -> None:
        with duckdb.connect() as connection:
            register(connection, bundle, precision=precision)
            query = f"SELECT *, score(claim, evidence) AS score FROM read_parquet('{pairs}')"
            connection.execute(f"COPY ({query}) TO '{output}.parquet' (FORMAT parquet, COMPRESSION zstd)").fetchall()

    return job


def ray_data(precision: str) -> Job:
    """One actor with all cores; a logical core more than there are, since reading and writing ask for one."""
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"})
    import ray
    import ray.data

    from pairscore.integrations.ray import score

    cores = available_cores()
    ray.init(num_cpus=cores + 1, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    ray.data.DataContext.get_current().enable_progress_bars = False

    def job(bundle: str, pairs: str, output: str) -> None:
        # Several batches, so that reading and writing go on while one computes.
        rows = -(-pq.read_metadata(pairs).num_rows // 6)
        read = ray.data.read_parquet(pairs)
        scored = score(read, bundle, actors=1, num_cpus=cores, batch_size=rows, precision=precision)
        scored.write_parquet(output)

    return job


def spark(precision: str) -> Job:
    """One task a core; as many partitions."""
    os.environ.update({"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"})
    from pyspark.sql import SparkSession

    from pairscore.integrations.spark import score

    cores = available_cores()
    builder = SparkSession.builder.master(f"local[{cores}]").config("spark.ui.enabled", "false")
    session = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.memory", "1g").getOrCreate()
    session.sparkContext.setLogLevel("ERROR")

    def job(bundle: str, pairs: str, output: str) -> None:
        score(session.read.parquet(pairs).repartition(cores), bundle, precision=precision).write.parquet(output)

    return job


def _stream(bundle: str, precision: str, stream: Any, output: str) -> None:
    from pairscore import Scorer

    scored = Scorer.from_pretrained(bundle, precision=precision).score_batches(stream)
    with scored, pq.ParquetWriter(f"{output}.parquet", scored.schema, compression="zstd") as writer:
        for batch in scored:
            writer.write_batch(batch)


# name -> (starts it for a precision, the most that it may take over `pairscore score`; None where nothing is promised)
SYSTEMS: dict[str, tuple[Callable[[str], Job], float | None]] = {
    REFERENCE: (command, None),
    "Arrow stream": (arrow, 0.03),
    "Polars, lazily": (polars, None),
    "DuckDB relation": (duckdb_stream, None),
    "DuckDB function": (duckdb_function, None),
    "Ray Data": (ray_data, 0.15),
    "Spark": (spark, 0.15),
}


def main() -> None:
    """Measure, write the JSON, and say what each system took."""
    parser = study_options(__doc__)
    parser.add_argument("--layers", type=int, help="keep only the first layers of the checkpoint, in fp32")
    parser.add_argument("--bundle", type=Path, help="of the whole model, for --precision")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--rows", type=int, default=100_000, help="different pairs, made by crossing the texts")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--systems", nargs="*", default=list(SYSTEMS), choices=list(SYSTEMS))
    options = parser.parse_args()
    if options.bundle and options.layers is not None:
        parser.error("--bundle holds the whole model: leave out --layers")
    if options.precision != "fp32" and not options.bundle:
        parser.error(f"without --bundle the model is exported in fp32: give a bundle that holds {options.precision}")
    systems = list(dict.fromkeys([REFERENCE, *options.systems]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs, bundle = folder / "pairs.parquet", options.bundle or folder / "bundle"
        write_sample(options.pairs, pairs, options.rows)
        if not options.bundle:
            export_bundle(str(keep_layers(options.checkpoint, folder / "checkpoint", options.layers)), bundle)
        rounds = [one_round(systems, bundle, options.precision, pairs, folder, turn=t) for t in range(options.rounds)]
        table = pq.read_table(pairs)
        texts = list(zip(table["claim"].to_pylist(), table["evidence"].to_pylist(), strict=True))
        tokens = mean_tokens(options.checkpoint / "tokenizer.json", texts)
        data = {"pairs": options.rows, "mean_tokens": tokens}
    found = {"layers": options.layers, "precision": options.precision, "rounds": rounds, "systems": figures(rounds)}
    result = study_result(options, data, **found)
    write_result(options.output, result)
    for system in result["systems"]:
        print(f"{system['name']:20} {system['seconds']:7.1f} s  {system['overhead']:+.1%}")


def write_sample(source: Path, target: Path, rows: int) -> None:
    """`rows` different pairs of the source's claims and evidence, in a seeded random order."""
    table = pq.read_table(source, columns=["claim", "evidence"])
    claims, evidence = (table[name].unique().drop_null() for name in ("claim", "evidence"))
    places = random.Random(0).sample(range(len(claims) * len(evidence)), rows)
    columns = {
        "id": pa.array(range(rows), pa.int64()),
        "claim": claims.take(pa.array([place // len(evidence) for place in places])),
        "evidence": evidence.take(pa.array([place % len(evidence) for place in places])),
    }
    pq.write_table(pa.table(columns), target)


def one_round(
    names: list[str], bundle: Path, precision: str, pairs: Path, folder: Path, *, turn: int
) -> dict[str, float]:
    """Seconds of each system's job, one after the other, beginning with another one each round.

    Raises SystemExit when a system's rows or scores are not the reference's.
    """
    folder.mkdir(exist_ok=True)
    warm_up = folder / "warm-up.parquet"
    pq.write_table(pq.read_table(pairs).slice(0, WARM_UP_PAIRS), warm_up)
    seconds: dict[str, float] = {}
    scores: dict[str, np.ndarray] = {}
    start = turn % len(names)
    for name in names[start:] + names[:start]:
        output = folder / f"out-{turn}-{name.replace(' ', '-')}"
        ours, theirs = get_context("spawn").Pipe()
        jobs = [(str(bundle), str(warm_up), f"{output}-warm-up"), (str(bundle), str(pairs), str(output))]
        process = get_context("spawn").Process(target=_serve, args=(theirs, name, precision, jobs))
        process.start()
        theirs.close()
        seconds[name] = ours.recv()
        process.join()
        path = output if output.is_dir() else Path(f"{output}.parquet")
        table = pq.read_table(path, columns=["id", "score"]).sort_by("id")
        if table["id"].to_pylist() != list(range(len(table))) or len(table) != pq.read_metadata(pairs).num_rows:
            raise SystemExit(f"{name} lost or repeated rows")
        scores[name] = table["score"].to_numpy()
        print(f"{name:20} {seconds[name]:7.1f} s", flush=True)
    for name, values in scores.items():
        difference = float(np.abs(values - scores[REFERENCE]).max())
        if difference > MAX_DIFFERENCE:
            raise SystemExit(f"{name} differs from {REFERENCE} by {difference:.2g}")
    return {name: seconds[name] for name in names}


def _serve(connection: Connection, name: str, precision: str, jobs: list[tuple[str, str, str]]) -> None:
    """The process of one system: start it, warm it up with the first job, time the second."""
    job = SYSTEMS[name][0](precision)
    job(*jobs[0])
    started = time.perf_counter()
    job(*jobs[1])
    connection.send(time.perf_counter() - started)


def figures(rounds: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Medians over the rounds that a system took part in; an overhead is the quotient of two medians, less one."""
    took_part = {name: [each[name] for each in rounds if name in each] for name in SYSTEMS}
    reference = statistics.median(took_part[REFERENCE])
    return [
        {
            "name": name,
            "rounds": len(mine),
            "seconds": statistics.median(mine),
            "overhead": statistics.median(mine) / reference - 1,
            "promise": SYSTEMS[name][1],
        }
        for name, mine in took_part.items()
        if mine
    ]


if __name__ == "__main__":
    main()
