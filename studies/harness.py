"""What the studies share: their options, the JSON that they leave, turns, made input, and a scored job."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.benchmarks.environment import environment
from pairscore.benchmarks.loaders import Pairs
from pairscore.runtime.bundle.manifest import sha256

_CHUNK_ROWS = 100_000
_SCHEMA = pa.schema([("id", pa.int64()), ("claim", pa.string()), ("evidence", pa.string())])


def study_options(doc: str | None, *, bundle: bool = True) -> argparse.ArgumentParser:
    """A parser of --checkpoint, --bundle where it is read, --pairs and --output.

    doc: the module's, whose first line tells what it measures.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    parser.add_argument("--checkpoint", required=True, type=Path)
    if bundle:
        parser.add_argument("--bundle", required=True, type=Path)
    parser.add_argument("--pairs", required=True, type=Path, help="Parquet with columns claim and evidence")
    parser.add_argument("--output", required=True, type=Path)
    return parser


def study_result(options: argparse.Namespace, data: Mapping[str, Any], **found: Any) -> dict[str, Any]:
    """A result: the machine, the model and the data, then what was found."""
    told = {"file": options.pairs.name, "sha256": sha256(options.pairs), **data}
    return {"environment": environment(), "checkpoint": options.checkpoint.name, "data": told, **found}


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """As JSON, into a folder that is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


def time_in_turns(
    systems: Mapping[str, Callable[[Any], Any]], given: Any, rounds: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of every system in each round, in rotating order, and what it gave last; a warm-up comes before."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    last = {name: run(given) for name, run in systems.items()}
    for turn in range(rounds):
        names = list(systems)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            started = time.perf_counter()
            last[name] = systems[name](given)
            seconds[name].append(time.perf_counter() - started)
    return seconds, last


def write_crossed(pairs: Path, folder: Path, rows: int, files: int, row_group: int) -> None:
    """`rows` different pairs in `files` files: every claim of a file meets every piece of its evidence.

    Raises ValueError when there are not enough texts.
    """
    folder.mkdir(parents=True)
    for place in range(files):
        first, stop = rows * place // files, rows * (place + 1) // files
        table = crossed(pairs, first, stop)
        pq.write_table(table, folder / f"pairs-{place:03d}.parquet", row_group_size=row_group)


def crossed(pairs: Path, first: int, stop: int) -> pa.Table:
    """Those rows of all pairs that the claims and the evidence of a file make."""
    table = pq.read_table(pairs, columns=["claim", "evidence"])
    claims, evidence = (table[name].unique().drop_null() for name in ("claim", "evidence"))
    if len(claims) * len(evidence) < stop:
        raise ValueError(f"{len(claims)} claims and {len(evidence)} pieces of evidence make fewer than {stop} pairs")
    made = []
    for start in range(first, stop, _CHUNK_ROWS):
        ids = range(start, min(start + _CHUNK_ROWS, stop))
        # Neighbours share no text, and no two pairs are the same: a diagonal walk over the grid.
        of_claim = pa.array([row % len(claims) for row in ids])
        of_evidence = pa.array([(row // len(claims) + row % len(claims)) % len(evidence) for row in ids])
        columns = [pa.array(ids, pa.int64()), claims.take(of_claim), evidence.take(of_evidence)]
        made.append(pa.table(columns, schema=_SCHEMA))
    return pa.concat_tables(made) if made else _SCHEMA.empty_table()


def crossed_pairs(pairs: Path, rows: int) -> Pairs:
    """The first `rows` of them, in memory."""
    table = crossed(pairs, 0, rows)
    return list(zip(table["claim"].to_pylist(), table["evidence"].to_pylist(), strict=True))


def score(bundle: Path, data: Path, output: Path, *more: object) -> dict[str, Any]:
    """The summary of `pairscore score` in a process of its own.

    Raises RuntimeError with its last words when it fails.
    """
    command = [sys.executable, "-m", "pairscore.cli", "score", bundle, data, "--output", output, "--json", *more]
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pairscore score ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return {**json.loads(done.stdout), "output": output.name}
