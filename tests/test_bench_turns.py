"""Turns, what counts as fastest, and whether two results agree: with workers that take the time they are told to."""

import json
import sys

import numpy as np
import pytest

from pairscore.benchmarks import agreement, steps
from pairscore.benchmarks.throughput import MAX_MORE_ROUNDS, Run, Turn, disturbed, figures, ratio, take_turns
from pairscore.runtime.parity import TIERS


class FakeWorker:
    """`seconds`: of each run in turn, the last one forever. `shares`: what others take of the processors meanwhile."""

    def __init__(self, log, name, seconds, *, shares=(0.0,), warm_up_seconds=1.0, error=None):
        self.log, self.name, self.seconds, self.shares = log, name, seconds, shares
        self.warm_up_seconds, self.error, self.runs = warm_up_seconds, error, 0

    def run(self):
        place, self.runs = self.runs, self.runs + 1
        self.log.append(self.name)
        of = [values[min(place, len(values) - 1)] for values in (self.seconds, self.shares)]
        return one_run(*of)


def one_run(seconds, share=0.0):
    return Run(seconds, share, {}, 1, np.zeros((2, 1), np.float32))


def test_the_reference_runs_beside_every_system():
    log = []
    workers = {name: FakeWorker(log, name, [1.0]) for name in "RABC"}
    turns = take_turns(workers, 2, "R", pause=0)
    assert "".join(log) == "RABRCR" + "RBCRAR"
    assert {name: len(found) for name, found in turns.items()} == {"R": 4, "A": 2, "B": 2, "C": 2}


def test_a_ratio_takes_the_fastest_of_neighbours():
    """The reference takes 4, 2, 6, 8 s: A, next to 4 and then to 8, is compared with 4; B, next to 2 and 6, with 2."""
    log = []
    workers = {
        "R": FakeWorker(log, "R", [4.0, 2.0, 6.0, 8.0]),
        "A": FakeWorker(log, "A", [1.0, 2.0]),
        "B": FakeWorker(log, "B", [1.0, 0.5]),
    }
    turns = take_turns(workers, 2, "R", pause=0)
    assert "".join(log) == "RABRRBAR"
    assert [turn.reference.seconds for turn in turns["A"]] == [4.0, 8.0]
    assert [turn.reference.seconds for turn in turns["B"]] == [2.0, 6.0]
    assert ratio(turns["A"]) == 4.0
    assert ratio(turns["B"]) == 4.0


def test_a_slow_system_runs_once_and_one_that_failed_not_at_all():
    log = []
    workers = {
        "R": FakeWorker(log, "R", [1.0]),
        "slow": FakeWorker(log, "slow", [9.0], warm_up_seconds=4.1),
        "failed": FakeWorker(log, "failed", [1.0], error="no"),
    }
    turns = take_turns(workers, 3, "R", pause=0)
    assert [turn.round for turn in turns["slow"]] == [0]
    assert turns["failed"] == []
    assert max(turn.round for turn in turns["R"]) == 2


def test_disturbed_systems_alone_get_more_rounds():
    log = []
    workers = {
        "R": FakeWorker(log, "R", [1.0]),
        "quiet": FakeWorker(log, "quiet", [1.0]),
        "loud at first": FakeWorker(log, "loud at first", [1.0], shares=(0.5, 0.5, 0.0)),
        "loud": FakeWorker(log, "loud", [1.0], shares=(0.5,)),
    }
    turns = take_turns(workers, 2, "R", pause=0)
    assert len(turns["quiet"]) == 2
    assert len(turns["loud at first"]) == 4
    assert len(turns["loud"]) == 2 + MAX_MORE_ROUNDS
    assert all(disturbed(turn) for turn in turns["loud"])


def test_figures_tell_every_repeat():
    turns = [Turn(0, one_run(2.0), one_run(4.0)), Turn(1, one_run(1.0, 0.3), one_run(5.0))]
    pairs = [("claim", "one"), ("claim", "two")]
    logits = np.zeros((2, 1), np.float32)
    found = figures(turns, logits, pairs, tokens=20, activation="sigmoid", promise=TIERS["fp32"])
    assert found["seconds"] == [2.0, 1.0]
    assert found["reference_seconds"] == [4.0, 5.0]
    assert found["others_share"] == [0.0, 0.3]
    assert (found["pairs_per_second"], found["tokens_per_second"], found["ratio"]) == (2.0, 20.0, 4.0)
    assert found["disturbed"] == 1


def result(**ratios):
    systems = [{"name": "R", "ratio": 1.0}]
    systems += [
        {"name": name, **({"error": "no"} if value is None else {"ratio": value})} for name, value in ratios.items()
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
