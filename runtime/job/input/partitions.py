"""Hive-style partitions: `year=2020/` above a file stands for a column of one value."""

import re
from collections.abc import Iterable

import pyarrow as pa

from pairscore.runtime.job.input.find import Found
from pairscore.runtime.job.input.footers import InputFile

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def partition_fields(files: Iterable[InputFile]) -> list[pa.Field]:
    """The columns that the partition folders stand for: int64 where every value is an integer, else string."""
    values: dict[str, list[str]] = {}
    for file in files:
        for key, value in file.found.partitions:
            values.setdefault(key, []).extend([value] if value != _NO_VALUE else [])
    return [
        pa.field(key, pa.int64() if each and all(_is_int64(value) for value in each) else pa.string())
        for key, each in values.items()
    ]


def partition_array(file: Found, field: pa.Field, rows: int) -> pa.Array:
    """The partition column of one file, Shape (rows,)."""
    value = dict(file.partitions)[field.name]
    typed = None if value == _NO_VALUE else int(value) if pa.types.is_int64(field.type) else value
    return pa.repeat(pa.scalar(typed, field.type), rows)


def _is_int64(value: str) -> bool:
    return re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", value) is not None
