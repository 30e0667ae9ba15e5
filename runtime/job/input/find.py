"""Files, folders and patterns to a list of Parquet files, none of them opened yet."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote

from pairscore.runtime.errors import PairscoreError, one_line
from pairscore.runtime.storage.local import Storage, is_hidden, open_storage

PARQUET_SUFFIXES = (".parquet", ".pq", ".parq")
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
