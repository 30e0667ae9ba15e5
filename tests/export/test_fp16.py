"""fp16: half the weights, the promise of its tier, for every family that the main job exports."""

import shutil

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore import Scorer
from pairscore.runtime.bundle import parity
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.bundle.parity import Tier
from tests import corpus
from tests.checkpoints import FAMILIES
from tests.command_line import run

PAIRS = [(claim, evidence) for claim in corpus.SENTENCES[:6] for evidence in corpus.SENTENCES[6:20]]


@pytest.mark.parametrize("family", FAMILIES)
def test_fp16_keeps_its_promise(capsys, exported, tmp_path, family):
    checkpoint, bundle = exported(family)
    made = shutil.copytree(bundle, tmp_path / "bundle")
    # The logits of an untrained model lie so close together that rounding swaps some.
    arguments = ["export", checkpoint, made, "--precision", "fp16", "--min-spearman", 0.99, "--quiet"]
    code, _, errors = run(capsys, *arguments)
    assert (code, errors) == (0, "")
    variant = Bundle.open(made).manifest.variants["fp16"]
    unpadded = family != "modernbert"
    assert variant.files == (f"onnx/model_fp16{'_unpadded' if unpadded else ''}.onnx",)
    assert ("attention_mask" in variant.inputs) is not unpadded
    assert 0 < variant.parity.max_score_difference <= 0.03
    graph = onnx.load(made / variant.files[0])
    kinds = {weight.data_type for weight in graph.graph.initializer if len(weight.dims) == 2}
    assert onnx.TensorProto.FLOAT16 in kinds
    assert onnx.TensorProto.FLOAT not in kinds
    assert graph.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    ours = Scorer.from_pretrained(made, precision="fp16").predict(PAIRS)
    expected = Scorer.from_pretrained(made).predict(PAIRS)
    assert 0 < np.abs(ours - expected).max() <= 0.03


def test_ranks_are_judged_on_enough_pairs_only(capsys, exported, tmp_path, monkeypatch):
    checkpoint, bundle = exported("modernbert")
    made = shutil.copytree(bundle, tmp_path / "bundle")
    export = ["export", checkpoint, made, "--precision", "fp16", "--overwrite"]
    # More than any correlation can be.
    monkeypatch.setitem(parity.TIERS, "fp16", Tier(max_score_difference=0.03, min_spearman=2.0))
    code, _, errors = run(capsys, *export)
    assert (code, "ranks not judged on 48 pairs: give 200 or more with --pairs" in errors) == (0, True)
    rows = [(claim, text) for claim in corpus.SENTENCES for text in corpus.SENTENCES][:200]
    claims, evidence = map(list, zip(*rows, strict=True))
    pq.write_table(pa.table({"claim": claims, "evidence": evidence}), tmp_path / "pairs.parquet")
    code, _, errors = run(capsys, *export, "--pairs", tmp_path / "pairs.parquet")
    assert (code, "promised at least 2" in errors, "ranks not judged" in errors) == (1, True, False)
    # A bound of its own for differences asks nothing of the ranks.
    code, _, errors = run(capsys, *export, "--max-difference", 0.02)
    assert (code, "ranks not judged on 48 pairs" in errors) == (0, True)
