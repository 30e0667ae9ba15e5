"""Parquet read in little memory: in small batches, column chunks through a buffer, every page checked.

With Arrow's defaults, memory grows with the size of a row group.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.runtime.storage.schema import INT96_UNIT
from pairscore.runtime.types import Int64Array

_BATCH_ROWS = 8192

Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)


def read_batches(
    source: pa.NativeFile,
    columns: Sequence[str],
    buffer_size: int,
    *,
    metadata: pq.FileMetaData | None = None,
    row_groups: Sequence[int] | None = None,
    int96_unit: str = INT96_UNIT,
) -> Iterator[pa.RecordBatch]:
    """The columns of a file, or of some of its row groups. metadata: the file's own, where it is known already.

    int96_unit: what timestamps in INT96 are read as.

    Raises OSError and ArrowException for a file that is damaged.
    """
    with pq.ParquetFile(
        source,
        metadata=metadata,
        buffer_size=buffer_size,
        pre_buffer=False,
        page_checksum_verification=True,
        coerce_int96_timestamp_unit=int96_unit,
    ) as parquet:
        wanted = list(dict.fromkeys(columns))
        yield from parquet.iter_batches(_BATCH_ROWS, row_groups=row_groups, columns=wanted, use_threads=False)


@contextmanager
def open_writer(sink: Any, schema: pa.Schema, **writing: Any) -> Iterator[pq.ParquetWriter]:
    """A writer of pages with checksums. writing: its other keywords.

    The schema's keys go into the footer. Arrow does that itself only where it writes its own schema there too.
    """
    with pq.ParquetWriter(sink, schema, write_page_checksum=True, **writing) as writer:
        if not writing.get("store_schema", True) and schema.metadata:
            writer.add_key_value_metadata(schema.metadata)
        yield writer


def in_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch's columns of `schema`, in its types, which hold the same values; nulls for a column that it lacks.

    Raises ArrowException for values that do not fit.
    """
    columns = []
    for each in schema:
        there = each.name in batch.schema.names
        column = batch.column(each.name) if there else pa.nulls(batch.num_rows, each.type)
        columns.append(column if column.type == each.type else cast(column, each.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column in another type that holds its values."""
    if pa.types.is_dictionary(column.type) and pa.types.is_dictionary(kind):
        values = column.dictionary.cast(kind.value_type)
        return pa.DictionaryArray.from_arrays(column.indices.cast(kind.index_type), values, ordered=kind.ordered)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(kind)


def filtered(rows: Rows, condition: Any) -> Rows:
    """The rows that meet a condition, a mask or an expression. Arrow's own filter takes no views of text and bytes."""
    plain = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    kinds = [plain.get(each.type, each.type) for each in rows.schema]
    if kinds == rows.schema.types:
        return rows.filter(condition)
    columns = [column.cast(kind) for column, kind in zip(rows.columns, kinds, strict=True)]
    kept = type(rows).from_arrays(columns, rows.schema.names).filter(condition)
    columns = [column.cast(each.type) for column, each in zip(kept.columns, rows.schema, strict=True)]
    return type(rows).from_arrays(columns, schema=rows.schema)


def timestamps(array: pa.Array) -> list[Int64Array]:
    """The numbers of all timestamps in a column, nested ones too, nulls as 0."""
    kind = array.type
    if pa.types.is_timestamp(kind):
        return [array.cast(pa.int64()).fill_null(0).to_numpy()]
    if pa.types.is_struct(kind):
        children = array.flatten()
    elif pa.types.is_map(kind):
        children = [array.keys, array.items]
    elif pa.types.is_nested(kind):
        children = [array.flatten()]
    else:
        children = []
    return [numbers for child in children for numbers in timestamps(child)]
