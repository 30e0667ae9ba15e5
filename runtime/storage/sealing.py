"""A part as bytes: this project's figures in its footer, and a seal that shows whether any byte has changed since."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.runtime.storage.parquet import open_writer

# Key of this project's JSON in the Parquet metadata of what it writes.
METADATA_KEY = b"pairscore"
_SEAL_BYTES = hashlib.sha256().digest_size


def part_bytes(table: pa.Table, metadata: Mapping[str, Any], **writing: Any) -> bytes:
    """A part as the bytes of a Parquet file of one row group, sealed. metadata: JSON-serialisable figures.

    writing: keywords of the Parquet writer.
    """
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **as_metadata(metadata)})
    with open_writer(sink, table.schema, **writing) as writer:
        writer.write_table(table, row_group_size=max(1, table.num_rows))
    data = sink.getvalue().to_pybytes()
    footer = len(data) - _footer_bytes(data)
    # Parquet's page checksums leave out page headers and the footer. Readers follow the footer's offsets and pass over
    # what lies between the last page and it.
    return b"".join((data[:footer], hashlib.sha256(data).digest(), data[footer:]))


def is_intact(data: bytes) -> bool:
    """Whether every byte of a part is as `part_bytes` made it: the SHA-256 before its footer is that of the rest."""
    footer = len(data) - _footer_bytes(data)
    seal = footer - _SEAL_BYTES
    if seal < 0:
        return False
    view = memoryview(data)
    rest = hashlib.sha256(view[:seal])
    rest.update(view[footer:])
    return rest.digest() == data[seal:footer]


def _footer_bytes(data: bytes) -> int:
    """The length of a Parquet file's footer, its length and magic number included."""
    return int.from_bytes(data[-8:-4], "little") + 8


def as_metadata(metadata: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Figures of this project as Parquet metadata."""
    return {METADATA_KEY: json.dumps(metadata, ensure_ascii=False).encode()}


def part_figures(metadata: pq.FileMetaData) -> dict[str, Any]:
    """What `as_metadata` made. Raises ValueError for a file without it."""
    raw = (metadata.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise ValueError("the file carries no pairscore metadata")
    result = json.loads(raw)
    if not isinstance(result, dict):
        raise ValueError("its pairscore metadata is no object")
    return result
