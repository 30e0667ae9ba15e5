"""Names of parts tell which rows they hold; their seal tells whether a byte has changed."""

import json

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from pairscore.runtime.storage.parts import Part, listed_parts
from pairscore.runtime.storage.sealing import METADATA_KEY, as_metadata, is_intact, part_bytes, part_figures


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


def test_a_part_is_one_row_group_with_figures_and_foreign_metadata():
    table = pa.table({"a": range(100_000)}).replace_schema_metadata({"theirs": "kept"})
    buffer = part_bytes(table, {"rows": [3, 4]}, compression="zstd")
    metadata = pq.read_metadata(pa.BufferReader(buffer))
    assert metadata.num_row_groups == 1
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert part_figures(metadata) == {"rows": [3, 4]}
    assert metadata.metadata[b"theirs"] == b"kept"
    assert json.loads(as_metadata({"x": 1})[METADATA_KEY]) == {"x": 1}


PART = part_bytes(pa.table({"a": ["x", "y"] * 50}), {"rows": [0, 100]}, compression="zstd")


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
