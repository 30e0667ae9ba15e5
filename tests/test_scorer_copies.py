"""A scorer that travels: pickled, opened again in other processes, closed at the end of a block."""

import multiprocessing
import pickle
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.scorer import Scorer
from tests.pairs_files import pairs_table

PAIRS = [("The sea rises.", "Tide gauges show a rise."), ("Ice melts.", "Glaciers shrink.")]


@pytest.fixture
def bundle(small_bundle):
    return small_bundle()


def test_a_pickled_scorer_opens_its_bundle_again(bundle, monkeypatch):
    monkeypatch.chdir(bundle.parent)
    scorer = Scorer.from_pretrained(
        bundle.name, max_length=16, options=EngineOptions(threads=1, token_budget=128), activation="identity"
    )
    pickled = pickle.dumps(replace(scorer, window_pairs=7))
    monkeypatch.chdir("/")
    copy = pickle.loads(pickled)
    assert (copy.max_length, copy.window_pairs, copy.engine.token_budget, copy.engine.name) == (
        16,
        7,
        128,
        "onnxruntime",
    )
    assert copy.predict(PAIRS).tolist() == scorer.predict(PAIRS).tolist()
    assert pickle.loads(pickle.dumps(copy)).predict(PAIRS).tolist() == scorer.predict(PAIRS).tolist()


def test_another_process_scores_with_a_pickled_scorer(bundle):
    scorer = Scorer.from_pretrained(bundle)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(scorer.predict, (PAIRS,)).tolist() == scorer.predict(PAIRS).tolist()


def test_a_bundle_that_changed_since_is_refused(bundle, small_bundle, tmp_path):
    moved = shutil.copytree(bundle, tmp_path / "bundle")
    pickled = pickle.dumps(Scorer.from_pretrained(moved))
    shutil.rmtree(moved)
    with pytest.raises(PairscoreError, match="no bundle at"):
        pickle.loads(pickled)
    shutil.copytree(small_bundle(seed=1), moved)
    with pytest.raises(PairscoreError, match="has changed since this scorer was pickled"):
        pickle.loads(pickled)


def test_a_scorer_is_closed_at_the_end_of_its_block(bundle):
    with Scorer.from_pretrained(bundle) as scorer:
        assert len(scorer.predict(iter(PAIRS))) == 2
    with pytest.raises(PairscoreError, match="was closed at the end of its `with` block"):
        scorer.predict(PAIRS)


def test_an_arrow_dataset_is_scored(bundle, tmp_path):
    table = pairs_table(20)
    pq.write_table(table, tmp_path / "a.parquet")
    scorer = Scorer.from_pretrained(bundle)
    scored = scorer.score_batches(ds.dataset(tmp_path / "a.parquet")).read_all()
    assert scored.equals(scorer.score_table(table))
    assert scorer.predict(pa.table(table)).tolist() == scored["score"].to_pylist()
