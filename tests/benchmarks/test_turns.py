"""Turns and slices, what a run's seconds are, and whether two results agree."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscore.benchmarks import agreement
from pairscore.benchmarks.loaders import Files
from pairscore.benchmarks.systems import System
from pairscore.benchmarks.throughput import (
    LEAST_SLICE_SECONDS,
    MAX_MORE_ROUNDS,
    SLICES,
    Run,
    Slice,
    Worker,
    Workers,
    figures,
    processor_seconds_of_others,
    seconds_within,
    share_of_others,
    take_turns,
)  # fmt: skip
from pairscore.runtime.bundle.parity import TIERS

SECONDS = LEAST_SLICE_SECONDS * SLICES
ROWS = range(60)


class FakeWorker:
    """Logs a letter a slice. `seconds`: of each run in turn, in those that a run of shortest slices takes."""

    def __init__(self, log, name, *seconds, error=None):
        self.log, self.name, self.seconds, self.error = log, name, [each * SECONDS for each in seconds], error

    def run(self, rows):
        self.log.append(self.name.lower())
        return None if self.error else one_run(self.seconds[0] * len(rows) / len(ROWS))

    def slices(self, seconds, rows):
        assert rows == ROWS
        mine = self.seconds[0] if len(self.seconds) == 1 else self.seconds.pop(0)
        for _ in range(round(mine / seconds) - 1):
            self.log.append(self.name)
            yield
        self.log.append(self.name)
        return one_run(mine)


def one_run(seconds, share=0.0):
    return Run(seconds, share, {}, 1, np.zeros((2, 1), np.float32))


def test_systems_run_slice_by_slice_and_all_end_together():
    log = []
    workers = {name: FakeWorker(log, name, size) for name, size in zip("RAB", (2, 1, 0.5), strict=True)}
    turns = take_turns(workers, 2, "R", ROWS)
    half = SLICES // 2  # of B, whose slices may not get shorter
    assert "".join(log) == "rab" + "RAB" * half + "RA" * half + "ABR" * half + "AR" * half
    assert list(turns["A"]) == [0, 1]


def test_slow_systems_run_once_and_one_that_failed_not_at_all():
    workers = {
        "R": FakeWorker([], "R", 2.0),
        "slow": FakeWorker([], "slow", 3.0),
        "alike": FakeWorker([], "alike", 1.7),
        "fast": FakeWorker([], "fast", 1.5),
        "failed": FakeWorker([], "failed", 1.0, error="no"),
    }
    turns = take_turns(workers, 3, "R", ROWS)
    assert {name: list(found) for name, found in turns.items()} == {
        "R": [0, 1, 2], "slow": [0], "alike": [0], "fast": [0, 1, 2],
    }  # fmt: skip


@pytest.mark.parametrize("error", ["no", None])
def test_without_the_reference_there_are_no_turns(error):
    """Whether it fails as it warms up or later."""

    class Failing(FakeWorker):
        def slices(self, seconds, rows):
            yield
            self.error = "no"

    workers = {"R": Failing([], "R", 2.0, error=error), "A": FakeWorker([], "A", 1.0)}
    with pytest.raises(RuntimeError, match="the reference did not run: no"):
        take_turns(workers, 3, "R", ROWS)


def test_systems_whose_rounds_disagree_get_another_beside_the_reference():
    workers = {
        "R": FakeWorker([], "R", 2.0, 3.0, 2.0),
        "like the reference": FakeWorker([], "like the reference", 1.0, 1.52),
        "unsure": FakeWorker([], "unsure", 1.0, 1.6),
        "slow": FakeWorker([], "slow", 4.0),
    }
    turns = take_turns(workers, 2, "R", ROWS)
    assert {name: len(found) for name, found in turns.items()} == {
        "R": 2 + MAX_MORE_ROUNDS, "like the reference": 2, "unsure": 2 + MAX_MORE_ROUNDS, "slow": 1,
    }  # fmt: skip


def test_a_rate_is_the_mean_of_the_rounds_that_a_system_ran_in():
    reference = dict(enumerate(map(one_run, (4.0, 6.0, 50.0))))
    pairs = [("claim", "one"), ("claim", "two")]

    def told(*runs):
        return figures(dict(enumerate(runs)), reference, pairs, tokens=20, activation="sigmoid", promise=TIERS["fp32"])

    found = told(one_run(1.0), one_run(1.5, 0.3))
    assert found["seconds"] == [1.0, 1.5]
    assert found["others_share"] == [0.0, 0.3]
    assert (found["pairs_per_second"], found["tokens_per_second"]) == (1.6, 16.0)
    assert found["confirmed"]
    assert not told(one_run(1.0), one_run(1.4))["confirmed"]
    assert told(one_run(1.0))["confirmed"]


# A real process that multiplies matrices for some seconds a run.
METER = System(
    "meter", "fp32", False, "roofline.rates",
    {"library": "onnxruntime", "hidden": 64, "inner": 128, "threads": 1},
)  # fmt: skip


def starting():
    return Workers(Files("", "", "", ""), [("claim", "evidence")] * 60)


@pytest.fixture(scope="module")
def meter():
    with starting() as workers:
        worker = workers.start(METER)
        assert isinstance(worker, Worker)
        yield worker


def processor_ticks(process):
    return [int(number) for number in Path(f"/proc/{process}/stat").read_text().split()[13:15]]


def test_a_run_in_slices_stands_still_between_them_and_counts_none_of_it(meter):
    process = meter._process.pid
    started, stood, steps_made = time.monotonic(), 0.0, 0
    slices = meter.slices(0.1)
    while True:
        try:
            next(slices)
        except StopIteration as ended:
            run = ended.value
            break
        stopped, ticks = time.monotonic(), processor_ticks(process)
        time.sleep(0.05)
        assert processor_ticks(process) == ticks
        stood += time.monotonic() - stopped
        steps_made += 1
    assert steps_made > 5
    assert 0 < run.seconds <= time.monotonic() - started - stood
    whole = meter.run()
    assert whole.seconds > 0.5
    assert set(whole.statistics) == set(run.statistics)


def test_what_is_closed_while_it_stands_still_ends_at_once():
    with starting() as workers:
        worker = workers.start(METER)
        next(worker.slices(0.1))
    assert worker._process.returncode == -signal.SIGKILL


def test_a_process_whose_benchmark_was_killed_does_not_stay_behind():
    """The kernel hangs up a stopped group whose parent is gone."""
    program = """
