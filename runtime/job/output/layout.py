"""The places that a job writes to: parts and control files while it runs, and at the end a folder or one file.

    scored/part-….parquet  …  scored/_SUCCESS            --output scored
    _scored.parquet.parts/part-….parquet  …              --output scored.parquet, until its parts are merged

Control files (the run record, locks, half-written files) lie in `_pairscore/` beside the parts and go when the
output is whole: several readers take every file of a folder for data.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.runtime.errors import PairscoreError, TryAgainError, may_pass, one_line, storage_error
from pairscore.runtime.job.blocks import within
from pairscore.runtime.job.record import RunRecord, differences
from pairscore.runtime.job.settings import RunSettings
from pairscore.runtime.storage.local import Storage, open_storage
from pairscore.runtime.storage.parts import CONTROL_NAME, RECORD, SUCCESS_NAME, Block, Part, listed_parts
from pairscore.runtime.storage.sealing import is_intact, part_figures

_SKIPPED_PREFIX = "skipped-"
# Parts that are checked at the same time, each of them whole in memory.
_PARTS_AT_ONCE = 4


@dataclass(frozen=True)
class Output:
    """`url`: as the user wrote it. `folder`: of the parts. `file`: of the merged result; None for a folder."""

    url: str
    storage: Storage
    folder: str
    file: str | None

    @property
    def control(self) -> str:
        """The folder of the control files."""
        return f"{self.folder}/{CONTROL_NAME}"

    def names(self) -> list[str]:
        """Files below the folder, control files included."""
        with self.used():
            return self.storage.files(self.folder) if self.storage.kind(self.folder) == "folder" else []

    def parts(self) -> list[Part]:
        """The parts that are whole."""
        return listed_parts(self.names())

    def read(self, name: str) -> bytes:
        """A file below the folder."""
        with self.used():
            return self.storage.read(f"{self.folder}/{name}")

    def write(self, name: str, data: bytes) -> None:
        """Put a file below the folder in place, whole."""
        with self.used():
            self.storage.write(f"{self.folder}/{name}", data, f"{self.control}/tmp")

    def remove(self, name: str) -> None:
        """Take a file below the folder away; nothing there is no error."""
        with self.used():
            self.storage.remove(f"{self.folder}/{name}")

    def read_part(self, part: Part) -> pq.ParquetFile:
        """A part, every byte of it checked. Raises PairscoreError also for one that was damaged."""
        data = self.read(part.name)
        if not is_intact(data):
            raise PairscoreError(
                f"part {part.name} of {self.url!r} was damaged after it was written: run the same command again, which "
                "scores it anew"
            )
        return pq.ParquetFile(pa.BufferReader(data))

    @contextmanager
    def used(self) -> Iterator[None]:
        """Raise PairscoreError for what the storage refuses in this block."""
        try:
            yield
        except OSError as error:
            message = (
                f"cannot use output {self.url!r} ({one_line(error)}): remove the cause and run the same command again; "
                "parts that are whole are kept"
            )
            raise storage_error(message, error) from error


def open_output(url: str) -> Output:
    """The output that `url` names: one file if it ends in `.parquet`, else a folder."""
    storage, path = open_storage(url)
    is_file = path.endswith(".parquet")
    if storage.scheme == "file" and Path(path).is_symlink():
        # Write to the link's target, whether it exists or not, so that parts lie on the target's disk.
        path = str(Path(path).resolve())
    if storage.scheme == "hf":
        raise PairscoreError(f"output {url!r}: hf:// can be read but not written: use a folder, then upload it")
    if not is_file:
        return Output(url, storage, path.rstrip("/"), None)
    pure = PurePosixPath(path)
    return Output(url, storage, str(pure.parent / f"_{pure.name}.parts"), path)


def check_output(output: Output) -> None:
    """Raise PairscoreError where something other than an output of this project is in the way. Changes nothing."""
    names = output.names()
    with output.used():
        kinds = [None if path is None else output.storage.kind(path) for path in (output.file, output.folder)]
    if kinds[0] == "folder":
        raise PairscoreError(f"output {output.url!r} ends in .parquet and is a folder: choose another name")
    if kinds[1] == "file":
        raise PairscoreError(f"output {output.url!r} is a file: choose a folder, or a name that ends in .parquet")
    # Readers pass over names with a dot: .gitkeep, .DS_Store.
    others = [name for name in names if not name.startswith((f"{CONTROL_NAME}/", "."))]
    if others and not _is_finished(output, names) and RECORD not in names:
        raise PairscoreError(
            f"output folder {output.url!r} holds other files ({others[0]}): choose an empty folder, or a new one"
        )


def continues(output: Output, record: RunRecord, overwrite: bool) -> bool:
    """Whether `record`'s run continues what the output holds. Changes nothing.

    Raises PairscoreError where another run's results are in the way.
    """
    names = output.names()
    if RECORD not in names:
        return False
    finished, changed = _is_finished(output, names), _changes(output, record)
    # A run that was killed when all but its control files was done ends here.
    if not changed and (
        not finished or overwrite or output.file is None or finished_figures(output).get("run") == record.digest
    ):
        return True
    if not overwrite:
        raise finished_error(output) if finished or not changed else PairscoreError(changed)
    return False


def begin(output: Output, record: RunRecord, overwrite: bool) -> bool:
    """Make the output ready for `record`'s run, whose lock is held; True when it continues an earlier one."""
    check_output(output)
    if continues(output, record, overwrite):
        with output.used():
            output.storage.remove_folder(f"{output.control}/tmp")
        return True
    if not overwrite and _is_finished(output, output.names()):
        raise finished_error(output)
    clear(output)
    output.write(RECORD, record.to_json().encode())
    return False


