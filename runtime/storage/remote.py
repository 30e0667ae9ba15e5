"""Object stores and hubs through fsspec: s3://, gs://, hf:// and whatever else it knows.

Faults that pass are tried again with growing pauses. Writes are one object each, put in a single request or a
multipart upload: stores show an object only once it is whole, so no renaming is needed.
"""

import errno
import io
import logging
import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa

from pairscore.runtime.errors import PairscoreError, one_line, storage_error
from pairscore.runtime.machine import import_extra

T = TypeVar("T")
_LOGGER = logging.getLogger(__name__)

# Seconds before each further attempt, each lengthened at random by up to a half so that many workers spread out.
RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
# The environment variable that sets other pauses, with commas between them.
RETRIES_VARIABLE = "PAIRSCORE_RETRY_SECONDS"
_LONGEST_PAUSE = 3600
_REMOVALS_AT_ONCE = 8
READ_BYTES = 8 * 1024 * 1024
_EXTRAS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}

# Faults that another attempt cannot change. All others are tried again: drivers raise many kinds for a lost connection.
_LASTING = (
    FileNotFoundError,
    PermissionError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    NotImplementedError,
    ImportError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
)
# Of botocore and google-auth, which are not imported before fsspec does it.
_NO_CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "DefaultCredentialsError",
)


