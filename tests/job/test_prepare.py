"""What precedes a run is one thing, whether the job then runs, is only estimated, or has nothing to do."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.errors import PairscoreError, TryAgainError
from pairscore.runtime.job import run as runs
from pairscore.runtime.job.estimate import estimate_job
from pairscore.runtime.job.output.layout import open_output
from pairscore.runtime.job.output.locks import hold
from pairscore.runtime.job.run import run_job
from tests.pairs_files import AtPart, files_below, job, pairs_table, read_output, same, write_pairs


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return small_bundle()


@pytest.fixture
def data(tmp_path):
    for place in range(2):
        write_pairs(tmp_path / "data" / f"{place}.parquet", 150, seed=place)
    return tmp_path / "data"


def test_a_dry_run_estimates_what_is_left(bundle, data, tmp_path):
    options = job(bundle, data, tmp_path / "out")
    with pytest.raises(KeyError):
        run_job(options, log=AtPart(4, {}.popitem))
    estimate = estimate_job(options)
    assert (estimate.rows, estimate.parts, estimate.earlier_parts, estimate.pairs) == (100, 2, 4, 100)
    assert "2 parts (4 parts done already)" in estimate.lines()[0]
    assert estimate_job(replace(options, overwrite=True, limit=60)).earlier_parts == 0
    with pytest.raises(PairscoreError, match="--limit was not given and is now 60"):
        estimate_job(replace(options, limit=60))
    run_job(options)
    assert estimate_job(options).nothing_to_do


def test_a_dry_run_counts_what_an_earlier_output_holds(bundle, data, tmp_path):
    run_job(job(bundle, data / "0.parquet", tmp_path / "old"))
    estimate = estimate_job(job(bundle, data, tmp_path / "out", reuse=(str(tmp_path / "old"),), part_rows=150))
    assert (estimate.pairs, estimate.reused) == (300, 150)
    assert "150 of them with an old score" in estimate.lines()[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["out", "out.parquet"])
@pytest.mark.parametrize("more", [{}, {"top_k": 2}])
def test_no_rows_are_a_whole_output_with_the_input_s_columns(bundle, data, tmp_path, name, more):
    options = job(bundle, data, tmp_path / name, limit=0, **more)
    assert run_job(options).whole
    expected = [*pairs_table(1).schema.names, "score", *(["rank"] if more else [])]
    written = read_output(tmp_path / name)
    assert (written.num_rows, written.schema.names) == (0, expected)
    assert run_job(options).nothing_to_do


def test_files_past_the_limit_were_not_left_out(bundle, data, tmp_path):
    options = job(bundle, data, tmp_path / "out", limit=60, on_error="skip-file")
    assert run_job(options).skipped == ()
    again = run_job(options)
    assert (again.nothing_to_do, again.skipped) == (True, ())


def test_an_output_that_became_whole_meanwhile_needs_nothing(bundle, data, tmp_path, monkeypatch):
    """The same command, given while the first run is near its end."""
    options = job(bundle, data, tmp_path / "out.parquet")
    find_work = runs.find_work

    def meanwhile(prepared, scorer=None):
        monkeypatch.setattr(runs, "find_work", find_work)
        run_job(options)
        return find_work(prepared, scorer)

    monkeypatch.setattr(runs, "find_work", meanwhile)
    assert run_job(options).nothing_to_do
    assert [path.name for path in tmp_path.iterdir() if path != data] == ["out.parquet"]


def test_a_refused_run_leaves_the_first_alone(bundle, data, tmp_path):
    options = job(bundle, data, tmp_path / "out")
    with hold(open_output(str(tmp_path / "out")), None):
        before = files_below(tmp_path)
        with pytest.raises(TryAgainError, match="another run is writing"):
            run_job(options)
        assert files_below(tmp_path) == before


def test_a_column_may_have_any_name(bundle, tmp_path):
    names = ("pairscore row number", "row of evidence", "rows", "")
    table = pairs_table(70)
    for name in names:
        table = table.append_column(name, pa.array(range(70)))
    pq.write_table(table, tmp_path / "in.parquet")
    run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "out", filter='"pairscore row number" < 60'))
    assert same(read_output(tmp_path / "out").drop_columns("score"), table.slice(0, 60))


def test_a_log_that_cannot_be_written_does_not_end_the_job(bundle, data, tmp_path, caplog):
    import pairscore

    summary = pairscore.score_files(bundle, data, tmp_path / "out", log_json="/dev/full")
    assert summary.whole
    assert caplog.text.count("no more events are written to the log '/dev/full' (No space left on device)") == 1
