"""The encoder of a live model: every family, exact weights, and what is refused and why."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.encoder.families import UnknownEncoderError
from pairscore.export.encoder.heads import FAMILIES as MAPPED
from pairscore.export.encoder.read import largest_difference, read_encoder
from pairscore.export.model import LogitsModel
from pairscore.export.reference import load_reference
from tests.native import FAMILIES, MODERN, built_as, changes

MAX_LENGTH = 64


@pytest.fixture(scope="module")
def loaded(checkpoint):
    """`loaded(family, **changes)`: the model of a checkpoint."""
    made = {}

    def load(family, labels=1, **others):
        key = (family, labels, *others.items())
        if key not in made:
            folder = checkpoint(built_as(family), labels, **(changes(family) | others))
            made[key] = LogitsModel(load_reference(open_checkpoint(str(folder))).encoder)
        return made[key]

    return load


def read(model):
    return read_encoder(model, MAX_LENGTH)


@pytest.mark.parametrize("family", [*FAMILIES, *MODERN, "albert", "deberta-v2"])
def test_the_formula_gives_what_pytorch_gives(loaded, family):
    """On other tokens than those that the proof takes."""
    model, random = loaded(family), np.random.default_rng(1)
    encoder = read(model)
    ids = random.integers(5, len(encoder.words), (3, 40), dtype=np.int32)
    types = random.integers(0, 2, ids.shape, dtype=np.int32) * ("token_type_ids" in model.inputs)
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}
    with torch.inference_mode():
        expected = model(*(torch.from_numpy(given[name]).long() for name in model.inputs)).numpy()
    np.testing.assert_allclose(encoder.logits(ids, types), expected, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_the_checkpoints(loaded, checkpoint, family):
    encoder = read(loaded(family))
    saved = [each.numpy() for each in load_file(checkpoint(family, **changes(family)) / "model.safetensors").values()]
    matrices = [encoder.words, encoder.positions, *(linear.weight for _, linear in encoder.products())]
    matrices += [each.linear.weight for each in encoder.head]
    biases = [encoder.embedding_norm.bias, *(linear.bias for _, linear in encoder.products())]
    for each in (*matrices, *biases):
        assert any(each.shape == other.shape and np.array_equal(each, other) for other in saved)


def test_weights_are_not_copied(loaded):
    model = loaded("bert")
    words = model.transformer.bert.embeddings.word_embeddings.weight
    assert np.shares_memory(read(model).words, words.detach().numpy())


def test_sizes_and_head_of_each_family(loaded):
    found = {family: read(loaded(family)) for family in FAMILIES}
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


def test_a_padding_token_within_a_text_takes_no_position(loaded):
    assert read(loaded("roberta")).position_ids(np.array([[7, 1, 8, 9]])).tolist() == [[2, 1, 3, 4]]


@pytest.mark.parametrize("family", ["bert", "modernbert-cls", "modernbert"])
def test_of_the_last_layer_only_keys_and_values_read_all_rows_where_the_head_reads_one(loaded, family):
    encoder = read(loaded(family))
    narrow = {name for name, linear in encoder.products() if linear.input.first_only}
    last = len(encoder.layers) - 1
    names = ("query", "output", "up", "down", *(["gate"] if encoder.modern else []))
    assert narrow == (set() if family == "modernbert" else {f"layers.{last}.{name}" for name in names})


@pytest.mark.parametrize(
    ("activation", "name"), [("gelu_new", "gelu_tanh"), ("relu", "relu"), ("gelu_pytorch_tanh", "gelu_tanh")]
)
def test_activations_have_one_name(loaded, activation, name):
    assert read(loaded("bert", hidden_act=activation)).activation == name


@pytest.mark.parametrize("family", MODERN)
def test_modernbert_is_read_with_its_windows_angles_and_head(loaded, checkpoint, family):
    encoder = read(loaded(family))
    assert [each.window for each in encoder.modern] == [0, 16, 16, 0]
    assert [layer.attention_norm is None for layer in encoder.layers] == [True, False, False, False]
    assert encoder.pooling == ("mean" if family == "modernbert" else "first")
    assert [(each.activation, each.norm is not None) for each in encoder.head] == [("gelu", True), ("none", False)]
    assert (encoder.activation, encoder.longest, encoder.heads) == ("gelu", MAX_LENGTH, 1)
    for number, theta in enumerate((160_000, 10_000, 10_000, 160_000)):
        np.testing.assert_allclose(encoder.modern[number].frequencies, theta ** (-np.arange(16) / 16), rtol=1e-5)


@pytest.mark.parametrize("change", ["window", "frequencies", "gate"])
def test_what_was_misread_in_a_modernbert_shows_in_the_logits(loaded, change):
    model = loaded("ettin")
    encoder = read(model)
    assert largest_difference(model, encoder, [60]) <= 1e-5
    first, second, *rest = encoder.layers
    other = {"window": 18, "frequencies": second.modern.frequencies * np.float32(1.01)}
    modern = replace(second.modern, **{change: other[change]}) if change in other else second.modern
    changed = replace(second, modern=modern, gate=first.gate if change == "gate" else second.gate)
    assert largest_difference(model, replace(encoder, layers=(first, changed, *rest)), [60]) > 1e-4


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"share_att_key": False},
        {"pos_att_type": ["c2p"]},
        {"pos_att_type": ["p2c"]},
        {"position_biased_input": True, "type_vocab_size": 2, "embedding_size": 16},
        {"position_buckets": -1, "norm_rel_ebd": "none"},
    ],
    ids=str,
)
def test_relative_positions_of_every_kind(checkpoint, changed):
    """With weights large enough to tell: as they are drawn, attention hardly depends on anything."""
    model = LogitsModel(load_reference(open_checkpoint(str(checkpoint("deberta-v2", **changed)))).encoder)
    with torch.no_grad():
        for name, weight in model.model.named_parameters():
            if "_proj" in name or "rel_embeddings" in name:
                weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    encoder = read(model)
    assert largest_difference(model, encoder, [40, 64]) <= 1e-5
    moved = replace(encoder, relative_rows=np.roll(encoder.relative_rows, 1))
    assert largest_difference(model, moved, [40]) > 1e-4


def test_several_labels(loaded):
    assert len(read(loaded("bert", 3)).head[-1].linear.weight) == 3


# What is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "changed", "reason"),
    [
        ("modernbert", {"hidden_activation": "silu"}, "its activation silu is not known"),
        ("bert", {"hidden_act": "silu"}, "its activation silu is not known"),
        ("deberta-v2", {"conv_kernel_size": 3}, "its first layer has a convolution"),
        ("deberta-v2", {"relative_attention": False}, "it has no relative positions"),
    ],
)
def test_another_model_is_refused_with_the_reason(loaded, family, changed, reason):
    with pytest.raises(UnknownEncoderError, match=reason):
        read(loaded(family, **changed))


def test_a_family_that_no_function_reads_is_named(loaded, monkeypatch):
    monkeypatch.delitem(MAPPED, "bert")
    with pytest.raises(UnknownEncoderError, match="bert is none of albert, camembert"):
        read(loaded("bert"))


def test_fewer_positions_than_tokens_are_refused(loaded):
    with pytest.raises(UnknownEncoderError, match="has 64 positions, fewer than 65 tokens"):
        read_encoder(loaded("bert"), MAX_LENGTH + 1)


def test_a_model_that_computes_something_else_is_refused(loaded):
    """One more operation behind a layer, which no name of a module shows."""
    model = loaded("bert")
    handle = model.transformer.bert.encoder.layer[0].register_forward_hook(
        lambda module, given, output: (output[0] * 1.5, *output[1:]) if isinstance(output, tuple) else output * 1.5
    )
    try:
        with pytest.raises(UnknownEncoderError, match="from those of the formula"):
            read(model)
    finally:
        handle.remove()
