"""Blocks and shards, and what of them is done by the names of parts."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pairscore.runtime.job.blocks import missing, plan_blocks, shard_of, within
from pairscore.runtime.storage.parts import Block, Part

FILES = st.lists(st.none() | st.integers(0, 60), max_size=6)


@given(FILES, st.integers(1, 25))
def test_blocks_cover_every_row_once_in_order(rows, block_rows):
    blocks = plan_blocks(rows, block_rows)
    covered = [(block.file, row) for block in blocks for row in range(block.start, block.stop)]
    assert covered == [(file, row) for file, count in enumerate(rows) for row in range(count or 0)]
    assert all(block.stop - block.start <= block_rows for block in blocks)
    assert all(block.start % block_rows == 0 for block in blocks)
    assert {block.file for block in blocks} == {file for file, count in enumerate(rows) if count is not None}


@given(FILES, st.integers(1, 25), st.integers(1, 9))
def test_shards_are_the_blocks_in_even_shares(rows, block_rows, shards):
    blocks = plan_blocks(rows, block_rows)
    shares = [shard_of(blocks, number, shards) for number in range(1, shards + 1)]
    assert [block for share in shares for block in share] == blocks
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@st.composite
def half_done(draw):
    """Blocks, and parts that cover some of their rows from the start of a block on or with gaps."""
    blocks = plan_blocks(draw(FILES), draw(st.integers(1, 25)))
    parts = []
    for block in blocks:
        cuts = draw(st.sets(st.integers(block.start, block.stop), max_size=4))
        bounds = sorted({block.start, block.stop, *cuts})
        pieces = [Part(block.file, *pair) for pair in itertools.pairwise(bounds)]
        pieces = pieces or [Part(block.file, block.start, block.stop)]
        parts += [piece for piece in pieces if draw(st.booleans())]
    return blocks, parts


@given(half_done())
def test_missing_is_what_no_part_covers_from_a_block_start_on(case):
    blocks, parts = case
    have = {(part.file, part.start): part.stop for part in parts}
    expected = []
    for block in blocks:
        if block.start == block.stop:
            expected += [] if (block.file, block.start) in have else [block]
            continue
        row = block.start
        while row < block.stop and (block.file, row) in have:
            row = have[block.file, row]
        expected += [Block(block.file, row, block.stop)] if row < block.stop else []
    assert missing(blocks, parts) == expected


@given(half_done(), st.integers(1, 4))
def test_parts_within_the_blocks_of_each_shard_are_all_parts(case, shards):
    blocks, parts = case
    shares = [within(parts, shard_of(blocks, number, shards)) for number in range(1, shards + 1)]
    assert [part for share in shares for part in share] == sorted(parts)


def test_a_part_that_reaches_past_its_block_does_not_count():
    """It came from a run with larger blocks."""
    assert missing([Block(0, 0, 50)], [Part(0, 0, 100)]) == [Block(0, 0, 50)]
