"""The study of --reuse: the old output that it makes up is one that a job takes."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.job.reuse import find_old_files, read_old_scores, recorded_settings
from pairscore.runtime.job.run import run_job
from studies import reuse
from tests.pairs_files import job, write_pairs


def test_many_old_pairs_are_different_and_can_be_reused(exported, tmp_path):
    bundle = exported("bert").bundle
    write_pairs(tmp_path / "pairs.parquet", 60)
    run_job(job(bundle, tmp_path / "pairs.parquet", tmp_path / "old.parquet"))
    reuse.write_old(tmp_path / "pairs.parquet", tmp_path / "old.parquet", tmp_path / "many", 500)
    urls = (str(tmp_path / "many"),)
    settings = recorded_settings(urls)
    assert settings is not None
    found = read_old_scores(find_old_files(urls, settings, ["LABEL_0"]), 1)
    table = pq.read_table(tmp_path / "many")
    different = {tuple(row.values()) for row in table.select(["claim", "evidence"]).to_pylist()}
    assert (found.pairs, len(different)) == (500, 500)
    known, scores = found.lookup(table["claim"].combine_chunks(), table["evidence"].combine_chunks())
    assert known.all()
    assert scores[:, 0].tolist() == table["score"].to_pylist()
    found.close()


def test_results_that_differ_end_the_study(tmp_path):
    write_pairs(tmp_path / "a.parquet", 3)
    table = pq.read_table(tmp_path / "a.parquet")
    for name, score in (("one", 0.0), ("same", 0.0), ("other", -0.0)):
        scored = table.append_column("score", pa.array([score] * 3, pa.float32()))
        pq.write_table(scored, tmp_path / f"{name}.parquet")
    reuse.check_equal(tmp_path / "one.parquet", tmp_path / "same.parquet")
    with pytest.raises(ValueError, match=r"other\.parquet differs from one\.parquet"):
        reuse.check_equal(tmp_path / "one.parquet", tmp_path / "other.parquet")
