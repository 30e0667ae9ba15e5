"""An output that an earlier run wrote, read again: by `pairscore show` and by `--reuse`."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.runtime.errors import PairscoreError, one_line, storage_error
from pairscore.runtime.storage.local import Storage, open_storage
from pairscore.runtime.storage.parquet import read_batches
from pairscore.runtime.storage.parts import RECORD, SUCCESS_NAME, listed_parts
from pairscore.runtime.storage.sealing import is_intact
from pairscore.runtime.stream.columns import windows


@dataclass(frozen=True)
class Written:
    """The files of an output, in order. `whole`: whether its run has ended. `option`: that named it, for messages."""

    storage: Storage
    paths: tuple[str, ...]
    whole: bool
    option: str = ""

    def metadata(self, path: str) -> pq.FileMetaData:
        """The footer of one of the files. Raises PairscoreError for a file that cannot be read, as `tables` does."""
        with self._readable(path), self.storage.open(path) as file:
            return pq.read_metadata(file)

    def tables(
        self,
        path: str,
        columns: Sequence[str],
        texts: Sequence[str],
        row_groups: Sequence[int] | None = None,
        *,
        sealed: bool = False,
    ) -> Generator[pa.Table, None, None]:
        """The rows of one of the files, or of some of its row groups, a window at a time.

        texts: those of `columns` that are text. sealed: read a part whole and look at its seal first; a damaged part
        then gives no row.
        """
        with self._readable(path), self._opened(path, sealed) as source:
            yield from windows(read_batches(source, columns, self.storage.buffer_size, row_groups=row_groups), texts)

    def _opened(self, path: str, sealed: bool) -> pa.NativeFile:
        if not sealed or not listed_parts([PurePosixPath(path).name]):
            return self.storage.open(path)
        data = self.storage.read(path)
        if not is_intact(data):
            raise OSError("it was damaged after it was written")
        return pa.BufferReader(data)

    @contextmanager
    def _readable(self, path: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            name = f"{self.option} {self.storage.display(path)!r}".strip()
            message = f"{name} cannot be read ({one_line(error)}): leave it out, or score it again"
            raise storage_error(message, error) from error


def find_written(url: str, option: str = "") -> Written:
    """The output at `url`: a file, or a folder of parts. option: that named it, for messages.

    Raises PairscoreError where nothing is there, for a folder that no run has written to, and for a store that is lost.
    """
    storage, path = open_storage(url)
    try:
        kind = storage.kind(path)
        names = storage.files(path) if kind == "folder" else []
    except OSError as error:
        message = f"cannot look at {option or 'output'} {url!r} ({one_line(error)}): check its path and permissions"
        raise storage_error(message, error) from error
    if kind == "file":
        return Written(storage, (path,), True, option)
    parts = listed_parts(names)
    if not parts and RECORD not in names:
        fault = "holds no part" if kind else "cannot be read, since nothing is there"
        raise PairscoreError(
            f"{option or 'output'} {url!r} {fault}: name a file or a folder that `pairscore score` wrote"
        )
    paths = tuple(f"{path.rstrip('/')}/{part.name}" for part in parts)
    return Written(storage, paths, SUCCESS_NAME in names and RECORD not in names, option)
