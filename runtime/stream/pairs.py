"""Pairs as Python callers have them, to rows."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pairscore.runtime.errors import PairscoreError, quoted
from pairscore.runtime.stream.columns import open_stream

PAIR_COLUMNS = ("claim", "evidence")


def pair_rows(given: Any) -> tuple[list[Any], bool]:
    """(claim, evidence) of each pair, and whether one pair alone was given.

    given: one pair; any iterable of pairs (a list, a generator, `zip(claims, evidence)`, a numpy array, a Series); or a
    table or frame with the columns claim and evidence, or with two columns in all. Raises PairscoreError for anything
    else.
    """
    if hasattr(given, "__arrow_c_stream__") and not _is_series(given):
        return _rows_of_table(given), False
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise PairscoreError(
            f"{given!r:.80} is no list of pairs: give (claim, evidence) pairs, or a table with these two columns"
        )
    rows = [row.tolist() if isinstance(row, np.ndarray) else row for row in given]
    single = bool(rows) and isinstance(rows[0], str)
    rows = [tuple(rows)] if single else rows
    for place, row in enumerate(rows):
        if not isinstance(row, list | tuple) or len(row) != 2 or not all(isinstance(text, str) for text in row):
            raise PairscoreError(f"pair {place} is {row!r:.80}: a pair is (claim, evidence), two strings")
    return rows, single


def _is_series(given: Any) -> bool:
    """Whether it is one column of a frame, whose values may be pairs."""
    return type(given).__name__ == "Series" or isinstance(given, pa.Array | pa.ChunkedArray)


def _rows_of_table(given: Any) -> list[tuple[str, str]]:
    with open_stream(given) as reader:
        # pandas sends its index along.
        names = [name for name in reader.schema.names if not name.startswith("__index_level_")]
        columns = PAIR_COLUMNS if set(PAIR_COLUMNS) <= set(names) else tuple(names)
        if len(columns) != 2:
            raise PairscoreError(
                f"a {type(given).__name__} of the columns {quoted(names)}: give one with the columns claim and evidence"
            )
        table = reader.read_all()
    rows = []
    for place, row in enumerate(zip(*(table.column(name).to_pylist() for name in columns), strict=True)):
        if not all(isinstance(text, str) for text in row):
            raise PairscoreError(f"pair {place} is {row!r:.80}: a pair is (claim, evidence), two strings")
        rows.append(row)
    return rows
