"""Arrow columns: find the text columns, cut a stream into windows, append the scores."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairscore.runtime.errors import PairscoreError, no_column, one_line

# A window is sorted, held in memory and, in a crash, lost as a whole.
WINDOW_PAIRS = 65_536
WINDOW_BYTES = 64 * 1024 * 1024

# Well-formed UTF-8 as a pattern over bytes (The Unicode Standard, table 3-7), for finding the rows that are not.
_UTF8 = (
    r"\A(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    r"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}"
    r"|\xf4[\x80-\x8f][\x80-\xbf]{2})*\z"
)


class LongOptions(TypedDict, total=False):
    """What becomes of evidence that does not fit beside its claim.

    `long_evidence`: "cut", which is the default, or "split": it is scored in passages that share `overlap` tokens, 64
    by default. `combine`: "max", which is the default, takes the scores of the best passage, "mean" their mean.
    `rank_by`: the label whose score says which passage is the best, where there are several.
    """

    long_evidence: Literal["cut", "split"]
    overlap: int
    combine: Literal["max", "mean"]
    rank_by: str | None


class NewColumnOptions(LongOptions, total=False):
    """What scoring appends to a table.

    `score_column`: the scores, `score` by default; with several labels `score_<label>` for each. `prediction_column`:
    the label with the largest score. `truncated_column`: whether the pair was cut. `passage_columns`: `passage_begin`
    and `passage_end`, where the best passage of split evidence lies, in characters.
    """

    score_column: str
    prediction_column: str | None
    truncated_column: str | None
    passage_columns: bool


class ColumnOptions(NewColumnOptions, total=False):
    """What scoring takes besides the table: names of its columns, by default `claim` and `evidence`, and the above.

    `on_null`, `on_invalid_utf8`: what a null claim or evidence is, and one whose bytes are not UTF-8: an error that
    names the row, which is the default, or a null score.
    """

    claim_column: str
    evidence_column: str
    on_null: Literal["error", "null"]
    on_invalid_utf8: Literal["error", "null"]


def pair_arrays(pairs: Sequence[Sequence[str]]) -> tuple[pa.StringArray, pa.StringArray]:
    """Claims and evidence, Shape (pairs,) each. Raises PairscoreError for a text that UTF-8 cannot encode."""
    try:
        claims, evidence = (pa.array([pair[side] for pair in pairs], pa.string()) for side in (0, 1))
    except UnicodeEncodeError as error:
        raise PairscoreError(f"a text holds a lone surrogate ({error}): decode it correctly") from error
    return claims, evidence


def open_stream(stream: Any) -> pa.RecordBatchReader:
    """A reader over anything with the Arrow C stream interface, or an Arrow dataset.

    Raises PairscoreError for what is neither, with the call that makes it one, and for columns of mixed types.
    """
    if hasattr(stream, "scanner"):  # an Arrow dataset
        return stream.scanner().to_reader()
    if not hasattr(stream, "__arrow_c_stream__"):
        remedy = "pass a pyarrow Table or RecordBatchReader, a Polars or pandas frame, or a DuckDB relation"
        if hasattr(stream, "collect"):
            remedy = "pass what its .collect() gives"
        elif hasattr(stream, "with_format"):
            remedy = 'pass its .with_format("arrow")[:]'
        elif isinstance(stream, Mapping):
            remedy = "pass pyarrow.table(it)"
        elif isinstance(stream, list):
            remedy = "pass pyarrow.Table.from_pylist(it), or give pairs to predict"
        raise PairscoreError(f"a {type(stream).__name__} offers no Arrow stream: {remedy}")
    try:
        return pa.RecordBatchReader.from_stream(stream)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise PairscoreError(
            f"this {type(stream).__name__} does not become Arrow columns ({one_line(error)}): give each column one type"
        ) from error


def check_text_column(schema: pa.Schema, name: str, option: str) -> None:
    """Raise PairscoreError unless `schema` has one column `name` that can hold text.

    `option`: the command-line option that names this column, for the remedy.
    """
    found = schema.get_all_field_indices(name)
    if not found:
        raise PairscoreError(f"{no_column(name, schema.names)}; use {option} NAME")
    if len(found) > 1:
        raise PairscoreError(f"{len(found)} columns are named {name!r}: rename one, or use {option} NAME")
    kind = schema.field(found[0]).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (_is_text(kind) or _is_binary(kind) or pa.types.is_null(kind)):
        raise PairscoreError(f"column {name!r} is of type {kind}, not text: cast it to string, or use {option} NAME")


def check_text_columns(schema: pa.Schema, claim_column: str, evidence_column: str) -> None:
    """Raise PairscoreError unless `schema` has both text columns."""
    check_text_column(schema, claim_column, "--claim-column")
    check_text_column(schema, evidence_column, "--evidence-column")


def text_bytes(column: pa.Array | pa.ChunkedArray) -> pa.BinaryArray:
    """A text column of any Arrow encoding as one array of bytes, nulls kept."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(column, pa.ChunkedArray):  # what combine_chunks gives for no chunks at all
        column = pa.array([], type=column.type)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.binary())


def decode(encoded: pa.BinaryArray) -> tuple[pa.StringArray, pa.BooleanArray | None]:
    """Bytes as text, null where they are not UTF-8; and which rows those are, or None where there are none.

    Arrow checks the encoding when it casts bytes to text, and never when it reads a column that a file calls text.
    """
    try:
        return encoded.cast(pa.string()), None
    except pa.ArrowInvalid:
        well_formed = pc.call_function("match_substring_regex", [encoded], pc.MatchSubstringOptions(_UTF8))
        malformed = pc.fill_null(pc.call_function("invert", [well_formed]), False)
        return pc.call_function("if_else", [malformed, None, encoded]).cast(pa.string()), malformed


