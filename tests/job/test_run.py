"""A job from files to files: every row once, in order, with the scores that the scorer gives."""

import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.output.merge import add_figures
from pairscore.runtime.job.run import run_job
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.storage.sealing import METADATA_KEY
from tests.pairs_files import AtPart, files_below, job, pairs_table, read_output, same, write_pairs


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return small_bundle()


@pytest.fixture
def data(tmp_path):
    """Three files, of which the second has no row."""
    for place, rows in enumerate((230, 0, 120)):
        write_pairs(tmp_path / "data" / f"{place}.parquet", rows, seed=place, group=70)
    return tmp_path / "data"


def test_every_row_comes_back_once_with_its_columns_and_its_score(bundle, data, tmp_path):
    summary = run_job(job(bundle, data, tmp_path / "out"))
    expected = pa.concat_tables([pairs_table(230, 0), pairs_table(120, 2)])
    result = read_output(tmp_path / "out")
    assert result.schema.field("score").type == pa.float32()
    assert same(result.drop_columns("score"), expected)
    pairs = list(zip(expected["claim"].to_pylist(), expected["evidence"].to_pylist(), strict=True))
    predicted = Scorer.from_pretrained(bundle).predict(pairs)
    np.testing.assert_allclose(result["score"].to_numpy(), predicted, atol=1e-6)
    assert summary.whole
    assert (summary.figures.rows, summary.figures.nulls, summary.figures.parts) == (350, 0, 5 + 1 + 3)


def test_a_folder_of_parts_holds_parts_and_the_marker_alone(bundle, data, tmp_path):
    run_job(job(bundle, data, tmp_path / "out"))
    assert sorted(files_below(tmp_path / "out")) == [
        "_SUCCESS",
        *(f"part-00000-{start:010d}-{min(start + 50, 230):010d}.parquet" for start in range(0, 230, 50)),
        "part-00001-0000000000-0000000000.parquet",
        *(f"part-00002-{start:010d}-{min(start + 50, 120):010d}.parquet" for start in range(0, 120, 50)),
    ]


def test_a_second_run_gives_identical_bits(bundle, data, tmp_path):
    for name in ("one", "two"):
        run_job(job(bundle, data, tmp_path / name))
    assert same(read_output(tmp_path / "one"), read_output(tmp_path / "two"))


def test_one_file_holds_what_the_parts_hold(bundle, data, tmp_path):
    run_job(job(bundle, data, tmp_path / "out"))
    run_job(job(bundle, data, tmp_path / "new" / "out.parquet"))
    assert sorted(files_below(tmp_path / "new")) == ["out.parquet"]
    assert same(read_output(tmp_path / "out"), read_output(tmp_path / "new" / "out.parquet"))


def test_the_order_of_files_is_that_of_the_arguments(bundle, data, tmp_path):
    run_job(job(bundle, (data / "2.parquet", data / "0.parquet"), tmp_path / "out"))
    expected = pa.concat_tables([pairs_table(120, 2), pairs_table(230, 0)])
    assert same(read_output(tmp_path / "out").drop_columns("score"), expected)


def test_null_rows_get_a_null_score(bundle, tmp_path):
    table = write_pairs(tmp_path / "in.parquet", 130, null_every=9)
    summary = run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "out", on_null="null"))
    result = read_output(tmp_path / "out")
    assert same(result.drop_columns("score"), table)
    assert result["score"].is_null().to_pylist() == [row % 9 == 0 for row in range(130)]
    assert summary.figures.nulls == 15


def test_a_part_in_which_every_row_is_null(bundle, tmp_path):
    write_pairs(tmp_path / "in.parquet", 60, null_every=1)
    run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "out", on_null="null"))
    assert read_output(tmp_path / "out")["score"].null_count == 60


@pytest.mark.parametrize("statistics", [True, False])
def test_a_null_is_an_error_that_names_file_row_and_column(bundle, tmp_path, statistics):
    table = pairs_table(130)
    evidence = table["evidence"].to_pylist()
    evidence[117] = None
    table = table.set_column(2, "evidence", pa.array(evidence))
    pq.write_table(table, tmp_path / "in.parquet", write_statistics=statistics, row_group_size=40)
    with pytest.raises(PairscoreError, match=r"row 117 of '.*in\.parquet' has a null in column 'evidence'.*--on-null"):
        run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "out"))
    # With statistics it is known before anything is written; without, the parts before it are kept.
    assert (tmp_path / "out").exists() is not statistics


