"""Any Arrow stream in, a lazy reader out: order, bounds, back-pressure, nothing left behind."""

import gc
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pairscore import PairscoreError, Scorer
from tests.conftest import Exported
from tests.pairs_files import pairs_table

ROWS = 120
WINDOW = 16


@pytest.fixture(scope="module")
def scorer(exported: Callable[..., Exported]) -> Scorer:
    return Scorer.from_pretrained(exported("bert").bundle, threads=2)


@pytest.fixture(scope="module")
def small(scorer: Scorer) -> Scorer:
    """A scorer of small windows."""
    return replace(scorer, window_pairs=WINDOW)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return pairs_table(ROWS)


@pytest.fixture(scope="module")
def expected(scorer: Scorer, table: pa.Table) -> np.ndarray:
    scores = scorer.predict(list(zip(table["claim"].to_pylist(), table["evidence"].to_pylist(), strict=True)))
    assert len(np.unique(scores)) > ROWS // 2  # or the comparisons below would say nothing
    return scores


class Source:
    """A stream that counts what was drawn from it."""

    def __init__(self, table: pa.Table, rows: int) -> None:
        self.batches, self.drawn, self.ended = table.to_batches(max_chunksize=rows), 0, False
        self.reader = pa.RecordBatchReader.from_batches(table.schema, self._draw())

    def _draw(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self.batches:
                self.drawn += 1
                yield batch
        finally:
            self.ended = True

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        reader, self.reader = self.reader, None
        return reader.__arrow_c_stream__(requested_schema)


def streams(table: pa.Table) -> dict[str, Callable[[], Any]]:
    return {
        "table": lambda: table,
        "reader": lambda: table.to_reader(max_chunksize=7),
        "pandas": table.to_pandas,
        "polars": lambda: pl.from_arrow(table),
        "polars, lazily": lambda: pl.from_arrow(table).lazy().collect_batches(chunk_size=9),
        "duckdb": lambda: duckdb.from_arrow(table),
        "dataset": lambda: ds.dataset(table).scanner(batch_size=11).to_reader(),
    }


@pytest.mark.parametrize("kind", list(streams(pairs_table(1))))
def test_every_stream_gives_the_scores_of_predict(
    small: Scorer, table: pa.Table, expected: np.ndarray, kind: str
) -> None:
    scored = small.score_batches(streams(table)[kind]()).read_all()
    assert scored.schema.names == [*table.schema.names, "score"]
    assert scored["id"].to_pylist() == table["id"].to_pylist()
    np.testing.assert_allclose(scored["score"].to_numpy(), expected, rtol=0, atol=1e-6)


def test_string_views_stay_views(scorer: Scorer, table: pa.Table, expected: np.ndarray) -> None:
    frame = pl.from_arrow(table)
    assert pa.RecordBatchReader.from_stream(frame).schema.field("claim").type == pa.string_view()
    scored = scorer.score_batches(frame).read_all()
    assert scored.schema.field("claim").type == pa.string_view()
    np.testing.assert_allclose(scored["score"].to_numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("encoding", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_long_batches_are_cut_alike_whatever_the_encoding(
    scorer: Scorer, table: pa.Table, expected: np.ndarray, encoding: pa.DataType
) -> None:
    scorer = replace(scorer, window_bytes=1500)
    given = table.set_column(1, "claim", table["claim"].cast(encoding))
    sizes = [batch.num_rows for batch in scorer.score_batches(given.combine_chunks())]
    assert sizes == [batch.num_rows for batch in scorer.score_batches(table.combine_chunks())]
    assert len(sizes) > 5
    np.testing.assert_allclose(scorer.score_table(given)["score"].to_numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("index", [pd.Index([f"row {row}" for row in range(ROWS)], name="key"), range(5, 5 + ROWS)])
def test_a_pandas_index_comes_back(scorer: Scorer, table: pa.Table, expected: np.ndarray, index: Any) -> None:
    frame = table.to_pandas().set_index(pd.Index(index))
    scored = scorer.score_batches(frame).read_all().to_pandas()
    pd.testing.assert_frame_equal(scored.drop(columns="score"), frame)
    np.testing.assert_allclose(scored["score"].to_numpy(), expected, rtol=0, atol=1e-6)


def test_consumers_take_the_reader(small: Scorer, table: pa.Table, expected: np.ndarray, tmp_path: Any) -> None:
    ((total,),) = duckdb.from_arrow(small.score_batches(table)).sum("score").fetchall()
    assert total == pytest.approx(expected.sum(dtype=np.float64), abs=1e-4)
    assert pl.DataFrame(small.score_batches(table))["score"].to_list() == pytest.approx(expected, abs=1e-6)
    assert list(pd.DataFrame.from_arrow(small.score_batches(table))["score"]) == pytest.approx(expected, abs=1e-6)
    assert pa.table(small.score_batches(table)).num_rows == ROWS
    ds.write_dataset(small.score_batches(table), tmp_path / "out", format="parquet")
    assert ds.dataset(tmp_path / "out").count_rows() == ROWS


def test_the_source_is_read_a_window_ahead_and_no_further(small: Scorer, table: pa.Table) -> None:
    source = Source(table, rows=WINDOW)
    with small.score_batches(source) as reader:
        assert source.drawn == 0
        for taken in range(1, 5):
            reader.read_next_batch()
            assert source.drawn <= taken + 2
    assert source.ended


@pytest.mark.parametrize("how", ["close", "with", "drop", "exported", "source fails"])
def test_leaving_early_frees_threads_and_source(small: Scorer, table: pa.Table, how: str) -> None:
    before = set(threading.enumerate())
    source = Source(table, rows=WINDOW)
    reader = small.score_batches(source)
    reader.read_next_batch()
    assert set(threading.enumerate()) - before
    assert not source.ended
    match how:
        case "close":
            reader.close()
            assert list(reader) == []
        case "with":
            with reader:
                pass
        case "drop":
            del reader
        case "exported":
            consumer = pa.RecordBatchReader.from_stream(reader)
            consumer.read_next_batch()
            consumer.close()  # though `reader` is still here
        case "source fails":
            source.batches[3:] = [pa.record_batch({"id": ["no such column"]})]
            with pytest.raises(pa.ArrowInvalid):
                list(reader)
    gc.collect()
    assert source.ended
    assert not set(threading.enumerate()) - before


def test_a_reader_that_was_never_read_leaves_nothing(small: Scorer, table: pa.Table) -> None:
    before = set(threading.enumerate())
    source = Source(table, rows=WINDOW)
    small.score_batches(source).close()
    assert source.drawn == 0
    assert not set(threading.enumerate()) - before


def test_a_second_consumer_is_refused(small: Scorer, table: pa.Table) -> None:
    reader = small.score_batches(table)
    first = reader.read_next_batch()
    rest = pa.table(reader)  # what is left may be handed on, once
    assert first.num_rows + rest.num_rows == ROWS
    with pytest.raises(PairscoreError, match="can be read once: score again"):
        pa.table(reader)
    relation = duckdb.from_arrow(small.score_batches(table))
    assert len(relation.fetchall()) == ROWS
    with pytest.raises(Exception, match="can be read once: score again"):
        relation.fetchall()


def test_a_failure_keeps_its_line(scorer: Scorer) -> None:
    """As our own error in Python, and inside the engine's error behind an Arrow stream."""
    table = pairs_table(10, null_every=3).slice(1)
    line = "row 2 has a null in column 'evidence'"
    with pytest.raises(PairscoreError, match=line):
        scorer.score_batches(table).read_all()
    with pytest.raises(duckdb.Error, match=line):
        duckdb.from_arrow(scorer.score_batches(table)).fetchall()
    with pytest.raises(pl.exceptions.ComputeError, match=line):
        pl.DataFrame(scorer.score_batches(table))


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ([("claim", "evidence")], "a list offers no Arrow stream: pass pyarrow.Table.from_pylist"),
        (
            pl.LazyFrame({"claim": ["a"], "evidence": ["b"]}),
            "a LazyFrame offers no Arrow stream: pass what its .collect",
        ),
        ({"claim": ["a"]}, "a dict offers no Arrow stream: pass pyarrow.table"),
        (pd.DataFrame({"claim": ["a", "b"], "evidence": ["c", 1]}), "does not become Arrow columns"),
        (pl.DataFrame({"claim": ["a"]}), "no column 'evidence': the input has 'claim'"),
        (pd.DataFrame({"claim": ["a"], "evidence": [3]}), "column 'evidence' is of type int64, not text"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(scorer: Scorer, given: Any, line: str) -> None:
    with pytest.raises(PairscoreError, match=line):
        scorer.score_batches(given)
