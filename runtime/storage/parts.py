"""The names of an output's files: parts, the marker of a run that has ended, and the folder of control files.

    part-00002-0000131072-0000196608.parquet      rows 131,072 to 196,607 of the third input file

A file's rows are cut into blocks of equal size, and a block into parts only where its text is too large for
one window. So the names follow from the input alone, whichever machine scores a block and however
often the run stops, and a listing of the names tells what is done.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

# Files beside the parts: the marker of a run that has ended, and the folder of control files with the run's record.
SUCCESS_NAME = "_SUCCESS"
CONTROL_NAME = "_pairscore"
RECORD = f"{CONTROL_NAME}/run.json"
_NAME = re.compile(r"part-(\d{5,})-(\d{10,})-(\d{10,})\.parquet")


@dataclass(frozen=True, order=True)
class Block:
    """Rows `start` to `stop` (exclusive) of the input file at place `file`: what one shard takes as a whole."""

    file: int
    start: int
    stop: int


@dataclass(frozen=True, order=True)
class Part:
    """Rows `start` to `stop` (exclusive) of a file, all within one block. `folder`: its partition folders, or ""."""

    file: int
    start: int
    stop: int
    folder: str = ""

    @property
    def name(self) -> str:
        """Its path below the output folder."""
        name = f"part-{self.file:05d}-{self.start:010d}-{self.stop:010d}.parquet"
        return f"{self.folder}/{name}" if self.folder else name


def listed_parts(names: Iterable[str]) -> list[Part]:
    """The parts among the files of an output folder, in order. names: paths below the folder."""
    parts = []
    for name in names:
        path = PurePosixPath(name)
        match = _NAME.fullmatch(path.name)
        if match:
            file, start, stop = map(int, match.groups())
            folder = "" if str(path.parent) == "." else str(path.parent)
            parts.append(Part(file, start, stop, folder))
    return sorted(parts)