class RemoteStorage:
    """An fsspec file system. Each further attempt is a warning of this module's logger."""

    def __init__(
        self,
        scheme: str,
        filesystem: Any,
        *,
        buffer_size: int = READ_BYTES,
        retry_seconds: Sequence[float] = RETRY_SECONDS,
    ) -> None:
        self.scheme = scheme
        self.buffer_size = buffer_size
        self._filesystem = filesystem
        self.private = any(each.__name__ == "MemoryFileSystem" for each in type(filesystem).__mro__)
        self._retry_seconds = retry_seconds

    def kind(self, path: str) -> Literal["file", "folder"] | None:
        """As `Storage.kind`."""
        try:
            found = self._tried("look at", path, lambda: self._fresh().info(path))
        except FileNotFoundError:
            return None
        return "folder" if found["type"] == "directory" else "file"

    def files(self, folder: str) -> list[str]:
        """As `Storage.files`."""
        root = folder.rstrip("/") + "/"
        try:
            paths = self._tried("list", folder, lambda: self._fresh().find(folder))
        except FileNotFoundError:
            return []
        return sorted(path.removeprefix(root) for path in paths if path.startswith(root) and path != root)

    def matching(self, pattern: str) -> list[str]:
        """As `Storage.matching`."""
        found = self._tried("list", pattern, lambda: self._fresh().glob(pattern, detail=True))
        return sorted(path for path, info in found.items() if info["type"] == "file")

    def size(self, path: str) -> int:
        """As `Storage.size`."""
        return int(self._tried("look at", path, lambda: self._filesystem.info(path))["size"])

    def modified(self, path: str) -> float:
        """As `Storage.modified`."""
        return float(self._tried("look at", path, lambda: self._fresh().modified(path)).timestamp())

    def open(self, path: str) -> pa.NativeFile:
        """As `Storage.open`."""
        return pa.PythonFile(_Ranges(self, path, self.size(path)), mode="r")

    def read(self, path: str) -> bytes:
        """As `Storage.read`."""
        return bytes(self._tried("read", path, lambda: self._filesystem.cat_file(path)))

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` (exclusive) of a file. Raises OSError when the store gives fewer."""

        def whole() -> bytes:
            data = bytes(self._filesystem.cat_file(path, start=start, end=stop))
            if len(data) != stop - start:
                raise OSError(f"got {len(data)} of {stop - start} bytes")
            return data

        return self._tried("read", path, whole)

    def write(self, path: str, data: bytes | pa.Buffer, temporary_folder: str) -> None:
        """As `Storage.write`: one request, so nobody sees half of it."""
        del temporary_folder  # an object appears at once
        self._tried("write", path, lambda: self._filesystem.pipe_file(path, bytes(data)))

    def publish(self, local: Path, path: str) -> None:
        """As `Storage.publish`."""
        self._tried("write", path, lambda: self._filesystem.put_file(str(local), path))
        local.unlink()

    def remove(self, path: str) -> None:
        """As `Storage.remove`."""
        with suppress(FileNotFoundError):
            self._tried("remove", path, lambda: self._filesystem.rm_file(path))

    def remove_folder(self, path: str) -> None:
        """As `Storage.remove_folder`."""
        names = self.files(path)
        with ThreadPoolExecutor(_REMOVALS_AT_ONCE, thread_name_prefix="pairscore-remove") as pool:
            list(pool.map(self.remove, [f"{path.rstrip('/')}/{name}" for name in names]))

    def display(self, path: str) -> str:
        """As `Storage.display`."""
        return f"{self.scheme}://{path}"

    def _fresh(self) -> Any:
        """The file system without its cached listings, since other processes write here too."""
        self._filesystem.invalidate_cache()
        return self._filesystem

    def _tried(self, operation: str, path: str, action: Callable[[], T]) -> T:
        """The action's result, after further attempts if need be. Raises OSError when all of them failed."""
        pauses = [pause * random.uniform(1.0, 1.5) for pause in self._retry_seconds]
        while True:
            try:
                return action()
            except Exception as error:
                if isinstance(error, _LASTING) or type(error).__name__ in _NO_CREDENTIALS:
                    raise _as_os_error(error, operation, self.display(path)) from error
                if not pauses:
                    raise ConnectionError(
                        f"could not {operation} {self.display(path)} in {len(self._retry_seconds) + 1} attempts: "
                        f"{one_line(error)}"
                    ) from error
                pause = pauses.pop(0)
                reason = one_line(error)
                _LOGGER.warning("could not %s %s (%s): again in %.1f s", operation, self.display(path), reason, pause)
                time.sleep(pause)


class _Ranges(io.RawIOBase):
    """A remote file that can be read at any position.

    Every read is a request of its own, so a broken one can be repeated.
    """

    def __init__(self, storage: RemoteStorage, path: str, size: int) -> None:
        super().__init__()
        self._storage, self._path, self._size = storage, path, size
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def read(self, size: int | None = -1) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._size, self._place + size)
        if stop <= self._place:
            return b""
        data = self._storage.read_range(self._path, self._place, stop)
        self._place = stop
        return data


def open_remote(scheme: str, url: str, **options: Any) -> tuple[RemoteStorage, str]:
    """The store that `url` names and the path within it. options: passed on to fsspec.

    Raises PairscoreError for a scheme that fsspec does not know or whose package is missing, and where a store that is
    connected to at once (ftp://, sftp://) cannot be reached.
    """
    fsspec = import_extra("fsspec", "remote", f"{scheme}://")
    try:
        filesystem, path = fsspec.url_to_fs(url, **options)
    except ImportError as error:
        package = _EXTRAS.get(scheme, "a package of its own")
        raise PairscoreError(f"{scheme}:// needs {package} ({error}): `pip install pairscore[remote]`") from error
    except ValueError as error:
        raise PairscoreError(f"cannot open {url!r} ({error}): use a local path, s3://, gs:// or hf://") from error
    except Exception as error:  # of the store's own driver
        message = f"cannot open {url!r} ({one_line(error)}): check the address, and that its server can be reached"
        raise storage_error(message, error) from error
    return RemoteStorage(scheme, filesystem, retry_seconds=_retry_seconds()), str(path)


def _retry_seconds() -> tuple[float, ...]:
    given = os.environ.get(RETRIES_VARIABLE)
    try:
        pauses = tuple(float(pause) for pause in given.split(",")) if given else RETRY_SECONDS
    except ValueError:
        pauses = (-1.0,)
    if not all(0 <= pause <= _LONGEST_PAUSE for pause in pauses):
        raise PairscoreError(
            f"{RETRIES_VARIABLE}={given} is no list of seconds from 0 to {_LONGEST_PAUSE}: write, for example, 0.5,1,2"
        )
    return pauses


def _as_os_error(error: Exception, operation: str, name: str) -> OSError:
    """A lasting fault as an OSError, the error that storages raise. One that is an OSError already keeps its kind."""
    if isinstance(error, OSError):
        return error
    code, kind = (errno.EACCES, PermissionError) if type(error).__name__ in _NO_CREDENTIALS else (errno.EINVAL, OSError)
    return kind(code, f"could not {operation} {name}: {one_line(error)}")
