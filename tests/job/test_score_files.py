"""`score_files`: the command from Python, with the command's defaults."""

import json
import logging

import pytest

import pairscore
from pairscore.runtime.job.run import run_job
from tests.pairs_files import job, read_output, same, write_pairs


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return small_bundle()


def test_it_does_what_the_command_does(bundle, tmp_path, caplog):
    for place in range(2):
        write_pairs(tmp_path / "data" / f"{place}.parquet", 120, seed=place)
    run_job(job(bundle, tmp_path / "data", tmp_path / "expected"))
    seen = []
    with caplog.at_level(logging.INFO, "pairscore"):
        summary = pairscore.score_files(
            bundle,
            [tmp_path / "data" / "0.parquet", tmp_path / "data" / "1.parquet"],
            tmp_path / "out.parquet",
            reuse=tmp_path / "expected",
            progress=seen.append,
            log_json=tmp_path / "log",
        )
    assert same(read_output(tmp_path / "out.parquet"), read_output(tmp_path / "expected"))
    assert (summary.whole, summary.figures.reused) == (True, 240)
    assert (seen[-1].done, seen[-1].total, seen[-1].share) == (240, 240, 1.0)
    assert "Reusing 240 scored pairs" in caplog.text
    events = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert (events[0], events[-1]) == ("reuse", "end")
    assert pairscore.score_files(bundle, tmp_path / "data", tmp_path / "expected", part_rows=50).nothing_to_do


def test_mistakes_raise_one_line(bundle, tmp_path):
    write_pairs(tmp_path / "in.parquet", 10)
    with pytest.raises(pairscore.PairscoreError, match="no input 'nothing'"):
        pairscore.score_files(bundle, "nothing", tmp_path / "out")
    with pytest.raises(pairscore.PairscoreError, match=r"^top_k 0 is too small: use 1 or more"):
        pairscore.score_files(bundle, tmp_path / "in.parquet", tmp_path / "out", top_k=0)
    assert not (tmp_path / "out").exists()
