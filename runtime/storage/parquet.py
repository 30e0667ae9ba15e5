"""Parquet read in little memory: in small batches, column chunks through a buffer, every page checked.

With Arrow's defaults, memory grows with the size of a row group.
"""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

_BATCH_ROWS = 8192


def read_batches(
    source: pa.NativeFile,
    columns: Sequence[str],
    buffer_size: int,
    *,
    metadata: pq.FileMetaData | None = None,
    row_groups: Sequence[int] | None = None,
) -> Iterator[pa.RecordBatch]:
    """The columns of a file, or of some of its row groups. metadata: the file's own, where it is known already.

    Raises OSError and ArrowException for a file that is damaged.
    """
    with pq.ParquetFile(
        source, metadata=metadata, buffer_size=buffer_size, pre_buffer=False, page_checksum_verification=True
    ) as parquet:
        wanted = list(dict.fromkeys(columns))
        yield from parquet.iter_batches(_BATCH_ROWS, row_groups=row_groups, columns=wanted, use_threads=False)