def test_only_the_columns_asked_for_are_kept_in_the_order_of_the_file(bundle, data, tmp_path):
    run_job(job(bundle, data, tmp_path / "out", keep=("relevant", "id")))
    assert read_output(tmp_path / "out").schema.names == ["id", "relevant", "score"]


def test_several_labels_give_a_column_each(small_bundle, data, tmp_path):
    bundle = small_bundle(3)
    run_job(job(bundle, data, tmp_path / "out", keep=("id",), score_column="p"))
    assert read_output(tmp_path / "out").schema.names == ["id", "p_LABEL_0", "p_LABEL_1", "p_LABEL_2"]


def test_filter_scores_only_rows_that_meet_it(bundle, data, tmp_path):
    run_job(job(bundle, data, tmp_path / "out", filter="relevant and id < 2000050", part_rows=40))
    everything = pa.concat_tables([pairs_table(230, 0), pairs_table(120, 2)]).to_pylist()
    expected = [row for row in everything if row["relevant"] and row["id"] < 2_000_050]
    assert read_output(tmp_path / "out").drop_columns("score").to_pylist() == expected
    # Names tell of rows before the filter, without a gap.
    assert (tmp_path / "out" / "part-00002-0000000080-0000000120.parquet").exists()


def test_a_filtered_null_is_no_error_and_a_kept_one_is_named_by_its_row(bundle, tmp_path):
    write_pairs(tmp_path / "in.parquet", 100, null_every=30)
    run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "out", filter="evidence is not null"))
    assert read_output(tmp_path / "out").num_rows == 96
    with pytest.raises(PairscoreError, match="row 90 of"):
        run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "out2", filter="id >= 61"))


@pytest.mark.parametrize("limit", [0, 1, 230, 231, 10_000])
def test_limit_takes_the_first_rows_of_the_input(bundle, data, tmp_path, limit):
    run_job(job(bundle, data, tmp_path / "out", limit=limit))
    expected = pa.concat_tables([pairs_table(230, 0), pairs_table(120, 2)]).slice(0, limit)
    assert same(read_output(tmp_path / "out").drop_columns("score"), expected)


def test_large_texts_cut_a_block_into_several_parts(bundle, tmp_path):
    write_pairs(tmp_path / "in.parquet", 130)
    run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "whole"))
    run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "out", filter="relevant", window_bytes=3000))
    names = sorted(path.name for path in (tmp_path / "out").glob("part-*"))
    bounds = [tuple(map(int, name.removesuffix(".parquet").split("-")[2:])) for name in names]
    assert len(bounds) > 3
    assert bounds[0][0] == 0
    assert bounds[-1][1] == 130
    assert all(first[1] == second[0] for first, second in itertools.pairwise(bounds))
    whole = read_output(tmp_path / "whole").to_pylist()
    cut = read_output(tmp_path / "out").to_pylist()
    assert [row["id"] for row in cut] == [row["id"] for row in whole if row["relevant"]]
    scores = {row["id"]: row["score"] for row in whole}
    assert all(abs(row["score"] - scores[row["id"]]) < 1e-6 for row in cut)


def test_parts_carry_where_they_come_from(bundle, data, tmp_path):
    log = AtPart(0, lambda: None)
    run_job(job(bundle, data, tmp_path / "out"), log=log)
    told = json.loads(
        pq.read_metadata(tmp_path / "out" / "part-00002-0000000050-0000000100.parquet").metadata[METADATA_KEY]
    )
    assert told["input"]["name"] == "2.parquet"
    assert told["rows"] == [50, 100]
    assert told["statistics"]["pairs"] == 50
    assert told["settings"]["precision"] == "fp32"
    event = next(each for each in log.events if each.get("name") == "part-00002-0000000050-0000000100.parquet")
    assert event["tokens"] == told["statistics"]["tokens"]
    end = log.events[-1]
    assert end["event"] == "end"
    assert end["pairs"] == 350
    assert end["tokens"] == sum(each["tokens"] for each in log.events if each["event"] == "part")


