"""What the tests themselves rest on: a bundle that is exact, and things that are built once."""

import multiprocessing
import time
from pathlib import Path

import numpy as np

from pairscore import Scorer
from tests import corpus

PAIRS = [(claim, evidence) for claim in corpus.SENTENCES[:6] for evidence in (*corpus.SENTENCES, *corpus.ODDITIES)]


def test_the_small_bundle_gives_the_same_bits_in_any_batch_and_engine(small_bundle):
    scorer = Scorer.from_pretrained(small_bundle())
    scores = scorer.predict(PAIRS)
    np.testing.assert_array_equal([scorer.predict(pair) for pair in PAIRS[::9]], scores[::9])
    np.testing.assert_array_equal(Scorer.from_pretrained(small_bundle(), engine="openvino").predict(PAIRS), scores)


def test_the_small_bundle_tells_pairs_apart(small_bundle):
    """Different texts get different scores, and so do claim and evidence in the other order, and another seed."""
    scorer = Scorer.from_pretrained(small_bundle())
    words = [(claim, evidence) for claim in corpus.SENTENCES[:8] for evidence in corpus.SENTENCES[8:]]
    scores = scorer.predict(words)
    assert len(set(scores.tolist())) > 0.95 * len(words)  # two sums may be equal by chance
    assert 0.1 < scores.std() < 0.4
    assert np.isin(scorer.predict([(second, first) for first, second in words]), scores).mean() < 0.05
    assert np.isin(Scorer.from_pretrained(small_bundle(seed=1)).predict(words), scores).mean() < 0.05


def test_several_processes_build_a_thing_once(built_once, tmp_path):
    def build(folder: Path) -> None:
        with (tmp_path / "log").open("a") as log:
            log.write("built\n")
        time.sleep(0.2)  # long enough for the other process to come
        (folder / "whole").write_text("")

    processes = multiprocessing.get_context("fork")
    barrier = processes.Barrier(2)

    def ask() -> None:
        barrier.wait(timeout=60)
        assert (built_once("a thing", build) / "whole").exists()

    started = [processes.Process(target=ask) for _ in range(2)]
    for each in started:
        each.start()
    for each in started:
        each.join()
    assert [each.exitcode for each in started] == [0, 0]
    assert (tmp_path / "log").read_text() == "built\n"
