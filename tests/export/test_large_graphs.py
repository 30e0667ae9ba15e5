"""Weights outside of the graph, as those of large models are: every rewrite, precision and engine as for small ones."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from pairscore import Scorer
from pairscore.export.api import export_bundle
from pairscore.export.graphs import editing, fp16
from pairscore.runtime.bundle.manifest import Bundle
from tests.native import LOOSE, PAIRS


@pytest.fixture(scope="module")
def made(checkpoint, tmp_path_factory):
    """A bundle with fp32, fp16 and int8, made as if 10 kB were more than a graph can hold."""
    bundle = tmp_path_factory.mktemp("large") / "bundle"
    source = str(checkpoint("bert"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(editing, "LARGEST_GRAPH", 10_000)
        patch.setattr(editing, "SMALLEST_OUTSIDE", 2_000)
        export_bundle(source, bundle, exporter="torch")
        export_bundle(source, bundle, precision="fp16")
        export_bundle(source, bundle, precision="int8", engine="onnxruntime", calibration=PAIRS, **LOOSE)
    return bundle


def test_the_weights_are_outside(made):
    variants = Bundle.open(made).manifest.variants
    assert variants["fp32"].files == ("onnx/model.onnx", "onnx/model.onnx_data")
    assert variants["fp16"].files == ("onnx/model_fp16_unpadded.onnx", "onnx/model_fp16_unpadded.onnx_data")
    # What stays in fp32 is shared with the fp32 graph.
    assert variants["int8"].files == ("onnx/model_int8.onnx", "onnx/model.onnx_data")
    assert (made / "onnx/model.onnx").stat().st_size < (made / "onnx/model.onnx_data").stat().st_size


def test_the_first_row_is_computed_alone(made):
    notes = Bundle.open(made).manifest.variants["fp32"].notes
    assert "first row only: 6 matrix products on one row a pair" in notes


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_scores_are_those_of_a_graph_that_holds_its_weights(exported, made, precision):
    expected = Scorer.from_pretrained(exported("bert").bundle).predict(PAIRS)
    ours = Scorer.from_pretrained(made, precision=precision).predict(PAIRS)
    assert np.abs(ours - expected).max() <= {"fp32": 1e-5, "fp16": 0.03, "int8": 0.3}[precision]


def test_a_graph_of_any_family_is_converted_to_fp16(made, tmp_path):
    graph = made / "onnx/model.onnx"
    converted = fp16._converted(graph)
    onnx.save(converted, tmp_path / "model.onnx")
    feeds = {name: np.ones((2, 9), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}

    def logits(path: Path) -> np.ndarray:
        return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)[0]

    np.testing.assert_allclose(logits(tmp_path / "model.onnx"), logits(graph), atol=0.02)
    assert onnx.TensorProto.FLOAT not in {each.data_type for each in converted.graph.initializer}
