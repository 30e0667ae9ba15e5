"""Files, folders, patterns and Delta tables to a list of Parquet files, none of them opened yet."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote

from pairscore.runtime.errors import PairscoreError, one_line, quoted, storage_error
from pairscore.runtime.input import tables
from pairscore.runtime.storage.local import Storage, is_hidden, local_path, open_storage
from pairscore.runtime.storage.parts import RECORD, SUCCESS_NAME, listed_parts

PARQUET_SUFFIXES = (".parquet", ".pq", ".parq")
_WILDCARD = re.compile(r"[*?\[]")
_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Found:
    """A file of the input, not opened yet.

    `name`: its path below the folder or pattern that it came from: the same on every machine. `folder`: the `key=value`
    folders on the way, the given ones too, as a path; "" without any. `partitions`: (key, value) of each. `table`: the
    Delta table that it belongs to.
    """

    storage: Storage
    path: str
    name: str
    folder: str = ""
    partitions: tuple[tuple[str, str], ...] = ()
    table: tables.Snapshot | None = None

    @property
    def display(self) -> str:
        """The file as a user would write it."""
        return self.storage.display(self.path)


def find_files(
    inputs: Sequence[str],
    output: str | None = None,
    left_out: Callable[[str], None] = lambda name: None,
    versions: Sequence[int] = (),
) -> list[Found]:
    """The files that `inputs` name, in order: sorted within a folder or a pattern.

    Folders and patterns leave out what is hidden: names that start with a dot, and those that start with an underscore
    and hold no `=`. `left_out`: called with the name of each Parquet file left out so. `output`: where results go; it
    must not become input of the next run. `versions`: of the Delta tables, in order, to read; the newest by default.

    Raises PairscoreError for an input that is not there or holds no file, for a file named twice, for a link to
    nothing, for the output of a run that has not ended, and for an output inside the input.
    """
    if not inputs:
        raise PairscoreError("no input: name Parquet files, a folder or a pattern")
    target = open_storage(output) if output is not None else None
    found: list[Found] = []
    versions_left = iter(versions)
    for url in inputs:
        storage, path = open_storage(url)
        try:
            inside = target is not None and target[0].scheme == storage.scheme and _takes_in(storage, path, target[1])
            files = _expand(storage, path, url, left_out, versions_left)
        except OSError as error:
            message = f"cannot read input {url!r} ({one_line(error)}): check the path and its permissions"
            raise storage_error(message, error) from error
        same = target is not None and (target[0].scheme, _real_path(*target)) in map(_identity, files)
        if inside or same:
            raise PairscoreError(
                f"output {output!r} lies inside input {url!r}, where the next run would read it: "
                "choose an output elsewhere"
            )
        found.extend(files)
    seen: dict[tuple[str, str], str] = {}
    for file in found:
        key = _identity(file)
        if key in seen:
            raise PairscoreError(f"input file {file.display!r} is given twice: its rows would be scored twice")
        seen[key] = file.name
    _check_partitions(found)
    return found


def _expand(
    storage: Storage, path: str, url: str, left_out: Callable[[str], None], versions: Iterator[int]
) -> list[Found]:
    kind: Literal["file", "folder"] | None = storage.kind(path)
    if kind == "file":
        file = _below(storage, str(PurePosixPath(path).parent), PurePosixPath(path).name, url)
        _check_ended(storage, [file], given_as_files=True)
        return [file]
    if kind == "folder":
        all_names = storage.files(path)
        table = tables.snapshot(storage, path, url, all_names, versions)
        if table is not None:
            snapshot, places = table
            return [Found(storage, *place, snapshot) for place in places]
        names = _visible(storage, path, all_names, left_out)
        if not names:
            # Given by itself, a file of another format gets an error that says how it becomes Parquet.
            other = [each for each in all_names if not is_hidden(each)]
            remedy = (
                f"name one of its own ({quoted(other, 3)}) to see how it becomes Parquet" if other else "name another"
            )
            raise PairscoreError(f"folder {url!r} holds no Parquet file: {remedy}")
        files = [_below(storage, path, name, url) for name in names]
    else:
        if not _WILDCARD.search(path):
            fault = "is a link to nothing" if _is_broken(storage, path) else "is not there"
            raise PairscoreError(
                f"no input {url!r}: it {fault}; give an existing Parquet file, a folder or a pattern in quotes"
            )
        root = _fixed_part(storage, path)
        paths = storage.matching(path)
        for each in paths:
            if _is_broken(storage, each):
                raise _broken(storage, each)
        names = [PurePosixPath(each).relative_to(root).as_posix() for each in paths]
        for name in names:
            if is_hidden(name):
                left_out(name)
        files = [_below(storage, root, name, url) for name in names if not is_hidden(name)]
        if not files:
            raise PairscoreError(f"no file matches {url!r}: check the pattern")
    _check_ended(storage, files)
    return files


def _visible(storage: Storage, folder: str, names: Iterable[str], left_out: Callable[[str], None]) -> list[str]:
    """The names of a folder's Parquet files that are not hidden."""
    found = []
    for name in names:
        hidden = is_hidden(name)
        path = f"{folder.rstrip('/')}/{name}"
        if not hidden and _is_broken(storage, path):
            raise _broken(storage, path)
        pure = PurePosixPath(name)
        if pure.suffix.lower() in PARQUET_SUFFIXES:
            if hidden:
                left_out(name)
            else:
                found.append(name)
        elif not hidden and not pure.suffix and pure.name != SUCCESS_NAME and _is_parquet(storage, path):
            found.append(name)  # as Hive names files: 000000_0
    return found


