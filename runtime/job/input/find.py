"""Files, folders and patterns to a checked list of Parquet files, before anything is computed."""

import hashlib
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.runtime.errors import PairscoreError, one_line
from pairscore.runtime.storage.local import Storage, is_hidden, open_storage

PARQUET_SUFFIXES = (".parquet", ".pq", ".parq")
_MAGIC = b"PAR1"
# One request for most footers of an object store.
_TAIL_BYTES = 64 * 1024
FOOTERS_AT_ONCE = 16
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Found:
    """A file of the input, not opened yet.

    `name`: its path below the folder or pattern that it came from: the same on every machine.
    `partitions`: (key, value) of each `key=value` folder on the way.
    """

    storage: Storage
    path: str
    name: str
    partitions: tuple[tuple[str, str], ...] = ()

    @property
    def display(self) -> str:
        """The file as a user would write it."""
        return self.storage.display(self.path)

    @property
    def folder(self) -> str:
        """The partition folders alone, "" without partitions."""
        parents = PurePosixPath(self.name).parts[:-1]
        return "/".join(parent for parent in parents if "=" in parent)


@dataclass(frozen=True)
class InputFile:
    """The facts from a file's footer that a job needs. Whole parsed footers of many files would not fit into memory.

    `digest`: SHA-256 of the footer, which lists every column chunk's size and statistics, so it changes with the
    content in all but contrived cases. `groups_with_null`: row groups whose statistics tell of a null text.
    """

    found: Found
    size: int
    digest: str
    schema: pa.Schema
    group_rows: tuple[int, ...]
    groups_with_null: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows in all row groups."""
        return sum(self.group_rows)

    def row_name(self, row: int) -> str:
        """What messages call a row, which counts from 0."""
        return f"row {row} of {self.found.display!r}"


@dataclass(frozen=True)
class FooterReading:
    """How footers are read. `left_out`: place of a file -> why it is not. `announce`: told of a place before it is."""

    left_out: Mapping[int, str] = field(default_factory=dict)
    at_once: int = FOOTERS_AT_ONCE
    announce: Callable[[int], None] = lambda place: None


def find_files(inputs: Sequence[str], output: str | None = None) -> list[Found]:
    """The files that `inputs` name, in order: sorted within a folder or a pattern.

    Files and folders whose name starts with a dot or an underscore are left out of folders and patterns.
    `output`: where results go; it must not become input of the next run. Raises PairscoreError for an input
    that is not there or holds no file, for a file named twice, and for an output inside the input.
    """
    if not inputs:
        raise PairscoreError("no input: name Parquet files, a folder or a pattern")
    target = open_storage(output) if output is not None else None
    found: list[Found] = []
    for url in inputs:
        storage, path = open_storage(url)
        inside = target is not None and target[0].scheme == storage.scheme and _takes_in(storage, path, target[1])
        try:
            files = _expand(storage, path, url)
        except OSError as error:
            raise PairscoreError(
                f"cannot read input {url!r} ({one_line(error)}): check the path and its permissions"
            ) from error
        if inside or any(target is not None and _same(file, target) for file in files):
            raise PairscoreError(
                f"output {output!r} lies inside input {url!r}, where the next run would read it: "
                "choose an output elsewhere"
            )
        found.extend(files)
    seen: dict[tuple[str, str], str] = {}
    for file in found:
        key = (file.storage.scheme, _real(file))
        if key in seen:
            raise PairscoreError(f"input file {file.display!r} is given twice: its rows would be scored twice")
        seen[key] = file.name
    _check_partitions(found)
    return found


def open_files(
    found: Sequence[Found],
    text_columns: Sequence[str],
    check: Callable[[InputFile], None],
    skip: Callable[[int, PairscoreError], None] | None,
    reading: FooterReading = FooterReading(),
) -> list[InputFile | None]:
    """Read the footer of each file once, several at a time, and `check` them in order.

    skip: called with the place of a file that fails and its error; the file is then None. Without it the error is
    raised.
    """

    def opened(place: int) -> InputFile | PairscoreError:
        if place in reading.left_out:
            return PairscoreError(f"{found[place].display!r} {reading.left_out[place]}")
        reading.announce(place)
        try:
            return open_file(found[place], text_columns)
        except PairscoreError as error:
            return error

    files: list[InputFile | None] = []
    with ThreadPoolExecutor(reading.at_once, thread_name_prefix="pairscore-footer") as pool:
        places = range(len(found))
        for place, result in enumerate(pool.map(opened, places) if reading.at_once > 1 else map(opened, places)):
            try:
                if isinstance(result, PairscoreError):
                    raise result
                check(result)
                files.append(result)
            except PairscoreError as error:
                if skip is None:
                    raise
                skip(place, error)
                files.append(None)
    return files


def open_file(found: Found, text_columns: Sequence[str] = ()) -> InputFile:
    """Read a file's footer. Raises PairscoreError for what is not a whole Parquet file."""
    try:
        with found.storage.open(found.path) as source:
            size = source.size()
            footer = read_footer(source)
        metadata = pq.read_metadata(pa.BufferReader(footer))
        schema = metadata.schema.to_arrow_schema()
        groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
        groups_with_null = [place for place, group in enumerate(groups) if _tells_of_null(group, text_columns)]
        _ = schema.names  # Arrow decodes names when they are asked for
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise unreadable(found, error, "is not a whole Parquet file") from error
    return InputFile(
        found,
        size,
        hashlib.sha256(footer).hexdigest(),
        schema,
        tuple(group.num_rows for group in groups),
        tuple(groups_with_null),
    )


