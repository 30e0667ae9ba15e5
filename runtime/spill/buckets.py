"""Records of one size on disk, spread over buckets by a hash, so that any one bucket fits into memory.

What has to be looked up or put in order may be larger than memory: its records are appended in any order, and then one
bucket after the other is loaded whole. The files have no name in any folder: they are gone when the process ends, even
when it is killed.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from pairscore.runtime.errors import PairscoreError, one_line

# Enough that a bucket of a hundred million records of 80 bytes takes 125 MB, and few enough to keep all files open.
BUCKETS = 64
_SHIFT = np.uint64(64 - BUCKETS.bit_length() + 1)


class Buckets:
    """Records of `dtype` in `BUCKETS` temporary files below `folder`; None for the system's temporary folder."""

    def __init__(self, dtype: npt.DTypeLike, folder: Path | None = None) -> None:
        self._dtype = np.dtype(dtype)
        self._folder = folder
        self._files: list[IO[bytes]] = [open_temporary(folder) for _ in range(BUCKETS)]
        self.records = 0

    def append(self, hashes: npt.NDArray[np.uint64], records: npt.NDArray[Any]) -> None:
        """Add records. hashes: Shape (n,), spread evenly over 64 bits; equal keys need equal hashes."""
        for bucket, rows in split(hashes):
            write(self._files[bucket], self._folder, records[rows])
        self.records += len(records)

    def take(self) -> Iterator[npt.NDArray[Any]]:
        """Every bucket's records, Shape (n,), in the order in which they were appended; each file is closed then."""
        for file in self._files:
            with file:
                file.seek(0)
                yield np.frombuffer(file.read(), dtype=self._dtype)

    def close(self) -> None:
        """Give the disk back."""
        for file in self._files:
            file.close()


def split(hashes: npt.NDArray[np.uint64]) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """(bucket, rows) of every bucket that has a row, rows in order. hashes: Shape (n,)."""
    buckets = hashes >> _SHIFT
    order = np.argsort(buckets, kind="stable")
    bounds = np.searchsorted(buckets[order], np.arange(BUCKETS + 1, dtype=np.uint64))
    for bucket in range(BUCKETS):
        if bounds[bucket] < bounds[bucket + 1]:
            yield bucket, order[bounds[bucket] : bounds[bucket + 1]]


def open_temporary(folder: Path | None) -> IO[bytes]:
    """A file without a name. Raises PairscoreError where the folder takes none."""
    try:
        return tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        raise _full(folder, error) from error


def write(file: IO[bytes], folder: Path | None, array: npt.NDArray[Any]) -> None:
    """Append an array's bytes. Raises PairscoreError for a full disk."""
    try:
        file.write(array.tobytes())
    except OSError as error:
        raise _full(folder, error) from error


def _full(folder: Path | None, error: OSError) -> PairscoreError:
    return PairscoreError(
        f"cannot write temporary files to {str(folder or tempfile.gettempdir())!r} ({one_line(error)}): free some "
        "space, or name another folder in the environment variable TMPDIR"
    )
