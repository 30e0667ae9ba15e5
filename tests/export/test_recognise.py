"""Reading an encoder off a graph: every family and both exporters, exact weights, and what is refused and why."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.graphs.exporter import export_graph
from pairscore.export.graphs.recognise import NotRecognisedError, largest_difference, recognise
from pairscore.export.graphs.rewrites import rewrite_file
from pairscore.export.model import load_model
from tests.native import FAMILIES, MODERN, built_as, changes

MAX_LENGTH = 64


@pytest.fixture(scope="module")
def graph(exported):
    """`graph(family)`: the graph of a bundle, after the exact rewrites."""
    return lambda family: onnx.load(exported(built_as(family), **changes(family)).bundle / "onnx/model.onnx")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_formula_gives_what_pytorch_gives(exported, graph, family):
    encoder = recognise(graph(family), MAX_LENGTH)
    model = AutoModelForSequenceClassification.from_pretrained(exported(family, **changes(family)).checkpoint).eval()
    random = np.random.default_rng(1)
    ids = random.integers(5, len(encoder.words), (3, 40), dtype=np.int32)
    types = random.integers(0, 2, ids.shape, dtype=np.int32) * (encoder.types is not None and len(encoder.types) > 1)
    inputs = {"input_ids": torch.from_numpy(ids).long()}
    if types.any():
        inputs["token_type_ids"] = torch.from_numpy(types).long()
    with torch.inference_mode():
        expected = model(**inputs).logits.numpy()
    np.testing.assert_allclose(encoder.logits(ids, types), expected, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_the_checkpoints(exported, graph, family):
    encoder = recognise(graph(family), MAX_LENGTH)
    saved = [
        each.numpy()
        for each in load_file(exported(family, **changes(family)).checkpoint / "model.safetensors").values()
    ]
    matrices = [encoder.words, encoder.positions, *(linear.weight for _, linear in encoder.products())]
    matrices += [each.linear.weight for each in encoder.head]
    for matrix in matrices:
        assert any(matrix.shape == each.shape and np.array_equal(matrix, each) for each in saved)
    biases = [encoder.embedding_norm.bias, *(linear.bias for _, linear in encoder.products())]
    for bias in biases:
        assert any(bias.shape == each.shape and np.array_equal(bias, each) for each in saved)


def test_sizes_and_head_of_each_family(graph):
    found = {family: recognise(graph(family), MAX_LENGTH) for family in FAMILIES}
    for encoder in found.values():
        assert (len(encoder.layers), encoder.heads, encoder.hidden, encoder.intermediate) == (2, 2, 32, 64)
        assert (encoder.longest, encoder.activation) == (MAX_LENGTH, "gelu")
    heads = {family: [each.activation for each in encoder.head] for family, encoder in found.items()}
    assert heads == {
        "bert": ["tanh", "none"],
        "roberta": ["tanh", "none"],
        "xlm-roberta": ["tanh", "none"],
        "distilbert": ["relu", "none"],
        "electra": ["gelu", "none"],
    }
    types = {family: 0 if each.types is None else len(each.types) for family, each in found.items()}
    assert types == {"bert": 2, "roberta": 1, "xlm-roberta": 1, "distilbert": 0, "electra": 2}
    assert [found[family].padding_id for family in FAMILIES] == [None, 1, 1, None, None]
    assert found["electra"].projection.weight.shape == (32, 16)


def test_a_padding_token_within_a_text_takes_no_position(graph):
    encoder = recognise(graph("roberta"), MAX_LENGTH)
    assert encoder.position_ids(np.array([[7, 1, 8, 9]])).tolist() == [[2, 1, 3, 4]]
    assert largest_difference(graph("roberta"), encoder, [30]) <= 1e-5


@pytest.mark.parametrize("exporter", ["optimum", "torch"])
@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "modernbert-cls"])
def test_both_exporters_graphs_are_read_alike(exported, graph, tmp_path, exporter, family):
    pytest.importorskip({"optimum": "optimum.exporters.onnx", "torch": "onnxscript"}[exporter])
    written = written_graph(exported(built_as(family), **changes(family)).checkpoint, tmp_path, exporter)
    ours, other = recognise(graph(family), MAX_LENGTH), recognise(written, MAX_LENGTH)
    for (name, first), (_, second) in zip(ours.products(), other.products(), strict=True):
        np.testing.assert_array_equal(first.weight, second.weight, err_msg=name)


def written_graph(checkpoint, folder, exporter):
    files, _ = export_graph(load_model(open_checkpoint(str(checkpoint))), folder, exporter)
    rewrite_file(files[0])
    return onnx.load(files[0])


@pytest.mark.parametrize(
    ("activation", "name"), [("gelu_new", "gelu_tanh"), ("relu", "relu"), ("gelu_pytorch_tanh", "gelu_tanh")]
)
def test_the_activation_is_known_by_its_values(exported, activation, name):
    changed = exported("bert", **changes("bert"), hidden_act=activation)
    assert recognise(onnx.load(changed.bundle / "onnx/model.onnx"), MAX_LENGTH).activation == name


@pytest.mark.parametrize("family", MODERN)
def test_modernbert_is_read_with_its_windows_angles_and_head(exported, graph, family):
    encoder = recognise(graph(family), MAX_LENGTH)
    assert [each.window for each in encoder.modern] == [0, 16, 16, 0]
    assert [layer.attention_norm is None for layer in encoder.layers] == [True, False, False, False]
    assert encoder.pooling == ("mean" if family == "modernbert" else "first")
    assert [(each.activation, each.norm is not None) for each in encoder.head] == [("gelu", True), ("none", False)]
    assert (encoder.activation, encoder.longest, encoder.heads) == ("gelu", MAX_LENGTH, 1)
    for number, theta in enumerate((160_000, 10_000, 10_000, 160_000)):
        np.testing.assert_allclose(encoder.modern[number].frequencies, theta ** (-np.arange(16) / 16), rtol=1e-5)
    saved = load_file(exported(built_as(family), **changes(family)).checkpoint / "model.safetensors")
    for number, layer in enumerate(encoder.layers):
        ours = {"attn.Wqkv": [layer.query, layer.key, layer.value], "mlp.Wi": [layer.up, layer.modern.gate]}
        for name, parts in {**ours, "attn.Wo": [layer.output], "mlp.Wo": [layer.down]}.items():
            whole = next(value for key, value in saved.items() if key.endswith(f"layers.{number}.{name}.weight"))
            np.testing.assert_array_equal(np.concatenate([part.weight for part in parts]), whole.numpy())


@pytest.mark.parametrize("change", ["window", "frequencies", "gate"])
def test_what_was_misread_in_a_modernbert_shows_in_the_logits(graph, change):
    model = graph("ettin")
    encoder = recognise(model, MAX_LENGTH)
    assert largest_difference(model, encoder, [60]) <= 1e-5
    first, second, *rest = encoder.layers
    other = {"window": 18, "frequencies": second.modern.frequencies * np.float32(1.01), "gate": first.modern.gate}
    changed = replace(second, modern=replace(second.modern, **{change: other[change]}))
    assert largest_difference(model, replace(encoder, layers=(first, changed, *rest)), [60]) > 1e-4


def test_several_labels(exported):
    encoder = recognise(onnx.load(exported("bert", 3, **changes("bert")).bundle / "onnx/model.onnx"), MAX_LENGTH)
    assert len(encoder.head[-1].linear.weight) == 3


# What is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "changed", "reason"),
    [
        ("deberta-v2", {}, "relative positions"),
        (
            "modernbert",
            {"hidden_activation": "silu"},
            "the activation of layer 0 from the end, times a gate, is none of none",
        ),
        ("bert", {"hidden_act": "silu"}, "the activation of layer 1 is none of none, gelu"),
    ],
)
def test_another_model_is_refused_with_the_reason(exported, family, changed, reason):
    with pytest.raises(NotRecognisedError, match=reason):
        recognise(onnx.load(exported(family, **changed).bundle / "onnx/model.onnx"), MAX_LENGTH)


def test_fewer_positions_than_tokens_are_refused(graph):
    with pytest.raises(NotRecognisedError, match="has 64 positions, fewer than 65 tokens"):
        recognise(graph("bert"), MAX_LENGTH + 1)


def behind(model, kind, *, factor):
    """Multiply the output of the last node of this kind."""
    node = [each for each in model.graph.node if each.op_type == kind][-1]
    place = list(model.graph.node).index(node)
    model.graph.initializer.append(numpy_helper.from_array(np.array(factor, np.float32), "factor"))
    kept = node.output[0]
    node.output[0] = f"{kept}/before"
    model.graph.node.insert(place + 1, helper.make_node("Mul", [node.output[0], "factor"], [kept]))
    return model


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("LayerNormalization", "the head has LayerNormalization after a linear layer|does not end in a layer norm"),
        ("Gemm", "the activation of the head is none of"),
        ("Softmax", "1 of 2 attentions are softmax"),
    ],
)
def test_one_more_operation_is_seen(graph, kind, reason):
    with pytest.raises(NotRecognisedError, match=reason):
        recognise(behind(graph("bert"), kind, factor=1.5), MAX_LENGTH)


def test_what_was_misread_shows_in_the_logits(graph):
    """Another row of a table: the structure is the same, the logits are not."""
    model = graph("bert")
    encoder = recognise(model, MAX_LENGTH)
    assert largest_difference(model, encoder, [20]) <= 1e-5
    encoder.types[1] = encoder.types[1][::-1].copy()
    assert largest_difference(model, encoder, [20]) > 1e-3