def unreadable(found: Found, error: Exception, fault: str) -> PairscoreError:
    """The error for a file that could not be read. fault: what is said of it where that does not pass by itself."""
    if isinstance(error, PermissionError | FileNotFoundError | ConnectionError | TimeoutError):
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
        raise PairscoreError(f"no column {missing[0]!r}: the input has {', '.join(schema.names)}")
    return [name for name in schema.names if name in wanted]


def check_same_schema(first: InputFile, other: InputFile, keep: Sequence[str] | None) -> None:
    """Raise PairscoreError unless the columns to keep have the same names and types in both files."""
    expected, got = ({field.name: field.type for field in file.schema} for file in (first, other))
    names = list(dict.fromkeys([*expected, *got])) if keep is None else keep
    for name in names:
        if expected.get(name) != got.get(name):
            raise PairscoreError(
                f"column {name!r} is {got.get(name, 'missing')} in {other.found.display!r} and "
                f"{expected.get(name, 'missing')} in {first.found.display!r}: score them separately, "
                "or name columns that agree with --keep"
            )


def _expand(storage: Storage, path: str, url: str) -> list[Found]:
    kind: Literal["file", "folder"] | None = storage.kind(path)
    if kind == "file":
        return [Found(storage, path, PurePosixPath(path).name)]
    if kind == "folder":
        names = [name for name in storage.files(path) if not is_hidden(name) and name.endswith(PARQUET_SUFFIXES)]
        if not names:
            raise PairscoreError(f"folder {url!r} holds no Parquet file: name one that does")
        return [_below(storage, path, name) for name in names]
    if not _WILDCARD.search(path):
        raise PairscoreError(f"no input {url!r}: give an existing Parquet file, a folder or a pattern in quotes")
    root = _fixed_part(path)
    paths = [each for each in storage.matching(path) if storage.kind(each) == "file"]
    names = [PurePosixPath(each).relative_to(root).as_posix() for each in paths]
    names = [name for name in names if not is_hidden(name)]
    if not names:
        raise PairscoreError(f"no file matches {url!r}: check the pattern")
    return [_below(storage, root, name) for name in names]


def _below(storage: Storage, root: str, name: str) -> Found:
    partitions = []
    for component in PurePosixPath(name).parts[:-1]:
        key, equals, value = component.partition("=")
        if equals and key:
            partitions.append((unquote(key), unquote(value)))
    return Found(storage, f"{root.rstrip('/')}/{name}", name, tuple(partitions))


def _fixed_part(pattern: str) -> str:
    fixed = []
    for component in PurePosixPath(pattern).parts[:-1]:
        if _WILDCARD.search(component):
            break
        fixed.append(component)
    return str(PurePosixPath(*fixed)) if fixed else ""


def _takes_in(storage: Storage, path: str, target: str) -> bool:
    """Whether reading the input `path` as a folder or a pattern would find files written at `target`."""
    if storage.kind(path) == "folder":
        real = _real_path(storage, path).rstrip("/")
        return f"{_real_path(storage, target)}/".startswith(f"{real}/")
    if _WILDCARD.search(path) and storage.kind(path) is None:
        pattern = path.split("/")
        return any(_matches(each.split("/"), pattern) for each in (target, f"{target}/part.parquet"))
    return False


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path's components match a pattern's, of which `**` stands for any number."""
    if not path or not pattern:
        return not path and all(each == "**" for each in pattern)
    if pattern[0] == "**":
        return _matches(path, pattern[1:]) or _matches(path[1:], pattern)
    return fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])


def _same(file: Found, target: tuple[Storage, str]) -> bool:
    return file.storage.scheme == target[0].scheme and _real(file) == _real_path(*target)


def _real(file: Found) -> str:
    return _real_path(file.storage, file.path)


def _real_path(storage: Storage, path: str) -> str:
    if storage.scheme != "file":
        return path
    return str(Path(path).resolve())


def _check_partitions(found: Sequence[Found]) -> None:
    if not found:
        return
    first = found[0]
    keys = [key for key, _ in first.partitions]
    for file in found:
        if [key for key, _ in file.partitions] != keys:
            raise PairscoreError(
                f"{file.display!r} has partition folders {[key for key, _ in file.partitions]} and "
                f"{first.display!r} has {keys}: score them separately"
            )


def _tells_of_null(group: pq.RowGroupMetaData, columns: Sequence[str]) -> bool:
    chunks = (group.column(place) for place in range(group.num_columns))
    statistics = [chunk.statistics for chunk in chunks if chunk.path_in_schema in columns]
    return any(each is not None and each.has_null_count and each.null_count > 0 for each in statistics)
