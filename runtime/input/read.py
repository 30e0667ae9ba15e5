"""Rows of an input file as windows to score. Memory is bounded, however large the file's row groups are."""

import hashlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.input.footers import InputFile, read_footer, unreadable
from pairscore.runtime.input.partitions import partition_array
from pairscore.runtime.storage.parquet import filtered, in_schema, read_batches, timestamps
from pairscore.runtime.storage.parts import Block, Part
from pairscore.runtime.storage.schema import INT96_UNIT, open_footer
from pairscore.runtime.stream.columns import WINDOW_BYTES, WINDOW_PAIRS, text_pair, windows
from pairscore.runtime.text.ragged import offsets_of


@dataclass(frozen=True)
class Reading:
    """What to read of every file. `columns`: in the file's order. `condition`: rows to keep, over `columns` and the
    columns of `partitions`; None for all. `schema`: the types of the columns, which in a file may be encoded otherwise;
    None for the file's own. `window_bytes`: what a piece may hold.
    """

    columns: tuple[str, ...]
    text_columns: tuple[str, str]
    condition: pc.Expression | None = None
    partitions: tuple[pa.Field, ...] = ()
    schema: pa.Schema | None = None
    window_bytes: int = WINDOW_BYTES


@dataclass(frozen=True)
class Piece:
    """One part's rows, read but not scored. `rows`: Shape (pairs,), each row's place in `file`."""

    file: InputFile
    part: Part
    table: pa.Table
    rows: np.ndarray

    def texts(
        self, columns: Sequence[str], on_null: str, on_invalid_utf8: str
    ) -> tuple[pa.StringArray, pa.StringArray, pa.BooleanArray]:
        """What `text_pair` gives for the table; its errors name the file and the row in it."""
        return text_pair(
            self.table, columns, on_null, on_invalid_utf8, lambda row: self.file.row_name(int(self.rows[row]))
        )


def read_pieces(file: InputFile, blocks: Sequence[Block], reading: Reading) -> Generator[Piece, None, None]:
    """The parts of consecutive `blocks` of one file, in order.

    Where a part ends depends on the block's rows alone. Raises PairscoreError, naming the file, for a file
    that cannot be read to its end.
    """
    try:
        for run in _runs(blocks):
            there = [name for name in reading.columns if name in file.schema.names]
            with closing(_batches(file, there, run[0].start, run[-1].stop)) as batches:
                cursor = _Cursor(batches, run[0].start)
                for block in run:
                    yield from _block_pieces(file, block, cursor.take(block.stop), reading)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(file.found, error, "is damaged") from error


def check_no_nulls(file: InputFile, columns: tuple[str, str], limit: int | None = None) -> None:
    """Raise PairscoreError for a null among the first `limit` rows that the file's statistics tell of.

    So it shows long before scoring would reach it. Files without statistics pass; their nulls show when they are read.
    """
    starts = offsets_of(np.array(file.group_rows))
    for group in file.groups_with_null:
        start, stop = (int(starts[each]) for each in (group, group + 1))
        block = Block(0, start, stop if limit is None else min(stop, limit))
        if block.start < block.stop:
            with closing(read_pieces(file, [block], Reading(columns, columns))) as pieces:
                for piece in pieces:
                    piece.texts(columns, "error", "null")


def _block_pieces(
    file: InputFile, block: Block, batches: Iterable[pa.RecordBatch], reading: Reading
) -> Iterator[Piece]:
    numbered = (_numbered(file, batch, row, reading) for row, batch in batches)
    cut = windows(numbered, reading.text_columns, max(WINDOW_PAIRS, block.stop - block.start), reading.window_bytes)
    start = block.start
    held: pa.Table | None = None
    # One window is held back: the last one of a block reaches to the block's end, filtered rows included.
    for table in cut:
        if held is not None:
            rows = _row_numbers(held)
            stop = int(rows[-1]) + 1
            yield Piece(file, Part(block.file, start, stop, file.found.folder), held.select(reading.columns), rows)
            start = stop
        held = table
    part = Part(block.file, start, block.stop, file.found.folder)
    if held is not None:
        yield Piece(file, part, held.select(reading.columns), _row_numbers(held))
    else:
        yield Piece(file, part, _schema(file, reading).empty_table(), np.empty(0, dtype=np.int64))


