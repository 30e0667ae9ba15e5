"""Figures of labels: worked out by hand, the same for a checkpoint and for its export, with clear refusals."""

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from pairscore import PairscoreError
from pairscore.training.evaluate import evaluate_labels
from pairscore.training.labels import LabelledPairs, label_figures, most_frequent, read_labelled
from tests.climate import rows, write

NAMES = ("LABEL_0", "LABEL_1", "LABEL_2")


def test_an_example_by_hand():
    """Six pairs: two of three "yes" right, both "no" right with one more taken for it, "never" never predicted."""
    labelled = LabelledPairs((("c", "e"),) * 6, ("yes", "yes", "yes", "no", "no", "never"))
    figures = label_figures("x", np.array([0, 0, 1, 1, 1, 0]), labelled, ("yes", "no", "never"))
    assert figures.accuracy == pytest.approx(4 / 6)
    assert figures.confusion == ((2, 1, 0), (0, 2, 0), (1, 0, 0))
    assert figures.f1 == pytest.approx({"yes": 4 / 6, "no": 4 / 5, "never": 0})  # 2 TP / (2 TP + FP + FN)
    assert figures.macro_f1 == pytest.approx((4 / 6 + 4 / 5) / 3)
    always = most_frequent(labelled, ("yes", "no", "never"))
    assert (always.system, always.accuracy) == ("always yes", 0.5)


@pytest.fixture(scope="module")
def labelled_file(tmp_path_factory):
    table = [{**row, "label": NAMES[place % 3]} for place, row in enumerate(rows(claims=10))]
    return write(tmp_path_factory.mktemp("labelled") / "dev.parquet", table)


@pytest.mark.parametrize("order", [None, "claim-evidence", "evidence-claim"])
def test_a_checkpoint_and_its_bundle_have_crossencoder_s_figures(exported, labelled_file, order):
    made = exported("bert", labels=3)
    labelled = read_labelled([labelled_file], "label", NAMES)
    pairs = [pair[::-1] if order == "evidence-claim" else pair for pair in labelled.pairs]
    model = CrossEncoder(str(made.checkpoint), model_kwargs={"torch_dtype": torch.float32})
    expected = np.argmax(model.predict(pairs), axis=1)
    theirs = evaluate_labels(str(made.checkpoint), [labelled_file], "label", pair_order=order)
    assert theirs.systems[1].accuracy == np.mean([NAMES[place] for place in expected] == np.array(labelled.labels))
    assert (theirs.pairs, theirs.claims) == (30, 10)
    if order is None:
        ours = evaluate_labels(str(made.bundle), [labelled_file], "label", name=str(made.checkpoint))
        assert ours == theirs


def test_what_cannot_be_evaluated_is_said(exported, labelled_file):
    one, three = exported("bert"), exported("bert", labels=3)
    cases = [
        ((str(one.bundle), [labelled_file], "label"), "has one label, which --label-column cannot"),
        ((str(one.checkpoint), [labelled_file], "label"), "has one label, which --label-column cannot"),
        ((str(three.bundle), [labelled_file], "evidence_label"), "row 0 has the label 'SUPPORTS', which is none of"),
        ((str(three.bundle), [labelled_file], "nope"), "has no column 'nope'"),
    ]
    for arguments, message in cases:
        with pytest.raises(PairscoreError, match=message):
            evaluate_labels(*arguments)
    with pytest.raises(PairscoreError, match="says its own order of the pair: leave out --pair-order"):
        evaluate_labels(str(three.bundle), [labelled_file], "label", pair_order="claim-evidence")
