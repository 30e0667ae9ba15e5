"""The unpadded graph: the same logits for batches of one length, or the graph as it was."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from pairscore.export.graphs.unpadded import unpadded

MAX_LENGTH = 64
FUSED = ("bert", "roberta", "xlm-roberta", "distilbert", "electra")
LEFT_ALONE = ("deberta-v2", "modernbert")


@pytest.fixture(scope="module")
def graphs(exported):
    """Family -> the exported graph, and a session on it and on its unpadded twin."""
    made = {}

    def make(family):
        if family not in made:
            model = onnx.load(exported(family).bundle / "onnx/model.onnx")
            rewritten = unpadded(model, MAX_LENGTH)
            made[family] = model, rewritten, *map(_session, (model, rewritten.model))
        return made[family]

    return make


@pytest.mark.parametrize("family", FUSED)
@settings(max_examples=15, deadline=None)
@given(pairs=st.integers(1, 5), length=st.integers(3, MAX_LENGTH), seed=st.integers(0, 2**32 - 1))
def test_logits_are_those_of_the_padded_graph(graphs, family, pairs, length, seed):
    _, _, padded, fused = graphs(family)
    random = np.random.default_rng(seed)
    feeds = {
        "input_ids": random.integers(5, 300, (pairs, length)),
        "attention_mask": np.ones((pairs, length), np.int64),
        "token_type_ids": np.sort(random.integers(0, 2, (pairs, length)), axis=1),
    }
    first, second = (
        each.run(None, {node.name: feeds[node.name] for node in each.get_inputs()})[0] for each in (padded, fused)
    )
    np.testing.assert_allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("family", FUSED)
def test_every_attention_is_fused_and_the_mask_gone(graphs, family):
    model, rewritten, _, _ = graphs(family)
    before, after = (Counter(node.op_type for node in each.graph.node) for each in (model, rewritten.model))
    assert after["MultiHeadAttention"] == before["Softmax"] > 0
    assert after["Softmax"] == 0
    assert "attention_mask" not in {value.name for value in rewritten.model.graph.input}
    assert "attention_mask" in {value.name for value in model.graph.input}  # the original was not touched
    assert rewritten.note == f"unpadded: {before['Softmax']} attentions fused, no mask, for batches of one length"


@pytest.mark.parametrize("family", FUSED)
def test_keys_and_values_have_no_bias_left(graphs, family):
    _, rewritten, _, _ = graphs(family)
    nodes = rewritten.model.graph.node
    producer = {node.output[0]: node.op_type for node in nodes}
    for node in nodes:
        if node.op_type == "MultiHeadAttention":
            assert [producer[name] for name in node.input] == ["Add", "MatMul", "MatMul"]


@pytest.mark.parametrize("family", LEFT_ALONE)
def test_an_attention_that_is_not_understood_is_left_alone(graphs, family):
    model, rewritten, _, _ = graphs(family)
    assert rewritten.model is model
    assert rewritten.note.startswith("unpadded: not applied, 0 of ")


def test_another_scale_is_not_taken_for_attention(graphs):
    model = onnx.ModelProto()
    model.CopyFrom(graphs("bert")[0])
    products = {node.output[0] for node in model.graph.node if node.op_type == "MatMul"}
    # By a division in transformers 4, by a multiplication in 5.
    scaled = [node for node in model.graph.node if node.op_type in ("Div", "Mul") and node.input[0] in products]
    model.graph.initializer.append(numpy_helper.from_array(np.float32(3.0), "another scale"))
    scaled[0].input[1] = "another scale"
    rewritten = unpadded(model, MAX_LENGTH)
    assert rewritten.model is model
    assert rewritten.note == "unpadded: not applied, 1 of 2 attentions were recognised"


def test_a_window_that_only_long_pairs_feel_is_noticed(graphs):
    """Scores of tokens more than 20 apart are lowered: the probes, of at most 13 tokens, cannot see it."""
    model = onnx.ModelProto()
    model.CopyFrom(graphs("bert")[0])
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    place = np.arange(MAX_LENGTH)
    window = np.where(np.abs(place[:, None] - place) > 20, -3.0, 0.0).astype(np.float32)
    for name, value in (("window", window), ("from", np.zeros(2, np.int64)), ("axes", np.arange(2))):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    model.graph.node.extend(
        [
            helper.make_node("Shape", [softmax.input[0]], ["sizes"], start=2),
            helper.make_node("Slice", ["window", "from", "sizes", "axes"], ["part"]),
            helper.make_node("Add", [softmax.input[0], "part"], ["windowed"]),
        ]
    )
    softmax.input[0] = "windowed"
    nodes = sorted(model.graph.node, key=lambda node: node.output[0] not in ("sizes", "part", "windowed"))
    nodes = _in_order(model, nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    rewritten = unpadded(model, MAX_LENGTH)
    assert rewritten.model is model
    assert rewritten.note.startswith("unpadded: not applied, logits would differ by ")


def _session(model):
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def _in_order(model, nodes):
    """Each node behind those that it needs."""
    known = {value.name for value in model.graph.input} | {value.name for value in model.graph.initializer} | {""}
    ordered = []
    while nodes:
        ready = [node for node in nodes if known.issuperset(node.input)]
        ordered += ready
        known.update(name for node in ready for name in node.output)
        nodes = [node for node in nodes if node not in ready]
    return ordered
