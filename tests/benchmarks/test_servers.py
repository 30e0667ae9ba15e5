"""Peers that are servers: a router of our own for text-embeddings-inference, a module of our own for infinity."""

import os
from pathlib import Path

import numpy as np
import pytest

from pairscore.benchmarks.loaders import Files
from pairscore.benchmarks.systems import System, peers
from pairscore.benchmarks.throughput import Worker, Workers
from tests import router

# Claims of 1, 7 and 4 pieces of evidence, shuffled: more than a request may hold, and out of order.
PAIRS = [(f"{'claim' * count}", f"evidence{'!' * place}") for count in (1, 7, 4) for place in range(count)]
PAIRS = PAIRS[::2] + PAIRS[1::2]

INFINITY = """
import asyncio
from collections import namedtuple

Ranked = namedtuple("Ranked", "relevance_score document index")

class EngineArgs:
    def __init__(self, **arguments):
        self.arguments = arguments

class AsyncEmbeddingEngine:
    @classmethod
    def from_args(cls, arguments):
        if arguments.arguments["engine"] == "none":
            raise ValueError("no such engine")
        return cls()

    async def astart(self):
        self.running = True

    async def astop(self):
        open("stopped", "w").close()

    async def rerank(self, *, query, docs, raw_scores):
        assert self.running and raw_scores
        await asyncio.sleep(0)
        scores = [len(query) - len(text) / 100 for text in docs]
        ranked = sorted(range(len(docs)), key=lambda place: -scores[place])
        return [Ranked(scores[place], docs[place], place) for place in ranked], 0
"""


@pytest.fixture
def files(tmp_path):
    return Files(str(tmp_path), "", str(tmp_path), "")


def text_embeddings_inference() -> System:
    return next(each for each in peers() if each.name == "text-embeddings-inference")


def expected():
    return np.array([[router.score(claim, evidence)] for claim, evidence in PAIRS], np.float32)


def test_the_router_gets_requests_of_its_size_and_is_stopped(files, tmp_path, monkeypatch):
    log = router.install(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with Workers(files, PAIRS) as workers:
        worker = workers.start(text_embeddings_inference())
        assert isinstance(worker, Worker), worker
        run = worker.run()
        assert run is not None, worker.error
        np.testing.assert_array_equal(run.logits, expected())
        rows = [5, 0, 3]
        again = worker.run(rows)
        assert again is not None
        np.testing.assert_array_equal(again.logits, expected()[rows])
        assert "stopped" not in log.read_text()
    lines = log.read_text().splitlines()
    assert lines[-1] == "stopped"
    requests = [tuple(map(int, (line.split()[0], line.split()[2]))) for line in lines[:-1]]
    assert max(texts for texts, _ in requests) == router.MOST_TEXTS
    assert max(in_flight for _, in_flight in requests) > 1


def test_a_router_that_ends_says_why(files, tmp_path, monkeypatch):
    router.install(tmp_path, failure="sys.exit('cannot read the model')")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with Workers(files, PAIRS) as workers:
        assert workers.start(text_embeddings_inference()) == (
            "RuntimeError: text-embeddings-router ended with 1: cannot read the model"
        )


def test_without_the_router_the_system_says_so(files, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with Workers(files, PAIRS) as workers:
        assert "`text-embeddings-router` is not on PATH" in str(workers.start(text_embeddings_inference()))


@pytest.mark.parametrize("engine", ["torch", "optimum"])
def test_infinity_gets_all_claims_and_its_scores_keep_their_rows(files, tmp_path, monkeypatch, engine):
    (tmp_path / "infinity_emb.py").write_text(INFINITY)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx/model.onnx").touch()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.chdir(tmp_path)
    system = System("infinity", "fp32", False, "servers.infinity", {"engine": engine, "batch_size": 8})
    with Workers(files, PAIRS) as workers:
        worker = workers.start(system)
        assert isinstance(worker, Worker), worker
        run = worker.run()
        assert run is not None, worker.error
        np.testing.assert_array_equal(run.logits, expected())
    assert Path("stopped" if engine == "torch" else tmp_path / "infinity/stopped").exists()


def test_a_peer_that_does_not_load_says_why(files, tmp_path, monkeypatch):
    (tmp_path / "infinity_emb.py").write_text(INFINITY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with Workers(files, PAIRS) as workers:
        system = System("infinity", "fp32", False, "servers.infinity", {"engine": "none", "batch_size": 8})
        assert workers.start(system) == "ValueError: no such engine"