def text_pair(
    table: pa.Table | pa.RecordBatch,
    columns: Sequence[str],
    on_null: str = "error",
    on_invalid_utf8: str = "error",
    row_name: Callable[[int], str] = "row {}".format,
) -> tuple[pa.StringArray, pa.StringArray, pa.BooleanArray]:
    """Claims and evidence of the rows that have both, and which rows those are.

    columns: the claim's and the evidence's. `on_null`, `on_invalid_utf8`: "null" leaves such rows out, anything else
    raises PairscoreError, which names the first of them. `row_name`: what it calls a row of the table.
    """
    texts: list[pa.StringArray] = []
    for name in columns:
        encoded = text_bytes(table.column(name))
        text, malformed = decode(encoded)
        if malformed is not None and on_invalid_utf8 != "null":
            row = malformed.index(True).as_py()
            raise _invalid_utf8_error(row_name(row), name, encoded[row].as_py())
        if text.null_count and on_null != "null":
            nulls = text.is_null() if malformed is None else pc.call_function("and_not", [text.is_null(), malformed])
            row = nulls.index(True).as_py()
            if row >= 0:
                raise _null_error(row_name(row), name)
        texts.append(text)
    claims, evidence = texts
    valid = pc.call_function("and", [claims.is_valid(), evidence.is_valid()])
    if claims.null_count == 0 and evidence.null_count == 0:
        return claims, evidence, valid
    return claims.filter(valid), evidence.filter(valid), valid


def _null_error(row: str, column: str) -> PairscoreError:
    """The error for a null. row: in words."""
    return PairscoreError(
        f"{row} has a null in column {column!r}: fill it, or give such rows a null score with --on-null null"
    )


def _invalid_utf8_error(row: str, column: str, value: bytes) -> PairscoreError:
    try:
        reason = repr(value.decode())
    except UnicodeDecodeError as error:
        reason = f"byte 0x{value[error.start]:02x} at position {error.start}"
    return PairscoreError(
        f"{row} has bytes in column {column!r} that are not UTF-8 ({reason}): decode the column, or give such rows a "
        "null score with --on-invalid-utf8 null"
    )


def windows(
    batches: Iterable[pa.RecordBatch],
    text_columns: Sequence[str],
    max_pairs: int = WINDOW_PAIRS,
    max_bytes: int = WINDOW_BYTES,
) -> Iterator[pa.Table]:
    """Cut a stream into tables of at most `max_pairs` rows and `max_bytes` of values in all columns (or one row).

    Where a window ends depends on the rows alone, never on how they arrived in batches.
    """
    pending: list[pa.RecordBatch] = []
    pairs = pending_bytes = 0
    for batch in _pieces(batches, max_pairs):
        sizes = _batch_bytes(batch, text_columns)
        ends = np.cumsum(sizes)
        start = 0
        while start < batch.num_rows:
            before = int(ends[start - 1]) if start else 0
            fitting = int(np.searchsorted(ends, before + max_bytes - pending_bytes, side="right"))
            stop = min(fitting, start + max_pairs - pairs, batch.num_rows)
            if stop == start and not pairs:
                stop = start + 1  # one row over the limit by itself
            if stop > start:
                pending.append(batch.slice(start, stop - start))
                pairs += stop - start
                pending_bytes += int(ends[stop - 1]) - before
                start = stop
            if start < batch.num_rows or pairs == max_pairs:
                yield pa.Table.from_batches(pending)
                pending, pairs, pending_bytes = [], 0, 0
    if pending:
        yield pa.Table.from_batches(pending)


def _pieces(batches: Iterable[pa.RecordBatch], most: int) -> Iterator[pa.RecordBatch]:
    """Cut into at most `most` rows: a frame can come as one batch of all its rows, and measuring copies some types."""
    for batch in batches:
        for start in range(0, batch.num_rows, most):
            yield batch.slice(start, most)


def _batch_bytes(batch: pa.RecordBatch, text_columns: Sequence[str]) -> np.ndarray:
    """Bytes of each row's values, Shape (rows,). Text counts decoded, so that a dictionary changes nothing."""
    total = np.zeros(batch.num_rows, dtype=np.int64)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        decode = name in text_columns and pa.types.is_dictionary(column.type)
        total += row_bytes(column.dictionary_decode() if decode else column)
    return total


def row_bytes(array: pa.Array) -> np.ndarray:
    """Bytes of each value, Shape (rows,), nested ones in full; a dictionary's own values are not counted."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    total = np.zeros(len(array), dtype=np.int64)
    if _is_text(kind) or _is_binary(kind):
        plain = array.cast(pa.large_binary()) if kind in (pa.string_view(), pa.binary_view()) else array
        lengths = pc.call_function("binary_length", [plain])
        total += pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False)
    elif pa.types.is_struct(kind):
        for place in range(kind.num_fields):
            total += row_bytes(array.field(place))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        offsets = array.offsets.to_numpy()
        children = (array.keys, array.items) if pa.types.is_map(kind) else (array.values,)
        # Of a slice, the children are those of the whole array.
        first, length = int(offsets[0]), int(offsets[-1] - offsets[0])
        ends = np.zeros(length + 1, np.int64)
        ends[1:] = np.cumsum(sum(row_bytes(child.slice(first, length)) for child in children))
        total += ends[offsets[1:] - first] - ends[offsets[:-1] - first]
    elif pa.types.is_fixed_size_list(kind):
        first, size = array.offset * kind.list_size, len(array) * kind.list_size
        total += row_bytes(array.values.slice(first, size)).reshape(len(array), kind.list_size).sum(axis=1)
    else:
        with suppress(ValueError):  # a type of no width, null for one
            total += kind.bit_width // 8
    return total


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))
