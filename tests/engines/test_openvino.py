"""OpenVINO runs the same graphs to the same scores, in the precision that was asked for."""

import numpy as np
import openvino
import pytest

from pairscore import PairscoreError, Scorer
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.openvino import OpenVinoEngine
from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.engines.registry import open_engine
from tests import corpus
from tests.checkpoints import FAMILIES

PAIRS = [(claim, evidence) for claim in corpus.SENTENCES[:6] for evidence in corpus.SENTENCES[4:20]]


def graph(exported):
    return exported("bert").bundle / "onnx/model.onnx"


# Its CPU plug-in refuses the conditional subgraphs of DeBERTa-v2.
RUNS = [family for family in FAMILIES if family != "deberta-v2"]


@pytest.mark.parametrize("family", RUNS)
def test_scores_are_those_of_onnx_runtime(exported, family):
    bundle = exported(family).bundle
    ours = Scorer.from_pretrained(bundle, engine="openvino")
    assert ours.engine.name == "openvino"
    expected = Scorer.from_pretrained(bundle, engine="onnxruntime").predict(PAIRS, activation="identity")
    assert np.abs(ours.predict(PAIRS, activation="identity") - expected).max() <= 1e-5


def test_an_export_leaves_out_an_engine_that_cannot_run_it(exported):
    manifest = Bundle.open(exported("deberta-v2").bundle).manifest
    variant = manifest.variants["fp32"]
    assert variant.engines == ("onnxruntime",)
    assert any(note.startswith("openvino left out: OpenVINO cannot open") for note in variant.notes)
    assert Bundle.open(exported("bert").bundle).manifest.variants["fp32"].engines == ("onnxruntime", "openvino")


def test_an_id_without_an_embedding_is_refused(exported):
    engine = OpenVinoEngine(graph(exported), "fp32", "cpu", EngineOptions())
    ids = np.array([[2, 9_999, 3]], np.int32)
    with pytest.raises(PairscoreError, match="token id 9999 has no embedding, of which there are "):
        engine.run(Batch(np.zeros(1, np.int64), ids, np.zeros_like(ids)))


def test_the_precision_is_pinned(exported):
    engine = OpenVinoEngine(graph(exported), "fp32", "cpu", EngineOptions())
    model = engine.model
    assert model.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert int(model.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE")) == 0


def test_a_variant_sets_the_group_size(exported):
    options = EngineOptions(settings={"DYNAMIC_QUANTIZATION_GROUP_SIZE": "64"})
    engine = OpenVinoEngine(graph(exported), "int8", "cpu", options)
    assert int(engine.model.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE")) == 64


def test_bf16_is_refused_where_the_processor_has_none(exported):
    has_bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if has_bf16:
        engine = OpenVinoEngine(graph(exported), "bf16", "cpu", EngineOptions())
        assert engine.model.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.bf16
    else:
        with pytest.raises(PairscoreError, match="this processor computes no bf16"):
            open_engine("openvino", graph(exported), "bf16", "cpu", ("openvino",))


@pytest.mark.parametrize(
    ("precision", "device", "message"),
    [("fp32", "cuda", "OpenVINO serves the CPU here, not device 'cuda'"), ("fp16", "cpu", "does not run fp16")],
)
def test_what_it_cannot_serve_is_refused(exported, precision, device, message):
    with pytest.raises(PairscoreError, match=message):
        open_engine("openvino", graph(exported), precision, device, ("openvino",))


def test_a_broken_graph_is_one_line(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(PairscoreError, match="OpenVINO cannot open") as caught:
        open_engine("openvino", tmp_path / "model.onnx", "fp32", "cpu", ("openvino",))
    assert "\n" not in str(caught.value)
