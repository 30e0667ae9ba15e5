"""`score_files`: the command from Python, with the command's defaults."""

import inspect
import json
import logging
from dataclasses import MISSING, fields

import pytest

import pairscore
from pairscore.runtime.command import score
from pairscore.runtime.job.plan import JobOptions
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
    with pytest.raises(pairscore.PairscoreError, match="--top-k 0 keeps nothing"):
        pairscore.score_files(bundle, tmp_path / "in.parquet", tmp_path / "out", top_k=0)
    assert not (tmp_path / "out").exists()


def test_options_and_defaults_are_those_of_the_command():
    """Three places list the options: the command, the function and what both fill in. They may not drift apart.

    `revision` belongs to the bundle, which both find before they fill anything in; tests alone set `window_bytes`.
    """
    function = {
        name: parameter.default
        for name, parameter in inspect.signature(pairscore.score_files).parameters.items()
        if name not in ("bundle", "revision", "inputs", "output", "progress", "log_json")
    }
    filled = {each.name: each.default for each in fields(JobOptions) if each.default is not MISSING}
    del filled["window_bytes"]
    assert function == filled
    ours = {"bundle", "revision", "inputs", "output", "dry_run", "as_json", "quiet", "log_json"}
    names = {"condition": "filter"}
    command = {
        names.get(each.name, each.name): each.default if isinstance(each.default, str | int) else None
        for each in score.params
        if each.name not in ours
    }
    assert {**command, "reuse": (), "overwrite": False} == function
