"""Classifiers on a decoder: no special tokens, the last token's row, and padding on the left."""

import json
import shutil

import numpy as np
import pytest
import torch

from pairscore import Scorer
from pairscore.export.api import export_bundle
from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.reference import load_reference
from pairscore.runtime.bundle.manifest import Bundle
from tests import corpus

PAIRS = [("", ""), *zip(corpus.SENTENCES[:20], corpus.SENTENCES[5:25], strict=True), ("", corpus.SENTENCES[0])]


@pytest.fixture(scope="module")
def made(checkpoint, tmp_path_factory):
    """A checkpoint that names no padding token, and its bundle with fp32 and fp16."""
    folder = tmp_path_factory.mktemp("decoder")
    source = shutil.copytree(checkpoint("qwen3"), folder / "checkpoint")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"pad_token_id": None}))
    export_bundle(str(source), folder / "bundle", precision="fp16")
    return checkpoint("qwen3"), folder / "bundle"


def test_logits_are_crossencoders(made):
    """With the empty pair among others, where CrossEncoder computes with the padding of the batch."""
    checkpoint, bundle = made
    reference = load_reference(open_checkpoint(str(checkpoint)))
    expected = reference.encoder.predict(PAIRS, activation_fn=torch.nn.Identity())
    for engine in Bundle.open(bundle).manifest.variants["fp32"].engines:
        ours = Scorer.from_pretrained(bundle, engine=engine).predict(PAIRS, activation="identity")
        assert np.abs(ours - expected).max() <= 1e-5
    assert np.abs(reference.logits(PAIRS)[:, 0] - expected).max() <= 1e-5


def test_an_empty_pair_scores_the_same_alone(made):
    scorer = Scorer.from_pretrained(made[1])
    assert scorer.predict([("", "")])[0] == pytest.approx(scorer.predict(PAIRS)[0], abs=1e-6)


def test_fp16_is_made_of_it(made):
    assert Bundle.open(made[1]).manifest.variants["fp16"].parity.max_score_difference <= 0.03
