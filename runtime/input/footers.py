"""What the footers of input files say, and whether it fits the job: before anything is computed."""

import hashlib
import struct
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.runtime.errors import PairscoreError, TryAgainError, no_column, one_line
from pairscore.runtime.input.find import Found
from pairscore.runtime.input.other_formats import other_format
from pairscore.runtime.storage.schema import FileSchema, file_schema, open_footer

_MAGIC = b"PAR1"
# One request for most footers of an object store.
_TAIL_BYTES = 64 * 1024
_HEAD_BYTES = 4096
FOOTERS_AT_ONCE = 16


@dataclass(frozen=True)
class InputFile:
    """The facts from a file's footer that a job needs. Whole parsed footers of many files would not fit into memory.

    `digest`: SHA-256 of the footer, which lists every column chunk's size and statistics, so it changes with the
    content in all but contrived cases. `groups_with_null`: row groups whose statistics tell of a null text.
    """

    found: Found
    size: int
    digest: str
    columns: FileSchema
    group_rows: tuple[int, ...]
    groups_with_null: tuple[int, ...]

    @property
    def schema(self) -> pa.Schema:
        """The columns as Arrow reads them."""
        return self.columns.arrow

    @property
    def rows(self) -> int:
        """Rows in all row groups."""
        return sum(self.group_rows)

    def row_name(self, row: int) -> str:
        """What messages call a row, which counts from 0."""
        return f"row {row} of {self.found.display!r}"


# The result of reading a footer: the file, or why it cannot be read.
FooterResult = InputFile | PairscoreError
# Given files and the text columns, what reading the footer of each gives, in order.
FooterReader = Callable[[Sequence[Found], Sequence[str]], Generator[FooterResult, None, None]]


def read_here(
    found: Sequence[Found],
    text_columns: Sequence[str],
    at_once: int = FOOTERS_AT_ONCE,
    announce: Callable[[int], None] = lambda place: None,
) -> Generator[FooterResult, None, None]:
    """The footer of each file, in order, several read at a time. announce: called with a file's place before that."""

    def opened(place: int) -> FooterResult:
        announce(place)
        try:
            return open_file(found[place], text_columns)
        except PairscoreError as error:
            return error

    with ThreadPoolExecutor(at_once, thread_name_prefix="pairscore-footer") as pool:
        yield from pool.map(opened, range(len(found)))


def open_file(found: Found, text_columns: Sequence[str] = ()) -> InputFile:
    """Read a file's footer. Raises PairscoreError for what is not a whole Parquet file."""
    try:
        with found.storage.open(found.path) as source:
            size = source.size()
            footer = read_footer(source)
        metadata, _ = open_footer(footer)
        columns = file_schema(footer)
        groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
        groups_with_null = [place for place, group in enumerate(groups) if _has_null(group, text_columns)]
        _ = columns.arrow.names  # Arrow decodes names when they are asked for
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise _other_format(found) or unreadable(found, error, "is not a whole Parquet file") from error
    return InputFile(
        found,
        size,
        hashlib.sha256(footer).hexdigest(),
        columns,
        tuple(group.num_rows for group in groups),
        tuple(groups_with_null),
    )


def _other_format(found: Found) -> PairscoreError | None:
    """The error for a file of another format; None for what may have been Parquet."""
    try:
        with found.storage.open(found.path) as source:
            head = source.read(_HEAD_BYTES)
    except (OSError, pa.ArrowException):
        return None
    advice = None if head[:4] == _MAGIC else other_format(found.display, head)
    return None if advice is None else PairscoreError(f"{found.display!r} {advice}")


def unreadable(found: Found, error: Exception, fault: str) -> PairscoreError:
    """The error for a file that could not be read. fault: what is said of it where that does not pass by itself."""
    if isinstance(error, ConnectionError | TimeoutError):
        return TryAgainError(f"cannot read {found.display!r} ({one_line(error)}): run the same command again")
    if isinstance(error, PermissionError | FileNotFoundError):
        return PairscoreError(f"cannot read {found.display!r}: {one_line(error)}")
    return PairscoreError(
        f"{found.display!r} {fault} ({one_line(error)}): write it again, or leave it out with --on-error skip-file"
    )


def read_footer(source: pa.NativeFile) -> bytes:
    """The bytes of a Parquet file's footer. Raises ArrowInvalid where there is none."""
    size = source.size()
    source.seek(max(0, size - _TAIL_BYTES))
    tail: bytes = source.read()
    if len(tail) < 8 or tail[-4:] != _MAGIC:
        raise pa.ArrowInvalid("no Parquet footer at its end")
    (length,) = struct.unpack("<I", tail[-8:-4])
    if length + 8 > len(tail):
        source.seek(max(0, size - length - 8))
        tail = source.read()
    return tail[-length - 8 :]


def needed_columns(schema: pa.Schema, keep: Sequence[str] | None, *others: Iterable[str]) -> list[str]:
    """Names of the columns to read, in the file's order. keep: None for all of them.

    Raises PairscoreError for a column that is not there.
    """
    wanted = set(schema.names if keep is None else keep).union(*others)
    missing = sorted(wanted - set(schema.names))
    if missing:
        raise PairscoreError(no_column(missing[0], schema.names))
    return [name for name in schema.names if name in wanted]


def _has_null(group: pq.RowGroupMetaData, columns: Sequence[str]) -> bool:
    chunks = (group.column(place) for place in range(group.num_columns))
    statistics = [chunk.statistics for chunk in chunks if chunk.path_in_schema in columns]
    return any(each is not None and each.has_null_count and each.null_count > 0 for each in statistics)