from tests.benchmarks.test_turns import *
workers = starting()
worker = workers.start(METER)
next(worker.slices(0.1))
print(worker._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    process = int(ended.stdout)
    for _ in range(200):
        state = Path(f"/proc/{process}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    os.kill(process, signal.SIGKILL)
    pytest.fail("it stayed behind")


def test_the_time_of_others_leaves_out_that_of_a_process_itself(meter):
    """What this process takes counts for the meter, not for itself; what third ones take counts for both."""
    processes = (meter._process.pid, os.getpid())
    before = [processor_seconds_of_others(each) for each in processes]
    started = time.process_time()
    while time.process_time() - started < 0.5:
        pass
    for_meter, for_itself = (
        processor_seconds_of_others(each) - first for each, first in zip(processes, before, strict=True)
    )
    assert 0.3 < for_meter - for_itself < 0.7


@given(st.lists(st.integers(0, 60), min_size=2, max_size=12, unique=True), st.integers(0, 60), st.integers(0, 60))
def test_only_seconds_within_slices_count(ends, one, other):
    """Beside a count second by second."""
    slices = [Slice(began, ended) for began, ended in list(pairwise(sorted(ends)))[::2]]
    started, ended = sorted((one, other))
    counted = sum(any(each.began <= second < each.ended for each in slices) for second in range(started, ended))
    assert seconds_within(slices, started, ended) == counted


def test_the_share_of_others_is_that_within_slices():
    """In slices of 2 s and 1 s, others took 0.5 s and 1 s of each processor."""
    cores = os.cpu_count() or 1
    slices = [Slice(0.0, 2.0, 10.0, 10.0 + 0.5 * cores), Slice(7.0, 8.0, 30.0, 30.0 + cores)]
    assert share_of_others(slices) == pytest.approx(0.5)
    assert share_of_others([Slice(0.0, 2.0, 10.0, 9.9)]) == 0.0
    assert share_of_others([*slices, Slice(9.0, 10.0)]) is None


def result(**ratios):
    systems = [
        {"name": name, **({"error": "no"} if value is None else {"pairs_per_second": value})}
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
