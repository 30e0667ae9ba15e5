"""Where files lie: this machine, or an object store behind fsspec. Writes are whole or did not happen.

    storage, path = open_storage("s3://bucket/pairs")
    storage.files(path)

Paths are a storage's own: absolute on this machine, `bucket/key` on an object store.
"""

import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from pairscore.runtime.errors import PairscoreError

_TEMPORARY_SUFFIX = ".partial"


class Storage(Protocol):
    """The operations that a job needs. Any of them may raise OSError."""

    @property
    def scheme(self) -> str:
        """What its addresses begin with; "file" on this machine."""
        ...

    @property
    def private(self) -> bool:
        """Whether only this process sees its files."""
        ...

    @property
    def buffer_size(self) -> int:
        """Bytes to ask for at once when reading on through a file."""
        ...

    def kind(self, path: str) -> Literal["file", "folder"] | None:
        """What is at `path`; None where nothing is."""
        ...

    def files(self, folder: str) -> list[str]:
        """Files anywhere below `folder`, hidden ones too, as sorted paths relative to it with forward slashes."""
        ...

    def matching(self, pattern: str) -> list[str]:
        """Sorted paths of files, and of links to nothing, that match a pattern of `*`, `?`, `[...]` and `**`."""
        ...

    def size(self, path: str) -> int:
        """Bytes in a file."""
        ...

    def modified(self, path: str) -> float:
        """When a file was last written, in seconds, by the storage's own clock."""
        ...

    def open(self, path: str) -> pa.NativeFile:
        """A file to read at random places."""
        ...

    def read(self, path: str) -> bytes:
        """A whole file."""
        ...

    def write(self, path: str, data: bytes | pa.Buffer, temporary_folder: str) -> None:
        """Put `data` at `path`, durably and at once; folders on the way are made."""
        ...

    def publish(self, local: Path, path: str) -> None:
        """Put a finished local file at `path`, durably and at once, replacing what is there."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file; nothing there is no error."""
        ...

    def remove_folder(self, path: str) -> None:
        """Remove a folder with all that it holds; nothing there is no error."""
        ...

    def display(self, path: str) -> str:
        """`path` as a user would write it."""
        ...


@dataclass(frozen=True)
class LocalStorage:
    """The file system of this machine."""

    scheme: str = "file"
    private: bool = False
    buffer_size: int = 1024 * 1024

    def kind(self, path: str) -> Literal["file", "folder"] | None:
        """As `Storage.kind`."""
        if Path(path).is_dir():
            return "folder"
        return "file" if Path(path).exists() else None

    def files(self, folder: str) -> list[str]:
        """Links are followed; one to a folder that it lies in leads to no new file, and one to nothing is a file."""
        return sorted(_walk(folder, "", ()))

    def matching(self, pattern: str) -> list[str]:
        """As `Storage.matching`."""
        paths = glob.glob(_literally(pattern), recursive=True)  # noqa: PTH207 (pathlib takes no absolute pattern)
        return sorted(path for path in paths if not Path(path).is_dir())

    def size(self, path: str) -> int:
        """As `Storage.size`."""
        return Path(path).stat().st_size

    def modified(self, path: str) -> float:
        """As `Storage.modified`."""
        return Path(path).stat().st_mtime

    def open(self, path: str) -> pa.NativeFile:
        """As `Storage.open`."""
        return pa.OSFile(path)

    def read(self, path: str) -> bytes:
        """As `Storage.read`."""
        return Path(path).read_bytes()

    def write(self, path: str, data: bytes | pa.Buffer, temporary_folder: str) -> None:
        """As `Storage.write`: flushed to the disk, then renamed."""
        target, folder = Path(path), Path(temporary_folder)
        folder.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{target.name}.{secrets.token_hex(4)}{_TEMPORARY_SUFFIX}"
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        sync(target.parent)

    def publish(self, local: Path, path: str) -> None:
        """As `Storage.publish`."""
        sync(local)
        local.replace(path)
        sync(Path(path).parent)

    def remove(self, path: str) -> None:
        """As `Storage.remove`."""
        Path(path).unlink(missing_ok=True)

    def remove_folder(self, path: str) -> None:
        """As `Storage.remove_folder`."""
        # Two shards may remove the same folder at once.
        shutil.rmtree(path, ignore_errors=True)

    def display(self, path: str) -> str:
        """As `Storage.display`."""
        return path


def open_storage(url: str, **options: Any) -> tuple[Storage, str]:
    """The storage that `url` names and the path within it. options: passed on to fsspec.

    Raises PairscoreError for an empty or unknown address and where the package for it is missing.
    """
    if not url:
        raise PairscoreError("an empty path names nothing: give a file, a folder or a pattern")
    if url == "-":
        raise PairscoreError("'-' would be a stream, and Parquet needs a file: name one (./- for a file of that name)")
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme in ("", "file"):
        return LocalStorage(), os.path.abspath(local_path(url))  # noqa: PTH100 (resolve() would follow links)
    from pairscore.runtime.storage.remote import open_remote

    return open_remote(scheme, url, **options)


def local_path(url: str) -> str:
    """The path that a local address names: `~` is the home folder, and in `file:` addresses %20 is a space."""
    if not url.startswith("file:"):
        return os.path.expanduser(url)  # noqa: PTH111 (a Path would lose a slash at the end)
    path = url.removeprefix("file:")
    if path.startswith("//"):
        path = path.removeprefix("//").removeprefix("localhost")
    decoded = unquote(path)
    return path if Path(path).exists() and not Path(decoded).exists() else decoded


def is_hidden(relative: str) -> bool:
    """Whether any component of a relative path is hidden from readers: `.name` and `_name`, but not `_key=value`."""
    return any(
        component.startswith(".") or (component.startswith("_") and "=" not in component)
        for component in relative.split("/")
    )


def _walk(folder: str, below: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """The files below a folder, as paths that start with `below`. above: identities of the folders on the way."""
    status = os.stat(folder)  # noqa: PTH116
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                try:
                    yield from _walk(entry.path, f"{below}{entry.name}/", (*above, identity))
                except PermissionError:
                    if not is_hidden(f"{below}{entry.name}"):
                        raise
            elif entry.is_file() or entry.is_symlink():
                yield f"{below}{entry.name}"


def _literally(pattern: str) -> str:
    """The pattern with folders that are there as they are written taken literally: `run [1]/*.parquet`."""
    parts = Path(pattern).parts
    fixed = 0
    while fixed < len(parts) - 1 and Path(*parts[: fixed + 1]).is_dir():
        fixed += 1
    return str(Path(glob.escape(str(Path(*parts[:fixed]))), *parts[fixed:])) if fixed else pattern


def sync(path: Path) -> None:
    """Have the system write a file or a folder to disk: until then, a rename in the folder can be lost.

    Not every system can open folders; such a system goes without.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
