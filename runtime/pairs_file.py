"""The user's own pairs, in a list or a Parquet file: for checks against PyTorch, for tuning and calibrating."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.runtime.errors import PairscoreError, one_line
from pairscore.runtime.stream.columns import check_text_columns, text_pair, windows
from pairscore.runtime.types import Pair

# A Parquet file of pairs, or the pairs themselves.
Pairs = str | Path | Sequence[Pair]

_ALL = 1 << 60


def given_pairs(
    given: Pairs, claim_column: str, evidence_column: str, limit: int | None = None, *, option: str = "--pairs"
) -> list[Pair]:
    """The first `limit` pairs, or all of them. Raises PairscoreError for what is no pair, and as `read_pairs` does."""
    if isinstance(given, str | Path):
        return read_pairs(Path(given), claim_column, evidence_column, limit, option=option)
    pairs = list(given)[:limit]
    for place, pair in enumerate(pairs):
        if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise PairscoreError(f"{option} {place} is {pair!r:.80}: a pair is (claim, evidence), two strings")
    return [(claim, evidence) for claim, evidence in pairs]


def read_pairs(
    path: Path, claim_column: str, evidence_column: str, limit: int | None = None, *, option: str = "--pairs"
) -> list[Pair]:
    """The first `limit` pairs of a Parquet file, or all of them. option: the command-line option that named the file.

    Raises PairscoreError for a file that is missing, not Parquet, or empty, for a column that is missing or not
    text, for a null and for bytes that are not UTF-8.
    """
    if not path.is_file():
        raise PairscoreError(f"no file {str(path)!r}: give a Parquet file of pairs with {option}")
    try:
        with pq.ParquetFile(path) as file:
            check_text_columns(file.schema_arrow, claim_column, evidence_column)
            batches = file.iter_batches(columns=list(dict.fromkeys((claim_column, evidence_column))))
            table = next(windows(batches, (), limit or _ALL, _ALL), None)
    except (pa.ArrowException, OSError) as error:
        raise PairscoreError(
            f"{str(path)!r} cannot be read as Parquet ({one_line(error)}): give a Parquet file"
        ) from error
    if table is None:
        raise PairscoreError(f"{str(path)!r} holds no rows: give a file with pairs")
    claims, evidence, valid = text_pair(table, (claim_column, evidence_column), "null", "null")
    if len(claims) != len(valid):
        row = valid.index(False).as_py()
        raise PairscoreError(
            f"row {row} of {str(path)!r} has a null claim or evidence, or one that is not UTF-8: drop such rows"
        )
    return list(zip(claims.to_pylist(), evidence.to_pylist(), strict=True))


def read_labels(path: Path, column: str) -> tuple[bool, ...]:
    """A column of truth values, or of numbers of which those above zero are true, one a row.

    Raises PairscoreError for a column that is missing, of another type, or has a null.
    """
    values = _labels(path, column)
    kind = values.type
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise PairscoreError(f"column {column!r} is {kind}, not truth values: name another with --label-column")
    return tuple(value > 0 for value in values.to_pylist())


def read_label_names(path: Path, column: str) -> tuple[str, ...]:
    """A column of names of labels, one a row. Raises PairscoreError as `read_labels` does."""
    values = _labels(path, column)
    try:
        return tuple(values.cast(pa.string()).to_pylist())
    except pa.ArrowException as error:
        raise PairscoreError(
            f"column {column!r} is {values.type}, not names of labels: name another with --label-column"
        ) from error


def _labels(path: Path, column: str) -> pa.ChunkedArray:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if column not in names:
            raise PairscoreError(f"no column {column!r} (there are {', '.join(names)}): name one with --label-column")
        values = file.read(columns=[column])[column]
    if values.null_count:
        raise PairscoreError(f"column {column!r} has {values.null_count} nulls: drop such rows")
    return values
