"""The blocks of a job: which rows are computed as a whole, whose shard they are in, and which of them are done."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from pairscore.runtime.storage.parts import Block, Part


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
