"""The best rows a claim, over any number of parts, in bounded memory.

A part holds the best rows of each claim within the part, since no other row can be among the best of all. ("Claim"
stands for a value of the column to group by.) When every part is there, the rows of all parts are ranked together:
(claim, score, place) records lie in buckets on disk, equal claims in one bucket, and one bucket after the other is
ranked. A row that is among the best of all keeps its place in its part and gets its rank; the others go. Doing that
again, or to the end after a stop half way, changes nothing more: what went was behind rows that are still there.

Ranks count from 1, by falling score; of equal scores the row that comes first in the input is first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pairscore.runtime.errors import PairscoreError, no_column
from pairscore.runtime.spill.buckets import Buckets, open_temporary, write
from pairscore.runtime.spill.old_scores import text_digests
from pairscore.runtime.storage.parquet import filtered
from pairscore.runtime.types import Int32Array

RANK_COLUMN = "rank"
RANK_FIELD = pa.field(RANK_COLUMN, pa.int32())
_GROUPED = ("string", "large_string", "string_view", "integer", "boolean", "date", "timestamp", "decimal", "null")
_RECORD = np.dtype([("key", "u8", (4,)), ("score", "f4"), ("place", "u8")])


@dataclass(frozen=True)
class Best:
    """The best `top_k` rows of each value of the column `by`, by the column `score`."""

    by: str
    score: str
    top_k: int

    def groups(self, table: pa.Table) -> Int32Array:
        """A number for each row, Shape (rows,), the same for rows with the same value of `by`."""
        codes: Int32Array = _texts(table.column(self.by)).dictionary_encode(null_encoding="encode").indices.to_numpy()
        return codes

    def within(self, table: pa.Table) -> pa.Table:
        """The rows of a part that may be among the best of all, in order, with their rank within the part.

        Rows without a score are left out; rows with a null in `by` belong together.
        """
        table = filtered(table, table.column(self.score).is_valid())
        ranks = ranked([self.groups(table)], table.column(self.score).to_numpy(), self.top_k)
        return _with_ranks(table.append_column(RANK_FIELD, pa.nulls(table.num_rows, pa.int32())), ranks)


def check_best(best: Best, schema: pa.Schema, keep: Sequence[str]) -> None:
    """Raise PairscoreError unless rows of `schema`, of which the output has the columns `keep`, can be ranked."""
    if best.by not in schema.names:
        raise PairscoreError(f"--by: {no_column(best.by, schema.names)}")
    if best.by not in keep:
        raise PairscoreError(f"--by {best.by!r} is not in the output, where ranks need it: add it to --keep")
    if RANK_COLUMN in keep:
        raise PairscoreError(f"the input already has a column {RANK_COLUMN!r}: leave it out with --keep")
    kind = schema.field(best.by).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(getattr(pa.types, f"is_{name}")(kind) for name in _GROUPED):
        raise PairscoreError(
            f"column {best.by!r} is of type {kind}: --by takes a column of text, whole numbers, booleans or dates"
        )


class Ranking:
    """Ranks over all parts. `read`: a part's columns by names, in the parts' order."""

    def __init__(
        self,
        parts: Sequence[Any],
        read: Callable[[Any, list[str]], pa.Table],
        best: Best,
        folder: Path | None = None,
    ) -> None:
        """Read what ranks depend on, a part at a time. folder: of temporary files; None for the system's."""
        self._starts: dict[Any, tuple[int, int]] = {}
        self._file = open_temporary(folder)
        buckets = Buckets(_RECORD, folder)
        total = 0
        try:
            for part in parts:
                table = read(part, [best.by, best.score])
                records = np.empty(table.num_rows, _RECORD)
                records["key"] = _keys(table.column(best.by))
                records["score"] = table.column(best.score).to_numpy()
                records["place"] = np.arange(total, total + table.num_rows)
                buckets.append(records["key"][:, 0], records)
                self._starts[part] = (total, table.num_rows)
                total += table.num_rows
                write(self._file, folder, np.zeros(table.num_rows, np.int32))
            self._file.flush()
            self._total = total
            for each in buckets.take():
                ranks = ranked([each["key"][:, word] for word in range(4)], each["score"], best.top_k)
                if len(each):
                    self._ranks("r+")[each["place"]] = ranks
        except BaseException:
            self._file.close()
            raise
        finally:
            buckets.close()

    def apply(self, table: pa.Table, part: Any) -> pa.Table:
        """The rows of `table`, a whole part, that are among the best, with their rank.

        The table itself where that changes nothing, or where another process has done it since.
        """
        start, rows = self._starts[part]
        if table.num_rows != rows or not rows:
            return table
        ranks = np.array(self._ranks("r")[start : start + rows])
        if np.array_equal(ranks, table.column(RANK_COLUMN).to_numpy()):
            return table
        return _with_ranks(table, ranks)

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()

    def _ranks(self, mode: Any) -> Any:
        return np.memmap(self._file, np.int32, mode, shape=(self._total,))


def ranked(groups: Sequence[npt.NDArray[Any]], scores: npt.NDArray[np.float32], top_k: int) -> Int32Array:
    """Each row's rank within its group, Shape (n,), or 0 behind the best `top_k`.

    groups: arrays of Shape (n,); rows that agree in all of them are one group. scores: Shape (n,).
    """
    order = np.lexsort((-scores, *reversed(groups)))  # stable: equal scores stay in order
    starts = np.zeros(len(order), dtype=bool)
    starts[:1] = True
    for group in groups:
        starts[1:] |= group[order][1:] != group[order][:-1]
    place = np.arange(len(order))
    rank = place - np.maximum.accumulate(np.where(starts, place, 0)) + 1
    ranks = np.zeros(len(order), dtype=np.int32)
    ranks[order] = np.where(rank <= top_k, rank, 0)
    return ranks


def _with_ranks(table: pa.Table, ranks: Int32Array) -> pa.Table:
    place = table.schema.names.index(RANK_COLUMN)
    return filtered(table.set_column(place, RANK_FIELD, pa.array(ranks)), pa.array(ranks > 0))


def _texts(column: pa.ChunkedArray) -> pa.StringArray:
    """A column's values as text, so that one digest serves all types; nulls stay."""
    array = column.combine_chunks()
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    return (array.dictionary_decode() if pa.types.is_dictionary(array.type) else array).cast(pa.string())


def _keys(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """Shape (n, 4): equal for rows of one claim. All zero for a null, which no text's digest is known to be."""
    texts = _texts(column)
    keys = text_digests(pc.fill_null(texts, ""))
    keys[texts.is_null().to_numpy(zero_copy_only=False)] = 0
    return keys