def clear(output: Output) -> None:
    """Remove parts, marker and record, in such an order that an output stays recognisable if this stops half way."""
    names = output.names()
    skipped = [name for name in names if name.startswith(f"{CONTROL_NAME}/{_SKIPPED_PREFIX}")]
    for name in (SUCCESS_NAME, *(part.name for part in listed_parts(names)), *skipped, RECORD):
        output.remove(name)


def whole_parts(output: Output, digest: str, blocks: Iterable[Block]) -> list[Part]:
    """The parts of `blocks` that are byte for byte as this run wrote them. Damaged ones count as missing."""
    parts = within(output.parts(), blocks)

    def belongs(part: Part) -> bool:
        try:
            return bool(part_figures(output.read_part(part).metadata)["run"] == digest)
        except TryAgainError:
            raise
        except (OSError, ValueError, KeyError):
            return False

    with ThreadPoolExecutor(_PARTS_AT_ONCE, thread_name_prefix="pairscore-part") as pool:
        return [part for part, whole in zip(parts, pool.map(belongs, parts), strict=True) if whole]


def record_skipped(output: Output, file: int, reason: str) -> None:
    """Write down, for later runs and other shards, that a file is left out."""
    output.write(f"{CONTROL_NAME}/{_SKIPPED_PREFIX}{file:05d}", reason.encode())


def skipped_files(output: Output) -> dict[int, str]:
    """Places of the files that were left out, with the reason."""
    found = {}
    for name in output.names():
        base = name.removeprefix(f"{CONTROL_NAME}/{_SKIPPED_PREFIX}")
        if base != name and base.isdecimal():
            found[int(base)] = output.read(name).decode()
    return found


def abandon(output: Output) -> None:
    """Remove all traces of a run that wrote no part: its control files, and the folders that it made."""
    if output.parts():
        return
    clear(output)
    remove_leftovers(output, output.control)
    if output.storage.scheme == "file":
        with suppress(OSError):  # something else is in it
            Path(output.folder).rmdir()


def _is_finished(output: Output, names: Sequence[str]) -> bool:
    """Whether a run, of whatever settings, has ended there; names: of the files in its folder."""
    if output.file is not None:
        with output.used():
            return output.storage.kind(output.file) == "file"
    return SUCCESS_NAME in names and bool(listed_parts(names))


def is_whole(output: Output) -> bool:
    """Whether a run, of whatever settings, has ended there and was not killed at its very end."""
    names = output.names()
    return _is_finished(output, names) and RECORD not in names


def has_leftovers(output: Output) -> bool:
    """Whether something is beside a finished output that a run which was killed at its very end left."""
    if output.file is not None:
        with output.used():
            return output.storage.kind(output.folder) is not None
    return any(name.startswith(f"{CONTROL_NAME}/") for name in output.names())


def remove_leftovers(output: Output, folder: str | None = None) -> None:
    """Remove what is left beside a finished output, whose lock is held. folder: another one to remove."""
    with output.used():
        output.storage.remove_folder(folder or (output.control if output.file is None else output.folder))


def finished_figures(output: Output) -> dict[str, Any]:
    """What a finished output's metadata tells of its run; empty where it does not."""
    path = output.file or f"{output.folder}/{output.parts()[0].name}"
    with output.used():
        try:
            with output.storage.open(path) as file:
                return part_figures(pq.read_metadata(file))
        except (OSError, ValueError, pa.ArrowException) as error:
            if may_pass(error):
                raise
            return {}


def _changes(output: Output, record: RunRecord) -> str | None:
    """Why the run recorded there is not this one; None when it is."""
    text = output.read(RECORD)
    try:
        changed = differences(RunRecord.from_json(text), record)
    except ValueError as error:
        return (
            f"output {output.url!r} holds an unfinished run whose record {RECORD} does not fit this release ({error}): "
            "begin anew with --overwrite"
        )
    if not changed:
        return None
    more = f" (and {len(changed) - 1} more changes)" if len(changed) > 1 else ""
    return (
        f"output {output.url!r} holds an unfinished run with other settings: {changed[0]}{more}; continue it as it was "
        "started, begin anew with --overwrite, or choose another output"
    )


def recorded_settings(output: Output) -> RunSettings | None:
    """The settings of the run that the output holds, finished or not; None where there is no readable record."""
    text = output.read(RECORD) if RECORD in output.names() else b""
    try:
        return RunRecord.from_json(text).settings
    except ValueError:
        return None


def finished_error(output: Output, difference: str | None = None) -> PairscoreError:
    """The error for a finished output that is in the way. difference: of its run from this one."""
    why = f", of another run ({difference})" if difference else ""
    return PairscoreError(
        f"output {output.url!r} exists and is whole{why}: choose another name, or replace it with --overwrite"
    )
