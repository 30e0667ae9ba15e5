"""Peers in environments of their own: those that cannot run say why; infinity, by a module of our own."""

import os
from pathlib import Path

import numpy as np
import pytest

from pairscore.benchmarks.loaders import Files
from pairscore.benchmarks.systems import System, peers
from pairscore.benchmarks.throughput import Worker, Workers

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
        if not arguments.arguments["batch_size"]:
            raise ValueError("no such batch size")
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


def expected():
    return np.array([[len(claim) - len(evidence) / 100] for claim, evidence in PAIRS], np.float32)


def test_a_peer_that_cannot_run_here_says_so(files):
    with Workers(files, PAIRS) as workers:
        told = workers.start(next(each for each in peers() if each.name == "text-embeddings-inference"))
        assert told == "it is a Rust program, which no wheel carries"
        without = System("peer", "fp32", False, "fastembed", {"batch_size": 8}, "rerankers")
        assert workers.start(without) == "needs the environment of benchmarks/peers/rerankers.txt: `make bench-peers`"


def test_infinity_gets_all_claims_and_its_scores_keep_their_rows(files, tmp_path, monkeypatch):
    (tmp_path / "infinity_emb.py").write_text(INFINITY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.chdir(tmp_path)
    with Workers(files, PAIRS) as workers:
        worker = workers.start(System("infinity", "fp32", False, "infinity", {"batch_size": 8}))
        assert isinstance(worker, Worker), worker
        run = worker.run()
        assert run is not None, worker.error
        np.testing.assert_array_equal(run.logits, expected())
        rows = [5, 0, 3]
        again = worker.run(rows)
        assert again is not None
        np.testing.assert_array_equal(again.logits, expected()[rows])
    assert Path("stopped").exists()


def test_a_peer_that_does_not_load_says_why(files, tmp_path, monkeypatch):
    (tmp_path / "infinity_emb.py").write_text(INFINITY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with Workers(files, PAIRS) as workers:
        system = System("infinity", "fp32", False, "infinity", {"batch_size": 0})
        assert workers.start(system) == "ValueError: no such batch size"
