"""A rewritten graph gives the logits of the unmodified one, from less work."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime as ort
import pytest

from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.graphs.exporter import export_graph
from pairscore.export.graphs.rewrites import first_row_only, rewrite_file
from pairscore.export.model import load_model
from tests.checkpoints import EXPORTED_BY, FAMILIES

# Matrix products of the last layer that see one row: query (not where one product makes query, key and value),
# attention scores and context (not where relative positions are gathered in between), three projections.
PRODUCTS = {"bert": 6, "roberta": 6, "xlm-roberta": 6, "distilbert": 6, "electra": 6, "deberta-v2": 3, "modernbert": 5}

# Exporter, family, graph, the graph after the rewrite, and what was done.
Graphs = tuple[str, str, onnx.ModelProto, onnx.ModelProto, str]


# PyTorch's exporter takes up to ten seconds a graph: one family of each build stands for those that resemble it.
BY_TORCH = ("bert", "distilbert", "modernbert")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            (exporter, family),
            marks=pytest.mark.every_combination if exporter == "torch" and family not in BY_TORCH else (),
            id=f"{exporter}-{family}",
        )
        for exporter in EXPORTED_BY
        for family in FAMILIES
    ],
)
def graphs(request: pytest.FixtureRequest, graph: Callable[..., Path]) -> Graphs:
    exporter, family = request.param
    changes = {"classifier_pooling": "cls"} if family == "modernbert" else {}
    model = onnx.load(graph(exporter, family, **changes))
    rewritten, note = first_row_only(model)
    return exporter, family, model, onnx_ir.to_proto(rewritten), note


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {value.name: feeds[value.name] for value in session.get_inputs()})[0]


def inputs(batch: int, length: int, seed: int, padded: bool) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    mask = np.ones((batch, length), dtype=np.int64)
    if padded:
        for row in range(batch):
            mask[row, int(random.integers(2, length + 1)) :] = 0
    types = (np.arange(length) >= length // 2).astype(np.int64)[None].repeat(batch, 0)
    return {
        "input_ids": random.integers(5, 200, size=(batch, length)) * mask,
        "attention_mask": mask,
        "token_type_ids": types,
    }


@pytest.mark.parametrize("padded", [False, True])
def test_same_logits(graphs: Graphs, padded: bool) -> None:
    _, _, model, rewritten, _ = graphs
    for seed, (batch, length) in enumerate([(1, 3), (1, 64), (2, 11), (5, 7), (4, 33), (7, 2)]):
        feeds = inputs(batch, length, seed, padded)
        np.testing.assert_allclose(run(rewritten, feeds), run(model, feeds), rtol=0, atol=1e-5)


def test_the_last_layer_computes_one_row(graphs: Graphs) -> None:
    """Counted on the tensors that the rewritten graph really makes, not on what the rewrite says."""
    exporter, family, model, rewritten, note = graphs
    assert f"{PRODUCTS[family]} matrix products" in note
    onnx.checker.check_model(rewritten, full_check=True)
    assert work(rewritten) < work(model)
    products = [node.op_type for node in rewritten.graph.node].count("MatMul")
    # Optimum's graphs of these two give other tensors the shape of the attention scores, so the whole scores stay too.
    twice = {"distilbert": 2, "modernbert": 4}.get(family, 0) if exporter == "optimum" else 0
    assert products == [node.op_type for node in model.graph.node].count("MatMul") + twice


def work(model: onnx.ModelProto, batch: int = 2, length: int = 20) -> int:
    """Rows times columns of every matrix product's result."""
    traced = onnx.ModelProto()
    traced.CopyFrom(model)
    names = [node.output[0] for node in model.graph.node if node.op_type == "MatMul"]
    traced.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = ort.InferenceSession(traced.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = inputs(batch, length, 0, padded=False)
    results = session.run(names, {value.name: feeds[value.name] for value in session.get_inputs()})
    return sum(result.size for result in results)


def test_the_model_given_is_left_alone(graphs: Graphs) -> None:
    _, _, model, *_ = graphs
    before = model.SerializeToString(deterministic=True)
    first_row_only(model)
    assert model.SerializeToString(deterministic=True) == before


def test_a_head_that_reads_all_tokens_is_left_alone(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    source = checkpoint("modernbert", classifier_pooling="mean")
    (path, *_), _ = export_graph(load_model(open_checkpoint(str(source))), tmp_path)
    before = path.read_bytes()
    assert rewrite_file(path) == ("first row only: not applied, no head that reads the first token was found",)
    assert path.read_bytes() == before


def test_forty_layers_are_narrowed_as_two_are(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    source = open_checkpoint(str(checkpoint("bert", layers=40)))
    (path, *_), _ = export_graph(load_model(source), tmp_path)
    assert rewrite_file(path) == ("first row only: 6 matrix products on one row a pair",)
