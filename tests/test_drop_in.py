"""Scorer takes what CrossEncoder takes: each keyword does the same, or an error says why it means nothing here."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator

from pairscore import PairscoreError, Scorer
from pairscore.runtime.stream.batching import plan_batches
from tests import corpus

PAIRS = [(claim, evidence) for claim in corpus.SENTENCES[:4] for evidence in corpus.SENTENCES[4:14]]


@pytest.fixture(scope="module", params=[1, 3])
def both(request, exported):
    """A scorer and the CrossEncoder that it takes the place of."""
    checkpoint, bundle = exported("roberta", labels=request.param)
    return Scorer.from_pretrained(bundle), CrossEncoder(str(checkpoint), device="cpu")


@pytest.fixture(scope="module")
def scorer(exported):
    return Scorer.from_pretrained(exported("bert").bundle)


def same(ours, theirs):
    assert type(ours) is type(theirs)
    assert ours.dtype == theirs.dtype
    assert tuple(ours.shape) == tuple(theirs.shape)
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), atol=1e-5)


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"batch_size": 7, "show_progress_bar": False},
        {"convert_to_tensor": True},
        {"convert_to_tensor": True, "convert_to_numpy": False},
        {"activation_fn": torch.nn.Identity()},
        {"activation_fn": torch.nn.Softsign()},
        {"activation_fn": lambda logits: logits * 2, "convert_to_tensor": True},
        {"activation_fn": torch.nn.Identity(), "prompt_name": None, "prompt": None, "device": None, "pool": None},
    ],
    ids=lambda keywords: " ".join(keywords) or "none",
)
@pytest.mark.parametrize("pairs", [PAIRS, PAIRS[0], []], ids=["many", "one", "none"])
def test_predict(both, keywords, pairs):
    ours, theirs = (each.predict(pairs, **keywords) for each in both)
    same(ours, theirs)


def test_predict_gives_a_list_of_tensors(both):
    ours, theirs = (each.predict(PAIRS, convert_to_numpy=False) for each in both)
    assert type(ours) is type(theirs) is list
    assert len(ours) == len(PAIRS)
    for first, second in zip(ours, theirs, strict=True):
        same(first, second)
    assert both[0].predict([], convert_to_numpy=False) == both[1].predict([], convert_to_numpy=False) == []


def test_softmax_comes_after_the_activation(both):
    scorer, encoder = both
    if len(scorer.labels) > 1:
        keywords = {"apply_softmax": True, "activation_fn": torch.nn.Sigmoid()}
        same(scorer.predict(PAIRS, **keywords), encoder.predict(PAIRS, **keywords))
    else:  # over one label there is nothing to share out
        same(scorer.predict(PAIRS, apply_softmax=True), scorer.predict(PAIRS))


def test_rank_takes_the_same(exported):
    checkpoint, bundle = exported("bert")
    documents = [evidence for _, evidence in PAIRS[:10]]
    keywords = {"batch_size": 3, "activation_fn": torch.nn.Identity(), "convert_to_tensor": True, "top_k": 4}
    ours = Scorer.from_pretrained(bundle).rank(PAIRS[0][0], documents, **keywords)
    theirs = CrossEncoder(str(checkpoint), device="cpu").rank(PAIRS[0][0], documents, **keywords)
    assert [hit["corpus_id"] for hit in ours] == [hit["corpus_id"] for hit in theirs]
    for first, second in zip(ours, theirs, strict=True):
        assert type(first["score"]) is torch.Tensor  # as of sentence-transformers 5; 6 makes floats of them
        assert float(first["score"]) == pytest.approx(float(second["score"]), abs=1e-5)


def test_the_batch_size_bounds_the_batches():
    lengths = np.full(20, 10)
    assert [len(rows) for rows in plan_batches(lengths, 100)] == [10, 10]
    assert [len(rows) for rows in plan_batches(lengths, 100, 8)] == [8, 8, 4]
    assert [len(rows) for rows in plan_batches(lengths, 100, 50)] == [10, 10]


def test_the_batch_size_reaches_the_engine(scorer, monkeypatch):
    sizes = []
    run = type(scorer.engine).run
    monkeypatch.setattr(
        type(scorer.engine), "run", lambda self, batch: (sizes.append(len(batch.input_ids)), run(self, batch))[1]
    )
    together = scorer.predict(PAIRS)
    assert max(sizes) > 2
    sizes.clear()
    np.testing.assert_allclose(scorer.predict(PAIRS, batch_size=2), together, atol=1e-6)
    assert max(sizes) <= 2


def test_the_progress_bar_is_on_standard_error(scorer, capfd):
    scorer.predict(PAIRS)
    assert capfd.readouterr() == ("", "")
    scorer.predict(PAIRS, show_progress_bar=True)
    out, errors = capfd.readouterr()
    assert (out, "Pairs" in errors, "100%" in errors) == ("", True, True)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"prompt_name": "query"}, r"prompt_name means nothing here \('query'\): its prompt"),
        ({"prompt": "query: "}, "prompt means nothing here"),
        ({"device": "cuda"}, r"device means nothing here .*from_pretrained\(BUNDLE, device=\.\.\.\)"),
        ({"pool": {}}, "pool means nothing here"),
        ({"chunk_size": 5}, "chunk_size means nothing here"),
        ({"batch_size": 0}, "batch_size 0 is no number of pairs"),
        ({"activation": "sigmoid", "activation_fn": torch.nn.Tanh()}, "two names of one thing"),
        ({"activation_fn": lambda logits: logits[:1]}, "activation_fn made .* it has to keep their shape"),
    ],
)
def test_what_means_nothing_is_an_error(scorer, keywords, message):
    with pytest.raises(PairscoreError, match=message):
        scorer.predict(PAIRS, **keywords)


def test_an_unknown_keyword(scorer):
    for error in (TypeError, PairscoreError):
        with pytest.raises(error, match="predict has no argument 'batchsize': did you mean batch_size"):
            scorer.predict(PAIRS, batchsize=3)
    with pytest.raises(PairscoreError, match="rank has no argument 'topk': did you mean"):
        scorer.rank("claim", ["evidence"], topk=3)


def test_arguments_by_the_names_and_places_of_every_release(scorer):
    expected = scorer.predict(PAIRS)
    for given in (
        scorer.predict(PAIRS, 4),
        scorer.predict(sentences=PAIRS),
        scorer.predict(inputs=PAIRS, batch_size=4),
    ):
        np.testing.assert_array_equal(given, expected)
    with pytest.raises(PairscoreError, match="as inputs or as sentences: give one"):
        scorer.predict(PAIRS, sentences=PAIRS)
    with pytest.raises(PairscoreError, match="as inputs or as sentences: give one"):
        scorer.predict()
    documents = [evidence for _, evidence in PAIRS[:10]]
    assert scorer.rank(PAIRS[0][0], documents, 5) == scorer.rank(PAIRS[0][0], documents)[:5]
    assert scorer.rank(PAIRS[0][0], documents, 2, True)[1]["text"] in documents


def test_without_torch(exported):
    """Tensors are refused with the remedy; an activation gets numpy arrays."""
    code = f"""
import sys
import numpy as np
from pairscore import PairscoreError, Scorer
scorer = Scorer.from_pretrained({str(exported("bert").bundle)!r})
pairs = [("a", "b"), ("c", "d")]
try: scorer.predict(pairs, convert_to_tensor=True)
except PairscoreError as error: assert "`import torch` first" in str(error), error
else: raise SystemExit("no error")
assert np.array_equal(scorer.predict(pairs, activation_fn=lambda x: x), scorer.predict(pairs, activation="identity"))
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_reranking_evaluator_accepts_a_scorer(exported):
    checkpoint, bundle = exported("bert")
    samples = [
        {"query": claim, "positive": corpus.SENTENCES[place : place + 2], "negative": corpus.SENTENCES[10:16]}
        for place, claim in enumerate(corpus.SENTENCES[:6])
    ]
    evaluator = CrossEncoderRerankingEvaluator(samples, name="claims", write_csv=False, show_progress_bar=False)
    ours = evaluator(Scorer.from_pretrained(bundle))
    theirs = evaluator(CrossEncoder(str(checkpoint), device="cpu"))
    assert ours == pytest.approx(theirs, abs=1e-9)
    assert 0 < ours["claims_map"] < 1
