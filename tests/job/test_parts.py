"""Blocks, shards and names of parts: what is done is read off a listing."""

import itertools
import json

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from pairscore.runtime.job.parts import (
    METADATA_KEY,
    Block,
    Part,
    add_figures,
    as_metadata,
    is_intact,
    listed_parts,
    missing,
    part_bytes,
    part_figures,
    plan_blocks,
    shard_of,
    within,
)

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


@given(st.integers(0, 99_999), st.integers(0, 10**10), st.integers(0, 10**10), st.sampled_from(["", "year=2020/x=a b"]))
def test_names_tell_file_and_rows(file, start, length, folder):
    part = Part(file, start, start + length, folder)
    assert listed_parts([part.name]) == [part]


def test_other_files_are_no_parts():
    names = [
        "_SUCCESS",
        "_pairscore/run.json",
        "_pairscore/tmp/part-00000-0000000000-0000000050.parquet.1a2b3c4d.partial",
        "part-00000-0000000000-0000000050.parquet.crc",
        "part-0-0-50.parquet",
        "part-00000-0000000000-0000000050.snappy.parquet",
    ]
    assert listed_parts(names) == []


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


def test_a_part_is_one_row_group_with_figures_and_foreign_metadata():
    table = pa.table({"a": range(100_000)}).replace_schema_metadata({"theirs": "kept"})
    buffer = part_bytes(table, {"rows": [3, 4]}, "zstd")
    metadata = pq.read_metadata(pa.BufferReader(buffer))
    assert metadata.num_row_groups == 1
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert part_figures(metadata) == {"rows": [3, 4]}
    assert metadata.metadata[b"theirs"] == b"kept"
    assert json.loads(as_metadata({"x": 1})[METADATA_KEY]) == {"x": 1}


PART = part_bytes(pa.table({"a": ["x", "y"] * 50}), {"rows": [0, 100]}, "zstd")


@given(st.integers(0, len(PART) - 1), st.integers(0, 7))
def test_a_part_with_any_bit_changed_is_not_intact(place, bit):
    changed = bytearray(PART)
    changed[place] ^= 1 << bit
    assert is_intact(PART)
    assert not is_intact(bytes(changed))


@given(st.integers(0, len(PART) - 1))
def test_a_part_cut_short_is_not_intact(length):
    assert not is_intact(PART[:length])


def test_others_read_a_sealed_part(tmp_path):
    (tmp_path / "part.parquet").write_bytes(PART)
    path = str(tmp_path / "part.parquet")
    assert pq.read_table(path)["a"].to_pylist() == ["x", "y"] * 50
    assert duckdb.sql(f"SELECT a FROM '{path}'").to_arrow_table()["a"].to_pylist() == ["x", "y"] * 50
    assert polars.read_parquet(path)["a"].to_list() == ["x", "y"] * 50


def test_figures_add_up():
    totals = {"nulls": 0, "reused": 0, "statistics": {}}
    for nulls, pairs in ((1, 10), (2, 20)):
        add_figures(totals, {"nulls": nulls, "reused": 3, "statistics": {"pairs": pairs, "seconds": 0.5}})
    assert totals == {"nulls": 3, "reused": 6, "statistics": {"pairs": 30, "seconds": 1.0}}