def _numbered(file: InputFile, batch: pa.RecordBatch, first_row: int, reading: Reading) -> pa.RecordBatch:
    """The batch's rows that meet the condition, with their places in the file as a last column."""
    batch = in_schema(batch, _schema(file, reading))
    numbers = pa.array(np.arange(first_row, first_row + batch.num_rows))
    # Longer than every other name, so that no column of the input can have it.
    names = [*batch.schema.names, *(field.name for field in reading.partitions)]
    batch = batch.append_column(f"row of {max(names, key=len)}", numbers)
    if reading.condition is None:
        return batch
    more = [field for field in reading.partitions if field.name not in batch.schema.names]
    wide = pa.RecordBatch.from_arrays(
        [*batch.columns, *(partition_array(file.found, field, batch.num_rows) for field in more)],
        schema=pa.schema([*batch.schema, *more]),
    )
    return filtered(wide, reading.condition).select(batch.schema.names)


def _schema(file: InputFile, reading: Reading) -> pa.Schema:
    """The columns to read, in the types that they have in all files where that is asked for."""
    common = reading.schema or file.schema
    return pa.schema([(common if name in common.names else file.schema).field(name) for name in reading.columns])


def _row_numbers(table: pa.Table) -> np.ndarray:
    return np.asarray(table.column(table.num_columns - 1).to_numpy())


def _batches(file: InputFile, columns: Sequence[str], start: int, stop: int) -> Generator[pa.RecordBatch, None, None]:
    """Rows `start` to `stop` of the file; row groups before and after are not touched."""
    ends = np.cumsum(file.group_rows, dtype=np.int64)
    groups = [
        place
        for place, (end, rows) in enumerate(zip(ends.tolist(), file.group_rows, strict=True))
        if end > start and end - rows < stop
    ]
    if not groups:
        return
    row = int(ends[groups[0]]) - file.group_rows[groups[0]]
    storage = file.found.storage
    with storage.open(file.found.path) as source:
        # A file may change between the first look at its footer and now.
        footer = read_footer(source)
        if hashlib.sha256(footer).hexdigest() != file.digest:
            raise PairscoreError(f"{file.found.display!r} changed while it was being read: start again")
        metadata, _ = open_footer(footer)
        timestamps = [name for name in columns if name in file.columns.int96]
        if timestamps:
            _check_int96(file, source, timestamps, metadata, groups)
        for batch in read_batches(source, columns, storage.buffer_size, metadata=metadata, row_groups=groups):
            first, last = max(start - row, 0), min(stop - row, batch.num_rows)
            row += batch.num_rows
            if first < last:
                yield batch.slice(first, last - first).select(columns)
            if row >= stop:
                return
    if row < stop:
        raise PairscoreError(f"{file.found.display!r} ends at row {row} of {file.rows}: write it again")


def _check_int96(
    file: InputFile, source: pa.NativeFile, columns: Sequence[str], metadata: pq.FileMetaData, groups: Sequence[int]
) -> None:
    """Raise PairscoreError for a timestamp in INT96 that microseconds do not hold: one finer, or too far away.

    Arrow drops the rest and wraps around silently. Seconds hold every INT96, and nanoseconds wrap around by a known
    amount, so the three together tell.
    """
    buffer_size = file.found.storage.buffer_size
    units = [
        read_batches(source, columns, buffer_size, metadata=metadata, row_groups=groups, int96_unit=unit)
        for unit in ("s", INT96_UNIT, "ns")
    ]
    for batches in zip(*units, strict=True):
        for name in columns:
            for seconds, micros, nanos in zip(*(timestamps(batch.column(name)) for batch in batches), strict=True):
                rest = nanos - micros * 1000
                wrong = np.flatnonzero((micros // 1_000_000 != seconds) | (rest != 0))
                if len(wrong):
                    value = f"{np.datetime64(int(seconds[wrong[0]]), 's')}.{int(nanos[wrong[0]]) % 10**9:09d}"
                    raise PairscoreError(
                        f"column {name!r} of {file.found.display!r} holds {value} as INT96, which microseconds cannot "
                        "hold: write the column as TIMESTAMP, or leave it out with --keep"
                    )


class _Cursor:
    """Reads through a stream of batches. The rest of a batch is kept for the next call."""

    def __init__(self, batches: Iterator[pa.RecordBatch], row: int) -> None:
        self._batches = batches
        self._row = row
        self._rest: pa.RecordBatch | None = None

    def take(self, stop: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(row of its first row, batch) up to row `stop`."""
        while self._row < stop:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                return
            taken = min(batch.num_rows, stop - self._row)
            self._rest = batch.slice(taken) if taken < batch.num_rows else None
            row, self._row = self._row, self._row + taken
            yield row, batch.slice(0, taken)


def _runs(blocks: Sequence[Block]) -> list[list[Block]]:
    """Blocks that follow each other without a gap, together."""
    runs: list[list[Block]] = []
    for block in blocks:
        if runs and runs[-1][-1].stop == block.start:
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs
