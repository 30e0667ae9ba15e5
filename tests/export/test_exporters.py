"""The seam between the two exporters: which is taken, and that both give graphs that the rest can use."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from pairscore import PairscoreError, Scorer
from pairscore.export.api import export_bundle
from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.graphs import editing
from pairscore.export.graphs import exporter as seam
from pairscore.export.graphs.exporter import choose_exporter, export_graph
from pairscore.export.model import load_model
from pairscore.export.variants import build_bf16
from tests import corpus
from tests.checkpoints import EXPORTED_BY
from tests.command_line import run

PAIRS = [(claim, evidence) for claim in corpus.SENTENCES[::6] for evidence in corpus.SENTENCES[::4]]


@pytest.fixture
def installed(monkeypatch):
    """`installed("onnxscript")`: as if only these distributions were."""

    def only(*distributions):
        monkeypatch.setattr(seam, "_found", lambda distribution: distribution in distributions)

    return only


def test_auto_takes_optimum_where_it_is_installed(installed):
    installed("optimum-onnx", "onnxscript")
    assert choose_exporter("auto") == choose_exporter("optimum") == "optimum"
    assert choose_exporter("auto", stack=True) == choose_exporter("torch") == "torch"
    installed("onnxscript")
    assert choose_exporter("auto") == "torch"


def test_what_is_not_installed_says_how_to_get_it(installed):
    installed("onnxscript")
    with pytest.raises(PairscoreError, match=r'needs optimum-onnx, .*`pip install "pairscore\[optimum\]"`'):
        choose_exporter("optimum")
    installed("optimum-onnx")
    with pytest.raises(PairscoreError, match=r'needs onnxscript, .*`pip install "pairscore\[export\]"`'):
        choose_exporter("torch")


def test_an_unknown_exporter(capsys, checkpoint, tmp_path):
    code, _, errors = run(capsys, "export", checkpoint("bert"), tmp_path / "bundle", "--exporter", "keras")
    assert (code, errors) == (2, "pairscore: error: unknown exporter 'keras': use auto, optimum, torch\n")


def test_the_test_environment_has_the_exporters_that_tests_go_by():
    """Without this, an environment that lost optimum would skip half of its tests and still be green."""
    has_optimum = subprocess.run(
        [sys.executable, "-c", "import optimum.exporters.onnx"], capture_output=True, check=False
    )
    assert ("optimum" in EXPORTED_BY) is (has_optimum.returncode == 0)


@pytest.mark.parametrize("name", EXPORTED_BY)
def test_every_exporter_gives_a_bundle_that_says_so(capsys, checkpoint, tmp_path, name):
    bundle = tmp_path / "bundle"
    code, _, errors = run(capsys, "export", checkpoint("bert"), bundle, "--exporter", name)
    assert code == 0
    assert f"Graph: exported by {'PyTorch' if name == 'torch' else 'optimum-onnx'} " in errors
    graph = onnx.load(bundle / "onnx/model.onnx")
    axes = {value.name: [axis.dim_param for axis in value.type.tensor_type.shape.dim] for value in graph.graph.input}
    assert list(axes) == ["input_ids", "attention_mask", "token_type_ids"]
    assert all(names == ["batch_size", "sequence_length"] for names in axes.values())
    assert [value.name for value in graph.graph.output] == ["logits"]
    scorer = Scorer.from_pretrained(bundle)
    assert np.ptp(scorer.predict(PAIRS)) > 0.05
    for engine in ("onnxruntime", "openvino"):
        ours = Scorer.from_pretrained(bundle, engine=engine).predict(PAIRS, activation="identity")
        np.testing.assert_allclose(ours, scorer.predict(PAIRS, activation="identity"), rtol=0, atol=1e-4)


def test_pytorchs_graph_is_fused_as_far_as_optimums(graph, tmp_path):
    """What ONNX Runtime makes of it: each GELU with its bias, each norm with the residual before it."""
    exported_by_torch = graph("torch", "bert")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(str(exported_by_torch), options, providers=["CPUExecutionProvider"])
    before, after = (
        [node.op_type for node in onnx.load(path).graph.node]
        for path in (exported_by_torch, tmp_path / "optimized.onnx")
    )
    assert (before.count("LayerNormalization"), before.count("Gelu")) == (5, 2)
    assert (after.count("SkipLayerNormalization"), after.count("BiasGelu"), after.count("Gelu")) == (4, 2, 0)


def test_pytorchs_graph_tells_nothing_of_this_machine(graph):
    content = graph("torch", "bert").read_bytes()
    for told in (b"site-packages", b".py", str(Path(sys.prefix)).encode(), b"stack_trace"):
        assert told not in content


def test_a_graph_that_is_too_large_for_one_file(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(editing, "LARGEST_GRAPH", 1000)
    model = load_model(open_checkpoint(str(checkpoint("bert", layers=1))))
    written, _ = export_graph(model, tmp_path / "onnx", "torch")
    assert [path.name for path in written] == ["model.onnx", "model.onnx_data"]
    assert sorted(path.name for path in (tmp_path / "onnx").iterdir()) == ["model.onnx", "model.onnx_data"]
    ort.InferenceSession(str(written[0]), providers=["CPUExecutionProvider"])
    assert build_bf16(None, tmp_path).files == ("onnx/model.onnx", "onnx/model.onnx_data")


def test_what_an_exporter_cannot_do_is_one_line(checkpoint, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no such\noperation")

    monkeypatch.setattr("torch.onnx.export", fail)
    with pytest.raises(
        PairscoreError, match=r"the exporter torch cannot export BertFor.* \(no such operation\): "
    ) as told:
        export_bundle(str(checkpoint("bert")), tmp_path / "bundle", exporter="torch")
    assert "or exporter optimum" in str(told.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("exporter", EXPORTED_BY)
def test_nothing_keeps_the_weights_of_an_exported_model(checkpoint, tmp_path, exporter):
    model = load_model(open_checkpoint(str(checkpoint("bert"))))
    weights = [weakref.ref(each) for each in model.parameters()]
    export_graph(model, tmp_path, exporter)
    del model
    gc.collect()
    assert [each for each in weights if each() is not None] == []
