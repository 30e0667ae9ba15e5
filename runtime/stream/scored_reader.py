"""The lazy result of `Scorer.score_batches`."""

from collections.abc import Generator, Iterator
from typing import Any

import pyarrow as pa

from pairscore.runtime.errors import PairscoreError


class ScoredReader:
    """Scored record batches, computed as they are taken.

    It is read as a `pyarrow.RecordBatchReader` is, and whatever takes the Arrow C stream interface takes it
    (DuckDB, Polars, pandas, `pyarrow.table`, `pyarrow.dataset.write_dataset`, `RecordBatchReader.from_stream`).
    It is a class of its own because closing a RecordBatchReader over a Python generator does nothing: windows and
    threads would stay until the last reference is gone.
    """

    def __init__(self, schema: pa.Schema, batches: Generator[pa.RecordBatch, None, None]) -> None:
        self.schema = schema
        self._batches = batches
        self._handed_over = False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        return next(self._batches)

    def read_next_batch(self) -> pa.RecordBatch:
        """The next batch. Raises StopIteration at the end."""
        return next(self._batches)

    def read_all(self) -> pa.Table:
        """Everything that is left, as one table."""
        return pa.Table.from_batches(self, self.schema)

    def close(self) -> None:
        """Drop what has not been read: threads end, windows are freed, the input stream is closed."""
        self._batches.close()

    def __enter__(self) -> "ScoredReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """A capsule over what is left. Raises PairscoreError once another consumer has read from this stream.

        An empty or shortened result would be silent otherwise, as when a DuckDB relation is run a second time.
        """
        if self._handed_over:
            raise PairscoreError("these scores were read by another consumer, and can be read once: score again")

        def rest() -> Iterator[pa.RecordBatch]:
            self._handed_over = True
            yield from self._batches  # closes them too when the consumer leaves early

        return pa.RecordBatchReader.from_batches(self.schema, rest()).__arrow_c_stream__(requested_schema)
