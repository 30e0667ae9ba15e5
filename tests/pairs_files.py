"""Parquet files of pairs for the job tests: varied texts, seeded, with nulls where asked for."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.runtime.job.options import JobOptions
from tests import corpus


def pairs_table(rows: int, seed: int = 0, null_every: int | None = None) -> pa.Table:
    """Columns `id`, `claim`, `evidence`, `relevant`. `null_every`: every so many rows lacks its evidence."""
    draw = random.Random(seed)
    sentences = [*corpus.SENTENCES, *corpus.ODDITIES]
    claims = [draw.choice(corpus.SENTENCES) for _ in range(rows)]
    evidence = [" ".join(draw.choices(sentences, k=draw.randint(1, 3))) for _ in range(rows)]
    return pa.table(
        {
            "id": pa.array(range(seed * 1_000_000, seed * 1_000_000 + rows), pa.int64()),
            "claim": pa.array(claims, pa.string()),
            "evidence": pa.array(
                [None if null_every and row % null_every == 0 else text for row, text in enumerate(evidence)],
                pa.string(),
            ),
            "relevant": pa.array([draw.random() < 0.5 for _ in range(rows)], pa.bool_()),
        }
    )


def write_pairs(path: Path, rows: int, seed: int = 0, null_every: int | None = None, group: int = 1000) -> pa.Table:
    """Write such a table and return it. group: rows of a row group."""
    table = pairs_table(rows, seed, null_every)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)
    return table


def claimed_text(values: list[bytes | None]) -> pa.Array:
    """Bytes in an array that claims to be text, as Arrow reads them from Parquet without a look at the encoding."""
    array = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(array), array.buffers())


def job(bundle: Path, inputs: Path | tuple[Path, ...], output: Path | str, **changes: Any) -> JobOptions:
    """Options with small parts, so that a few hundred rows make a job."""
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    return JobOptions(
        bundle=str(bundle),
        inputs=tuple(str(each) for each in given),
        output=str(output),
        **{"part_rows": 50, **changes},
    )


def read_output(output: Path) -> pa.Table:
    """All rows of an output in order, partition columns left out."""
    if output.is_file():
        return pq.read_table(output, partitioning=None)
    parts = sorted(output.rglob("part-*.parquet"), key=lambda path: path.name)
    return pa.concat_tables([pq.read_table(part, partitioning=None) for part in parts])


def same(left: pa.Table, right: pa.Table) -> bool:
    """Whether names, rows, order and every bit of every score are the same."""
    return left.schema.names == right.schema.names and all(
        left.column(name)
        .combine_chunks()
        .cast(left.schema.field(name).type)
        .equals(right.column(name).combine_chunks())
        for name in left.schema.names
    )


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file with its content, to show that nothing changed."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class AtPart:
    """An event log that calls `action` when the given number of parts has been written in this run."""

    def __init__(self, number: int, action: Callable[[], object]) -> None:
        self._left, self._action = number, action
        self.events: list[dict[str, Any]] = []

    def write(self, event: str, **fields: Any) -> None:
        self.events.append({"event": event, **fields})
        if event == "part":
            self._left -= 1
            if self._left == 0:
                self._action()
