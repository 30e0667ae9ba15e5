"""`--top-k`: the best rows a claim, the same whatever the parts, the shards and the stops."""

import itertools
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.run import run_job
from pairscore.runtime.storage.local import LocalStorage
from tests.command_line import run
from tests.pairs_files import AtPart, files_below, job, pairs_table, read_output, same, write_pairs


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return small_bundle()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Claims of a few texts, so that most of them cross parts, files and shards; some rows twice, some without text."""
    folder = tmp_path_factory.mktemp("data")
    write_pairs(folder / "0.parquet", 230, seed=3, null_every=50)
    second = pa.concat_tables([pairs_table(120, 3), pairs_table(110, 4, null_every=60)])
    pq.write_table(second, folder / "1.parquet", row_group_size=70)
    return folder


@pytest.fixture(scope="module")
def whole(bundle, data, tmp_path_factory):
    """All rows with their scores."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run_job(job(bundle, data, out, on_null="null"))
    return read_output(out)


def best(table, top_k, by="claim"):
    """What sorting everything gives: rows in order, with their rank."""
    rows = [{**row, "place": place} for place, row in enumerate(table.to_pylist()) if row["score"] is not None]
    kept = []
    for _, group in itertools.groupby(sorted(rows, key=lambda row: str(row[by])), key=lambda row: row[by]):
        ordered = sorted(group, key=lambda row: (-row["score"], row["place"]))
        kept.extend({**row, "rank": rank} for rank, row in enumerate(ordered[:top_k], 1))
    ordered = sorted(kept, key=lambda row: row["place"])
    return [{name: value for name, value in row.items() if name != "place"} for row in ordered]


def top(bundle, data, output, **changes):
    return job(bundle, data, output, **{"on_null": "null", "top_k": 2, **changes})


@pytest.mark.parametrize("name", ["out", "out.parquet"])
@pytest.mark.parametrize("part_rows", [20, 1000])
def test_the_best_rows_of_each_claim_are_kept_in_order_and_ranked(bundle, data, whole, tmp_path, name, part_rows):  # noqa: PLR0917
    run_job(top(bundle, data, tmp_path / name, part_rows=part_rows))
    assert read_output(tmp_path / name).to_pylist() == best(whole, 2)
    assert read_output(tmp_path / name).schema.field("rank").type == pa.int32()


@pytest.mark.parametrize(("by", "top_k"), [("relevant", 5), ("id", 1), ("evidence", 1), ("claim", 1000)])
def test_other_columns_and_numbers(bundle, data, whole, tmp_path, by, top_k):  # noqa: PLR0917
    run_job(top(bundle, data, tmp_path / "out", by=by, top_k=top_k))
    assert read_output(tmp_path / "out").to_pylist() == best(whole, top_k, by)


def test_a_claim_across_shards_is_ranked_over_all_of_them(capsys, bundle, data, whole, tmp_path):
    """Until the last shard ends, ranks are those within a part; the summary says so."""
    for number in (3, 1):
        code, _, said = run(
            capsys, "score", bundle, data, "-o", tmp_path / "out", "--on-null", "null", "--part-rows", 50,
            "--top-k", 2, "--shard", f"{number}/3",
        )  # fmt: skip
        assert code == 0
        assert "the shard that ends last chooses the best 2 rows of each value of 'claim' over all shards" in said
    assert run_job(top(bundle, data, tmp_path / "out", shard=(2, 3))).whole
    assert read_output(tmp_path / "out").to_pylist() == best(whole, 2)


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_a_stopped_run_goes_on(bundle, data, whole, tmp_path, name):
    options = top(bundle, data, tmp_path / name)
    for parts in (3, 2):
        with pytest.raises(KeyError):
            run_job(options, log=AtPart(parts, {}.popitem))
    run_job(options)
    assert read_output(tmp_path / name).to_pylist() == best(whole, 2)


@pytest.mark.parametrize("writes", [1, 4, 8])
def test_a_run_stopped_while_it_ranks_goes_on(bundle, data, whole, tmp_path, monkeypatch, writes):  # noqa: PLR0917
    """Some parts are written again already, others are not."""
    options, write = top(bundle, data, tmp_path / "out"), LocalStorage.write
    left = 1 + 10 + writes  # the record, the parts, and some of them again

    def stop_later(self, path, content, folder):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyError
        write(self, path, content, folder)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "write", stop_later)
        with pytest.raises(KeyError):
            run_job(options)
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    assert run_job(options).figures.parts == 0
    assert read_output(tmp_path / "out").to_pylist() == best(whole, 2)


def test_another_number_or_column_is_another_run(bundle, data, tmp_path):
    with pytest.raises(KeyError):
        run_job(top(bundle, data, tmp_path / "out"), log=AtPart(2, {}.popitem))
    for change, message in (
        ({"top_k": 3}, "--top-k was 2 and is now 3"),
        ({"by": "id"}, "--by was 'claim' and is now"),
    ):
        with pytest.raises(PairscoreError, match=message):
            run_job(replace(top(bundle, data, tmp_path / "out"), **change))
    # The claim column by name is the default in words.
    assert run_job(replace(top(bundle, data, tmp_path / "out"), by="claim")).earlier_parts == 2


def test_old_scores_and_partitions_and_filters_go_with_it(bundle, data, whole, tmp_path):
    run_job(top(bundle, data, tmp_path / "old", top_k=1))
    summary = run_job(top(bundle, data, tmp_path / "out", filter="relevant", reuse=(str(tmp_path / "old"),)))
    assert summary.figures.reused > 0
    assert read_output(tmp_path / "out").to_pylist() == best(whole.filter(whole["relevant"]), 2)
    for place, year in enumerate((2019, 2020)):
        write_pairs(tmp_path / "years" / f"year={year}" / "pairs.parquet", 60, seed=place)
    run_job(top(bundle, tmp_path / "years", tmp_path / "years.out"))
    run_job(top(bundle, tmp_path / "years", tmp_path / "years.parquet"))
    one = pq.read_table(tmp_path / "years.parquet")
    assert same(read_output(tmp_path / "years.out"), one.drop_columns("year"))
    assert (tmp_path / "years.out/year=2020/part-00001-0000000000-0000000050.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top-k", "0"], "--top-k 0 is too small"),
        (["--by", "claim"], "say how many with --top-k"),
        (["--top-k", "2", "--by", "x"], "--by: no column 'x': the input has 'id'"),
        (["--top-k", "2", "--keep", "id"], "add it to --keep"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(capsys, bundle, data, tmp_path, arguments, message):  # noqa: PLR0917
    code, out, said = run(capsys, "score", bundle, data, "-o", tmp_path / "out", "--on-null", "null", *arguments)
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert message in said
    assert files_below(tmp_path) == {}


def test_a_rank_column_and_several_labels_are_refused(small_bundle, bundle, tmp_path):
    table = pairs_table(20).append_column("rank", pa.array(range(20)))
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(PairscoreError, match="already has a column 'rank'"):
        run_job(top(bundle, tmp_path / "in.parquet", tmp_path / "out"))
    with pytest.raises(PairscoreError, match="this model has 3 labels: name one of"):
        run_job(top(small_bundle(3), tmp_path / "in.parquet", tmp_path / "out"))