def _is_parquet(storage: Storage, path: str) -> bool:
    with storage.open(path) as file:
        return bool(file.read(len(_MAGIC)) == _MAGIC)


def _is_broken(storage: Storage, path: str) -> bool:
    return storage.scheme == "file" and Path(path).is_symlink() and not Path(path).exists()


def _broken(storage: Storage, path: str) -> PairscoreError:
    return PairscoreError(f"{storage.display(path)!r} is a link to nothing: mend it, or remove it")


def _check_ended(storage: Storage, files: Sequence[Found], given_as_files: bool = False) -> None:
    """Raise PairscoreError where files are parts of a run that has not ended: some of its rows are not there yet.

    given_as_files: of files that were named one by one, the run's record tells; a lone part may have been copied.
    """
    folders: set[str] = set()
    for file in files:
        if listed_parts([PurePosixPath(file.path).name]):
            # A part lies below its run's folder in those of its keys.
            parent = PurePosixPath(file.path).parent
            while _is_key(parent.name) and not any(storage.kind(f"{parent}/{name}") for name in (RECORD, SUCCESS_NAME)):
                parent = parent.parent
            folders.add(str(parent))
    for folder in sorted(folders):
        marked = given_as_files or storage.kind(f"{folder}/{SUCCESS_NAME}") == "file"
        if not marked or storage.kind(f"{folder}/{RECORD}") == "file":
            raise PairscoreError(
                f"{storage.display(folder)!r} holds the parts of a run that has not ended (no {SUCCESS_NAME}), so that "
                f"rows are missing: end it with its own command, or add an empty file {SUCCESS_NAME} if it is whole"
            )


def _below(storage: Storage, root: str, name: str, url: str) -> Found:
    """A file below `root`, the fixed part of what was given as `url`."""
    given = PurePosixPath(root).parts
    if storage.scheme == "file" and not Path(local_path(url)).is_absolute():
        # Not the folders above the working directory, which nobody named.
        here = Path.cwd().parts
        given = given[len(here) :] if given[: len(here)] == here else given
    keys = [each for each in (*given, *PurePosixPath(name).parts[:-1]) if _is_key(each)]
    partitions = [each.partition("=")[::2] for each in keys]
    path = f"{root.rstrip('/')}/{name}"
    return Found(
        storage, path, name, "/".join(keys), tuple((unquote(key), unquote(value)) for key, value in partitions)
    )


def _is_key(component: str) -> bool:
    """Whether a folder's name is `key=value`."""
    return component.find("=") > 0


def _fixed_part(storage: Storage, pattern: str) -> str:
    """The folders of a pattern that hold no wildcard, or that are there as they are written."""
    fixed: list[str] = []
    for component in PurePosixPath(pattern).parts[:-1]:
        there = storage.scheme == "file" and Path(*fixed, component).is_dir()
        if _WILDCARD.search(component) and not there:
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
    same = path[0] == pattern[0] or fnmatchcase(path[0], pattern[0])
    return same and _matches(path[1:], pattern[1:])


def _identity(file: Found) -> tuple[str, str]:
    return file.storage.scheme, _real_path(file.storage, file.path)


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
