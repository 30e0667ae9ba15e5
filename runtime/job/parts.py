"""Parts: consecutive rows of one input file, scored, in one Parquet file whose name says which rows.

    part-00002-0000131072-0000196608.parquet      rows 131,072 to 196,607 of the third input file

A file's rows are cut into blocks of equal size, and a block into parts only where its text is too large for
one window. So the names follow from the input alone, whichever machine scores a block and however
often the run stops, and a listing of the names tells what is done.
"""

import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.runtime.storage.parquet import open_writer

# Key of this project's JSON in the Parquet metadata of what it writes.
METADATA_KEY = b"pairscore"
# Files beside the parts: the mark of a run that has ended, and the folder of control files with the run's record.
SUCCESS_NAME = "_SUCCESS"
CONTROL_NAME = "_pairscore"
RECORD = f"{CONTROL_NAME}/run.json"
_SEAL_BYTES = hashlib.sha256().digest_size
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


def plan_blocks(rows: Sequence[int | None], block_rows: int) -> list[Block]:
    """Blocks of all files, in order. rows: of each file; None for a file left out.

    A file without rows has one empty block, so that its part carries its schema.
    """
    blocks: list[Block] = []
    for file, count in enumerate(rows):
        if count is not None:
            starts = range(0, max(count, 1), block_rows)
            blocks.extend(Block(file, start, min(start + block_rows, count)) for start in starts)
    return blocks


def shard_of(blocks: Sequence[Block], shard: int, shards: int) -> list[Block]:
    """The blocks of shard 1 ... `shards`: consecutive ones, so that each shard reads little of the others' rows.

    The shards' sizes differ by at most one block.
    """
    count = len(blocks)
    return list(blocks[count * (shard - 1) // shards : count * shard // shards])


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


def missing(blocks: Iterable[Block], parts: Iterable[Part]) -> list[Block]:
    """What of `blocks` no part covers yet, in order; a block that is half done is cut to its rest.

    Rows count as covered only from a block's start on without a gap.
    """
    by_start: dict[tuple[int, int], Part] = {(part.file, part.start): part for part in parts}
    rest = []
    for block in blocks:
        row = block.start
        while (part := by_start.get((block.file, row))) is not None and row < part.stop <= block.stop:
            row = part.stop
        if row < block.stop or (block.start == block.stop and (block.file, row) not in by_start):
            rest.append(Block(block.file, row, block.stop))
    return rest


def within(parts: Iterable[Part], blocks: Iterable[Block]) -> list[Part]:
    """The parts whose rows are some of the blocks', in order."""
    by_file: dict[int, list[Block]] = {}
    for block in blocks:
        by_file.setdefault(block.file, []).append(block)
    found = []
    for part in parts:
        mine = by_file.get(part.file, [])
        place = bisect_right(mine, part.start, key=lambda block: block.start) - 1
        if place >= 0 and (part.start < mine[place].stop or part.start == part.stop == mine[place].start):
            found.append(part)
    return found


def part_bytes(
    table: pa.Table, metadata: Mapping[str, Any], compression: str, writing: Mapping[str, Any] | None = None
) -> bytes:
    """A part as the bytes of a Parquet file of one row group, sealed. metadata: JSON-serialisable figures.

    writing: more keywords of the Parquet writer.
    """
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **as_metadata(metadata)})
    with open_writer(sink, table.schema, compression, **(writing or {})) as writer:
        writer.write_table(table, row_group_size=max(1, table.num_rows))
    data = sink.getvalue().to_pybytes()
    footer = len(data) - _footer_bytes(data)
    # Parquet's page checksums leave out page headers and the footer. Readers follow the footer's offsets and pass over
    # what lies between the last page and it.
    return b"".join((data[:footer], hashlib.sha256(data).digest(), data[footer:]))


def is_intact(data: bytes) -> bool:
    """Whether every byte of a part is as `part_bytes` made it: the SHA-256 before its footer is that of the rest."""
    footer = len(data) - _footer_bytes(data)
    seal = footer - _SEAL_BYTES
    if seal < 0:
        return False
    view = memoryview(data)
    rest = hashlib.sha256(view[:seal])
    rest.update(view[footer:])
    return rest.digest() == data[seal:footer]


def _footer_bytes(data: bytes) -> int:
    """The length of a Parquet file's footer, its length and magic number included."""
    return int.from_bytes(data[-8:-4], "little") + 8


def as_metadata(metadata: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Figures of this project as Parquet metadata."""
    return {METADATA_KEY: json.dumps(metadata, ensure_ascii=False).encode()}


def part_figures(metadata: pq.FileMetaData) -> dict[str, Any]:
    """What `as_metadata` made. Raises ValueError for a file without it."""
    raw = (metadata.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise ValueError("the file carries no pairscore metadata")
    result = json.loads(raw)
    if not isinstance(result, dict):
        raise ValueError("its pairscore metadata is no object")
    return result


def add_figures(totals: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add one part's figures to those of others: {"nulls": ..., "reused": ..., "statistics": {...}}."""
    for name in ("nulls", "reused"):
        totals[name] += more[name]
    for name, value in more["statistics"].items():
        totals["statistics"][name] = totals["statistics"].get(name, 0) + value
