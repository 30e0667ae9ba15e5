"""Several devices: every batch goes to one that is free, and the scores are those of a single device."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
import pytest

from pairscore import PairscoreError, Scorer
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.engines.registry import ENGINES, EngineSpec
from pairscore.runtime.engines.several_devices import SpreadEngine
from pairscore.runtime.job.options import JobOptions
from pairscore.runtime.job.run import run_job
from tests import corpus, gpu_fakes
from tests.pairs_files import write_pairs

BATCH = Batch(np.zeros(1, np.int64), np.zeros((1, 4), np.int64), np.zeros((1, 4), np.int64))
PAIRS = [(claim, text) for claim in corpus.SENTENCES[:8] for text in corpus.SENTENCES]


class Waiting:
    """Answers when it is told to. `most`: calls that it had in hand at once."""

    name, token_budget = "waiting", 100

    def __init__(self, device, callers):
        self.device, self.callers = device, callers
        self.go, self._lock = threading.Semaphore(0), threading.Lock()
        self.running = self.most = self.calls = 0

    def run(self, batch):
        with self._lock:
            self.calls += 1
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.go.acquire(timeout=60)
        with self._lock:
            self.running -= 1
        return np.full((1, 1), float(self.device[-1]), np.float32)


def test_a_device_is_given_no_more_than_it_can_take():
    devices = [Waiting("cuda:0", 1), Waiting("cuda:1", 2)]
    engine = SpreadEngine(devices)
    assert (engine.callers, engine.device, engine.name) == (3, "cuda:0,cuda:1", "waiting")
    with ThreadPoolExecutor(8) as callers:
        results = [callers.submit(engine.run, BATCH) for _ in range(9)]
        # Only the second is let go on: all that the first does not hold has to pass through it.
        for _ in range(8):
            devices[1].go.release()
        for _ in range(1000):
            if sum(result.done() for result in results) == 8:
                break
            threading.Event().wait(0.01)
        devices[0].go.release()
        found = sorted(float(result.result(timeout=60)[0, 0]) for result in results)
    assert found == [0.0] + [1.0] * 8
    assert [each.most for each in devices] == [1, 2]


def test_a_device_that_failed_once_is_asked_again():
    class Failing(Waiting):
        def run(self, batch):
            self.calls += 1
            raise ValueError(self.device)

    engine = SpreadEngine([Failing("cuda:0", 1)])
    for _ in range(3):
        with pytest.raises(ValueError, match="cuda:0"):
            engine.run(BATCH)


@pytest.fixture
def gpus(monkeypatch):
    """GPUs of which nothing but the name is true."""
    monkeypatch.setitem(ENGINES, "onnxruntime", EngineSpec("tests.gpu_fakes", "onnxruntime", ("cpu", "cuda")))
    gpu_fakes.opened.clear()
    return gpu_fakes.opened


def test_scores_are_those_of_one_device(exported, gpus):
    bundle = exported("bert").bundle
    expected = Scorer.from_pretrained(bundle, device="cuda:0").predict(PAIRS)
    gpus.clear()
    scorer = Scorer.from_pretrained(bundle, device="cuda:0,cuda:1", options=EngineOptions(token_budget=64))
    golden = [each.batches for each in gpus]
    assert [each.device for each in gpus] == ["cuda:0", "cuda:1"]
    assert min(golden) > 0  # each of them replayed the golden rows
    np.testing.assert_allclose(scorer.predict(PAIRS), expected, atol=1e-6)
    assert all(each.batches > before for each, before in zip(gpus, golden, strict=True))


def test_a_device_that_computes_something_else_is_an_error(exported, gpus, monkeypatch):
    honest = gpu_fakes.FakeGpu.run
    monkeypatch.setattr(
        gpu_fakes.FakeGpu, "run", lambda self, batch: honest(self, batch) + (0.1 if self.device == "cuda:1" else 0)
    )
    with pytest.raises(PairscoreError, match="does not reproduce its golden rows"):
        Scorer.from_pretrained(exported("bert").bundle, device="cuda:0,cuda:1")


def test_a_job_on_two_devices(exported, gpus, tmp_path):
    source = tmp_path / "pairs.parquet"
    table = write_pairs(source, 300)
    options = JobOptions(str(exported("bert").bundle), (str(source),), str(tmp_path / "out.parquet"), part_rows=50)
    summary = run_job(JobOptions(**{**vars(options), "device": "cuda:0,cuda:1"}))
    assert summary.device == "cuda:0,cuda:1"
    assert summary.figures.engine_callers == 2 * EngineOptions().streams
    scores = pq.read_table(tmp_path / "out.parquet")["score"].to_numpy()
    np.testing.assert_allclose(
        scores, Scorer.from_pretrained(exported("bert").bundle).score_table(table)["score"], atol=1e-6
    )
