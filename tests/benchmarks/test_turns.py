"""Turns, which run counts, and whether two results agree: with workers that take the time they are told to."""

import json
import sys

import numpy as np
import pytest

from pairscore.benchmarks import agreement, steps
from pairscore.benchmarks.throughput import MAX_MORE_ROUNDS, Run, Turn, confirmed, figures, take_turns
from pairscore.runtime.bundle.parity import TIERS


class FakeWorker:
    """`seconds`: of each run in turn, the last one forever."""

    def __init__(self, log, name, seconds=(1.0,), *, warm_up_seconds=None, error=None):
        self.log, self.name, self.seconds = log, name, seconds
        self.warm_up_seconds = warm_up_seconds or (1.0 if name == "R" else 0.5)
        self.error, self.runs = error, 0

    def run(self, rows=None):
        place, self.runs = self.runs, self.runs + 1
        self.log.append(self.name)
        return one_run(self.seconds[min(place, len(self.seconds) - 1)])


def one_run(seconds, share=0.0):
    return Run(seconds, share, {}, 1, np.zeros((2, 1), np.float32))


def test_the_order_rotates_and_the_reference_runs_again_and_again():
    log = []
    workers = {name: FakeWorker(log, name, warm_up_seconds=1 if name == "R" else 0.5) for name in "RABCDEFGHIJ"}
    turns = take_turns(workers, 2, "R", pause=0)
    assert "".join(log) == "RABCDEFGHIRJ" + "RBCDEFGHIJRA"
    assert [turn.round for turn in turns["R"]] == [0, 0, 1, 1]
    assert [turn.round for turn in turns["E"]] == [0, 1]


def test_slow_systems_run_less_often_and_one_that_failed_not_at_all():
    log = []
    workers = {
        "R": FakeWorker(log, "R"),
        "slow": FakeWorker(log, "slow", warm_up_seconds=1.7),
        "alike": FakeWorker(log, "alike", [1.0, 2.0], warm_up_seconds=0.9),
        "fast": FakeWorker(log, "fast", warm_up_seconds=0.7),
        "failed": FakeWorker(log, "failed", error="no"),
    }
    turns = take_turns(workers, 3, "R", pause=0)
    assert [turn.round for turn in turns["slow"]] == [0]
    assert [turn.round for turn in turns["alike"]] == [0, 1]
    assert [turn.round for turn in turns["fast"]] == [0, 1, 2]
    assert turns["failed"] == []
    assert max(turn.round for turn in turns["R"]) == 2


def test_systems_whose_median_run_stands_alone_get_more_rounds():
    log = []
    workers = {
        "R": FakeWorker(log, "R"),
        "steady": FakeWorker(log, "steady", [1.0, 1.04]),
        "steady later": FakeWorker(log, "steady later", [1.0, 1.5, 1.04]),
        "never": FakeWorker(log, "never", [1.0, 1.2, 1.4]),
    }
    turns = take_turns(workers, 2, "R", pause=0)
    assert {name: len(found) for name, found in turns.items()} == {
        "R": 2 + MAX_MORE_ROUNDS,
        "steady": 2,
        "steady later": 2 + MAX_MORE_ROUNDS,
        "never": 2 + MAX_MORE_ROUNDS,
    }
    assert [name for name, found in turns.items() if not confirmed(found)] == ["never"]


def test_an_unconfirmed_reference_gets_more_rounds():
    log = []
    workers = {"R": FakeWorker(log, "R", [2.0, 1.0, 1.5]), "A": FakeWorker(log, "A")}
    turns = take_turns(workers, 2, "R", pause=0)
    assert len(turns["R"]) == 2 + MAX_MORE_ROUNDS
    assert len(turns["A"]) == 2


def test_figures_take_the_median_run_and_tell_every_repeat():
    """The median runs take 4 s and 1 s, in different rounds."""
    turns = [Turn(0, one_run(2.0)), Turn(1, one_run(1.0, 0.3)), Turn(2, one_run(0.8))]
    reference = [Turn(0, one_run(4.0)), Turn(1, one_run(5.0))]
    pairs = [("claim", "one"), ("claim", "two")]
    found = figures(turns, reference, pairs, tokens=20, activation="sigmoid", promise=TIERS["fp32"])
    assert found["seconds"] == [2.0, 1.0, 0.8]
    assert found["others_share"] == [0.0, 0.3, 0.0]
    assert (found["pairs_per_second"], found["tokens_per_second"], found["ratio"]) == (2.0, 20.0, 4.0)
    assert not found["confirmed"]


def result(**ratios):
    systems = [
        {"name": name, **({"error": "no"} if value is None else {"seconds": [6 / value]})}
        for name, value in {"R": 1.0, **ratios}.items()
    ]
    return {"checkpoint": "c", "reference": "R", "data": {"sha256": "d", "pairs": 2}, "systems": systems}


def agree(monkeypatch, tmp_path, first, second, *more):
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, content in zip(paths, (first, second), strict=True):
        path.write_text(json.dumps(content))
    monkeypatch.setattr(sys, "argv", ["agreement", *map(str, paths), *more])
    agreement.main()


def test_two_results_agree_within_ten_per_cent(monkeypatch, tmp_path, capsys):
    agree(monkeypatch, tmp_path, result(a=1.0, b=2.0, c=None), result(a=1.09, b=1.9, c=None))
    assert "largest difference is 9.0%" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        agree(monkeypatch, tmp_path, result(a=1.2, b=2.0), result(a=1.0, b=2.0))
    assert ended.value.code == 1
    assert capsys.readouterr().out.count("DISAGREES") == 1
    agree(monkeypatch, tmp_path, result(a=1.2), result(a=1.0), "--within", "0.25")


def test_one_lucky_run_of_the_reference_changes_no_ratio(monkeypatch, tmp_path):
    lucky = result(a=1.0)
    lucky["systems"][0]["seconds"] = [7.0, 1.0, 6.0]
    agree(monkeypatch, tmp_path, lucky, result(a=1.0))


def test_a_system_that_ran_once_disagrees(monkeypatch, tmp_path):
    for first, second in [(result(a=1.0), result(a=None)), (result(a=1.0), result()), (result(), result(a=1.0))]:
        with pytest.raises(SystemExit) as ended:
            agree(monkeypatch, tmp_path, first, second)
        assert ended.value.code == 1


def test_results_of_other_pairs_are_not_compared(monkeypatch, tmp_path, capsys):
    other = {**result(a=1.0), "data": {"sha256": "e", "pairs": 2}}
    with pytest.raises(SystemExit) as ended:
        agree(monkeypatch, tmp_path, result(a=1.0), other)
    assert ended.value.code == 2
    assert "different pairs" in capsys.readouterr().err


def test_steps_are_noted_and_told(tmp_path, capfd):
    path = tmp_path / "out" / "steps.json"
    assert steps.main([str(path), "one", sys.executable, "-c", "print('runs')"]) == 0
    assert steps.main([str(path), "two", sys.executable, "-c", "raise SystemExit(3)"]) == 3
    assert [(step["name"], step["exit_code"]) for step in steps.steps(path)] == [("one", 0), ("two", 3)]
    assert steps.main([str(path)]) == 0
    printed = capfd.readouterr().out
    assert "runs" in printed
    assert printed.splitlines()[-1].endswith("s  in all")
