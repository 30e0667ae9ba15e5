"""Rows of a file as parts: equal to a plain slice however the file is built, in bounded memory."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.input.filters import parse_filter
from pairscore.runtime.input.find import find_files
from pairscore.runtime.input.footers import open_file
from pairscore.runtime.input.read import Reading, read_pieces
from pairscore.runtime.job.blocks import missing, plan_blocks
from pairscore.runtime.storage.parts import Part
from tests.pairs_files import pairs_table

TEXTS = ("claim", "evidence")


def opened(path):
    return open_file(find_files([str(path)])[0])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(0, 60),
    group=st.integers(1, 40),
    block_rows=st.integers(1, 40),
    done=st.sets(st.integers(0, 20)),
    condition=st.sampled_from([None, "relevant", "id >= 20 and id < 45", "id < 0"]),
)
def test_parts_hold_the_rows_their_names_say(tmp_path, rows, group, block_rows, done, condition):  # noqa: PLR0917
    table = pairs_table(rows)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=group)
    file = opened(tmp_path / "a.parquet")
    blocks = plan_blocks([file.rows], block_rows)
    left = missing(blocks, [Part(0, block.start, block.stop) for place, block in enumerate(blocks) if place in done])
    expression = parse_filter(condition).bind(table.schema)[0] if condition else None
    reading = Reading(("id", "claim", "evidence", "relevant"), TEXTS, expression)
    pieces = list(read_pieces(file, left, reading))
    assert [(piece.part.start, piece.part.stop) for piece in pieces] == [(block.start, block.stop) for block in left]
    for piece in pieces:
        expected = table.slice(piece.part.start, piece.part.stop - piece.part.start)
        expected = expected.filter(expression) if expression is not None else expected
        assert piece.table.equals(expected)
        assert piece.rows.tolist() == expected["id"].to_pylist()


def test_a_block_too_large_for_one_window_becomes_parts_without_gaps(tmp_path):
    table = pairs_table(200)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=70)
    file = opened(tmp_path / "a.parquet")
    reading = Reading(("claim", "evidence"), TEXTS, window_bytes=2000)
    pieces = list(read_pieces(file, plan_blocks([200], 150), reading))
    assert len(pieces) > 4
    assert all(first.part.stop == second.part.start for first, second in pairwise(pieces))
    assert 150 in {piece.part.stop for piece in pieces}
    assert pa.concat_tables([piece.table for piece in pieces]).equals(table.select(["claim", "evidence"]))
    # Beginning again behind any part gives the same parts: this is what resuming rests on.
    for place, piece in enumerate(pieces):
        again = missing(plan_blocks([200], 150), [each.part for each in pieces[: place + 1]])
        assert [each.part for each in read_pieces(file, again, reading)] == [each.part for each in pieces[place + 1 :]]
        assert piece.table.num_rows == piece.part.stop - piece.part.start


def test_one_huge_row_group_does_not_cost_its_size(tmp_path):
    """The row group's columns are 60 MB each; what Arrow holds at any moment is a window and little more."""
    rows = 400_000
    text = pc.binary_join_element_wise(pa.array(np.arange(rows)).cast(pa.string()), pa.repeat("x" * 140, rows), " ")
    pq.write_table(
        pa.table({"claim": text, "evidence": text}),
        tmp_path / "a.parquet",
        row_group_size=rows,
        use_dictionary=False,
        compression="none",
    )
    del text
    file = opened(tmp_path / "a.parquet")
    assert len(file.group_rows) == 1
    before, peak, seen = pa.total_allocated_bytes(), 0, 0
    for piece in read_pieces(file, plan_blocks([rows], 20_000), Reading(TEXTS, TEXTS)):
        seen += piece.table.num_rows
        peak = max(peak, pa.total_allocated_bytes() - before)
        del piece
    assert seen == rows
    assert peak < 30_000_000


def test_row_groups_that_are_not_needed_are_not_read(tmp_path):
    """Damage elsewhere in the file goes unnoticed."""
    pq.write_table(pairs_table(100), tmp_path / "a.parquet", row_group_size=25)
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    column = metadata.row_group(1).column(2)
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    (tmp_path / "a.parquet").write_bytes(content)
    file = opened(tmp_path / "a.parquet")
    blocks = plan_blocks([100], 25)
    reading = Reading(TEXTS, TEXTS)
    rest = [blocks[0], *blocks[2:]]
    assert sum(piece.table.num_rows for piece in read_pieces(file, rest, reading)) == 75
    with pytest.raises(PairscoreError, match="is damaged"):
        list(read_pieces(file, blocks, reading))


def test_a_file_that_changes_between_footer_and_rows_is_noticed(tmp_path):
    pq.write_table(pairs_table(100), tmp_path / "a.parquet")
    file = opened(tmp_path / "a.parquet")
    pq.write_table(pairs_table(100, seed=1), tmp_path / "a.parquet")
    with pytest.raises(PairscoreError, match="changed while it was being read"):
        list(read_pieces(file, plan_blocks([100], 50), Reading(TEXTS, TEXTS)))
