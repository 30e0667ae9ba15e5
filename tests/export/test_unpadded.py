"""The unpadded graph computes what its encoder does, for batches of one length."""

import numpy as np
import onnx
import onnx_ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.encoder.read import read_encoder
from pairscore.export.graphs.fp16 import unpadded
from pairscore.export.model import LogitsModel
from pairscore.export.reference import load_reference

MAX_LENGTH = 64
FUSED = ("albert", "bert", "roberta", "distilbert", "electra")


@pytest.fixture(scope="module")
def made(checkpoint):
    """`made(family)`: the encoder, its graph, and a session on it."""
    known = {}

    def make(family, **changes):
        key = (family, *changes)
        if key not in known:
            source = open_checkpoint(str(checkpoint(family, **changes)))
            encoder = read_encoder(LogitsModel(load_reference(source).encoder), MAX_LENGTH)
            graph = unpadded(encoder)
            graph = graph and onnx_ir.to_proto(graph)
            session = graph and ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
            known[key] = encoder, graph, session
        return known[key]

    return make


@pytest.mark.parametrize("family", FUSED)
@settings(max_examples=15)
@given(pairs=st.integers(1, 5), length=st.integers(1, MAX_LENGTH), seed=st.integers(0, 2**32 - 1))
def test_logits_are_those_of_the_formula(made, family, pairs, length, seed):
    encoder, _, session = made(family)
    random = np.random.default_rng(seed)
    ids = random.integers(0, len(encoder.words), (pairs, length), dtype=np.int32)
    if encoder.padding_id is not None:
        ids[0, length // 2] = encoder.padding_id  # a text that names the padding token
    types = np.sort(random.integers(0, 1 if encoder.types is None else len(encoder.types), ids.shape), axis=1)
    feeds = {"input_ids": ids.astype(np.int64), "token_type_ids": types.astype(np.int64)}
    logits = session.run(None, {node.name: feeds[node.name] for node in session.get_inputs()})[0]
    np.testing.assert_allclose(logits, encoder.logits(ids, types.astype(np.int32)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_other_activations(made, activation):
    encoder, _, session = made("bert", hidden_act=activation)
    ids = np.random.default_rng(0).integers(0, len(encoder.words), (3, 20), dtype=np.int32)
    feeds = {"input_ids": ids.astype(np.int64), "token_type_ids": np.zeros(ids.shape, np.int64)}
    np.testing.assert_allclose(session.run(None, feeds)[0], encoder.logits(ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FUSED)
def test_every_attention_is_one_operation_without_a_mask_or_biases_of_keys_and_values(made, family):
    encoder, graph, _ = made(family)
    onnx.checker.check_model(graph)
    producer = {node.output[0]: node.op_type for node in graph.graph.node}
    fused = [node for node in graph.graph.node if node.op_type == "MultiHeadAttention"]
    assert len(fused) == len(encoder.layers)
    assert {value.name for value in graph.graph.input} <= {"input_ids", "token_type_ids"}
    assert "Softmax" not in producer.values()
    for node in fused:
        assert [producer[name] for name in node.input] == ["Add", "MatMul", "MatMul"]


def test_the_last_layer_computes_the_first_row_alone(made):
    _, graph, _ = made("bert")
    first = next(node for node in graph.graph.node if node.output[0] == "first")
    # What reads all rows in the last layer: keys and values.
    reading = [node.output[0] for node in graph.graph.node if first.input[0] in node.input and node.op_type == "MatMul"]
    assert reading == ["1.key", "1.value"]


def test_fp16_rounds_the_weights_and_no_logit_to_infinity(checkpoint):
    source = open_checkpoint(str(checkpoint("bert")))
    encoder = read_encoder(LogitsModel(load_reference(source).encoder), MAX_LENGTH)
    encoder.layers[0].up.bias[0] = 1e6  # beyond fp16
    graph = onnx_ir.to_proto(unpadded(encoder, np.float16))
    kinds = {tensor.data_type for tensor in graph.graph.initializer}
    assert kinds == {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}
    assert all(np.isfinite(onnx.numpy_helper.to_array(tensor)).all() for tensor in graph.graph.initializer)


def test_windows_are_left_alone(made):
    assert made("modernbert")[1] is None
