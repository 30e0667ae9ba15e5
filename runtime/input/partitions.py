"""Hive-style partitions: `year=2020/` above a file stands for a column of one value."""

import re
from collections.abc import Iterable

import pyarrow as pa

from pairscore.runtime.input.find import Found
from pairscore.runtime.input.footers import InputFile
from pairscore.runtime.input.tables import NO_VALUE


def partition_fields(files: Iterable[InputFile]) -> list[pa.Field]:
    """The columns that the partition folders stand for.

    Of a Delta table they have its types. Else int64 where every value is an integer, and string.
    """
    values: dict[str, list[str]] = {}
    known: dict[str, pa.DataType] = {}
    for file in files:
        for key, value in file.found.partitions:
            if file.found.table is not None:
                known[key] = file.found.table.schema.field(key).type
            values.setdefault(key, []).extend([value] if value != NO_VALUE else [])
    return [
        pa.field(key, known.get(key) or (pa.int64() if each and all(map(_is_int64, each)) else pa.string()))
        for key, each in values.items()
    ]


def partition_array(file: Found, field: pa.Field, rows: int) -> pa.Array:
    """The partition column of one file, Shape (rows,)."""
    value = dict(file.partitions)[field.name]
    typed = pa.scalar(None if value == NO_VALUE else value, pa.string()).cast(field.type)
    return pa.repeat(typed, rows)


def _is_int64(value: str) -> bool:
    return re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", value) is not None