def test_the_one_file_carries_the_sums(bundle, data, tmp_path):
    run_job(job(bundle, data, tmp_path / "out.parquet"))
    told = json.loads(pq.read_metadata(tmp_path / "out.parquet").metadata[METADATA_KEY])
    assert told["statistics"]["pairs"] == 350
    assert told["nulls"] == 0


def test_metadata_of_others_is_kept(bundle, tmp_path):
    frame = pairs_table(20).to_pandas().set_index("id")
    frame.to_parquet(tmp_path / "in.parquet")
    for name in ("out", "out.parquet"):
        run_job(job(bundle, tmp_path / "in.parquet", tmp_path / name))
    import pandas

    for name in ("out", "out.parquet"):
        back = pandas.read_parquet(tmp_path / name)
        assert back.index.name == "id"
        assert back.drop(columns="score").equals(frame)


def test_partitions_are_kept_as_folders_and_become_columns_of_one_file(bundle, tmp_path):
    for year in (2019, 2020):
        for topic in ("sea level", "ice"):
            path = tmp_path / "data" / f"year={year}" / f"topic={topic.replace(' ', '%20')}" / "pairs.parquet"
            write_pairs(path, 60, seed=year + len(topic))
    run_job(job(bundle, tmp_path / "data", tmp_path / "out"))
    run_job(job(bundle, tmp_path / "data", tmp_path / "out.parquet"))
    assert (tmp_path / "out/year=2020/topic=sea%20level/part-00003-0000000000-0000000050.parquet").exists()
    table = pq.read_table(tmp_path / "out")
    assert table.num_rows == 240
    one = pq.read_table(tmp_path / "out.parquet")
    assert one.schema.field("year").type == pa.int64()
    assert set(one["topic"].to_pylist()) == {"sea level", "ice"}
    run_job(job(bundle, tmp_path / "data", tmp_path / "some", filter="year == 2020 and topic == 'ice'"))
    assert read_output(tmp_path / "some").num_rows == 60


def test_readers_open_a_finished_folder(bundle, data, tmp_path):
    import duckdb
    import pandas
    import polars
    import pyarrow.dataset

    out = tmp_path / "out"
    run_job(job(bundle, data, out))
    assert duckdb.sql(f"select count(score) from '{out}/*.parquet'").fetchall() == [(350,)]
    assert duckdb.sql(f"select count(score) from '{out}/**/*.parquet'").fetchall() == [(350,)]
    assert polars.read_parquet(out).height == 350
    assert polars.scan_parquet(f"{out}/*.parquet").collect().height == 350
    assert len(pandas.read_parquet(out)) == 350
    assert pyarrow.dataset.dataset(out).count_rows() == 350


def test_shards_together_equal_one_run(bundle, data, tmp_path):
    run_job(job(bundle, data, tmp_path / "whole"))
    for number in (3, 1, 4, 2):
        assert not (tmp_path / "out" / "_SUCCESS").exists()
        summary = run_job(job(bundle, data, tmp_path / "out", shard=(number, 4)))
        assert summary.whole is (number == 2)
    whole, shards = files_below(tmp_path / "whole"), files_below(tmp_path / "out")
    assert sorted(whole) == sorted(shards)
    assert same(read_output(tmp_path / "whole"), read_output(tmp_path / "out"))


def test_more_shards_than_parts(bundle, tmp_path):
    write_pairs(tmp_path / "in.parquet", 60)
    for number in range(1, 6):
        run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "out", shard=(number, 5)))
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert read_output(tmp_path / "out").num_rows == 60


def test_figures_add_up():
    totals = {"nulls": 0, "reused": 0, "statistics": {}}
    for nulls, pairs in ((1, 10), (2, 20)):
        add_figures(totals, {"nulls": nulls, "reused": 3, "statistics": {"pairs": pairs, "seconds": 0.5}})
    assert totals == {"nulls": 3, "reused": 6, "statistics": {"pairs": 30, "seconds": 1.0}}
