"""The native engine's plan: what is in it, and that the kernels compute with it what plain numpy does."""

from dataclasses import replace

import numpy as np
import pytest

from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.encoder.read import read_encoder
from pairscore.export.model import LogitsModel
from pairscore.export.quantization.calibration import observe
from pairscore.export.quantization.gptq import rotated
from pairscore.export.quantization.native import Recipe, fitting, plan, quantized, unfit
from pairscore.export.quantization.relative import quantized_positions
from pairscore.export.quantization.widths import widened
from pairscore.export.reference import load_reference
from pairscore.runtime.engines.batch import Batch
from tests.native import FAMILIES, MODERN, built_as, changes

kernels = pytest.importorskip("pairscore_kernels", reason="pairscore-kernels is not installed: pip install ./kernels")
reference = pytest.importorskip("pairscore_kernels.reference")
parse_plan = pytest.importorskip("pairscore_kernels.plan").parse_plan

RECIPES = (
    Recipe(0, 0, 0.0),
    Recipe(0, 0, 0.5),
    Recipe(32, 32, 0.5),
    Recipe(0, 16, 0.5),
    Recipe(0, 0, 0.5, 2, 4, narrow=True),
)


def batch(encoder, pairs, length, seed):
    random = np.random.default_rng(seed)
    ids = random.integers(5, len(encoder.words), (pairs, length), dtype=np.int32)
    if encoder.padding_id is not None:
        ids[0, 3] = encoder.padding_id  # a text that names the padding token
    types = random.integers(0, 1 if encoder.types is None else len(encoder.types), ids.shape, dtype=np.int32)
    return Batch(np.arange(pairs), ids, types)


def model_of(folder):
    return LogitsModel(load_reference(open_checkpoint(str(folder))).encoder)


@pytest.fixture(scope="module")
def fitted(checkpoint):
    """`fitted(family)`: an encoder, and what its products read in a run over random tokens."""
    done = {}

    def fit(family):
        if family not in done:
            model = model_of(checkpoint(built_as(family), **changes(family)))
            encoder = read_encoder(model, 64)
            batches = [batch(encoder, 8, length, length) for length in (9, 30, 55)]
            done[family] = encoder, observe(model, [each.input for _, each in encoder.products()], batches)
        return done[family]

    return fit


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
@pytest.mark.parametrize("family", [*FAMILIES, *MODERN, "deberta-v2"])
def test_the_kernels_compute_what_the_plan_says(fitted, family, recipe):
    encoder, seen = fitted(family)
    tensors = quantized(encoder, recipe, seen)
    described = plan(encoder, recipe)
    native = kernels.Encoder(described, tensors)
    given = batch(encoder, 12, 20, 7)
    ours = native.run(given.input_ids, given.token_type_ids)
    slow = reference.encode(parse_plan(described), tensors, given.input_ids, given.token_type_ids)
    exact = encoder.logits(given.input_ids, given.token_type_ids)
    # A value halfway between two codes may go either way in some pairs, and moves them by less than all codes do.
    assert np.quantile(np.abs(ours - slow), 0.25) <= 1e-4
    assert np.abs(ours - slow).max() <= max(1e-3, np.abs(slow - exact).max())
    # Random weights magnify a rounding in a pair or two.
    assert 0 < np.quantile(np.abs(ours - exact), 0.9) <= 0.25 * max(1.0, np.abs(exact).max())


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_weights_add_up_to_what_avx2_multiplies_fastest(fitted, recipe):
    encoder, seen = fitted("bert")
    tensors = quantized(encoder, replace(recipe, narrow=True), seen)
    weights = [each for each in tensors.values() if each.dtype == np.int8]
    assert len(weights) == len(list(encoder.products()))
    for each in weights:
        eights = each.reshape(-1, 8).astype(int)
        for fours in (eights[:, [0, 1, 4, 5]], eights[:, [2, 3, 6, 7]]):
            assert max(np.maximum(fours, 0).sum(axis=1).max(), np.maximum(-fours, 0).sum(axis=1).max()) <= 128
        assert np.abs(eights).max() > 80


def size_of(seen):
    """The root mean square of each channel."""
    return np.sqrt(np.diag(seen.hessian) / seen.rows)


def test_smoothing_moves_a_channels_size_into_the_weights(fitted):
    encoder, seen = fitted("bert")
    tensors = quantized(encoder, Recipe(0, 0, 0.5), seen)
    for name, linear in encoder.products():
        kind = name.rpartition(".")[2]
        smooth = tensors[name.replace(f".{kind}", ".query" if kind in ("key", "value") else f".{kind}") + ".smooth"]
        stands_for = tensors[f"{name}.weight"] * tensors[f"{name}.scale"][:, None] * smooth
        assert np.abs(stands_for - linear.weight).max() <= 0.2 * np.abs(linear.weight).max()
        if kind == "up":
            # After SmoothQuant 0.5 a channel is as large in the rows as in the weights.
            rows = size_of(seen[linear.input]) * smooth
            np.testing.assert_allclose(rows, np.linalg.norm(linear.weight / smooth, axis=0), rtol=1e-4)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_the_bias_makes_up_for_what_rounding_does_to_the_mean_row(fitted, recipe):
    encoder, seen = fitted("bert")
    tensors = quantized(encoder, recipe, seen)
    for name, linear in encoder.products():
        mean, kind = seen[linear.input].total / seen[linear.input].rows, name.rpartition(".")[2]
        smooth = name.replace(f".{kind}", ".query" if kind in ("key", "value") else f".{kind}") + ".smooth"
        row = rotated((mean * tensors.get(smooth, 1))[:, None], recipe.of(name)[1])[:, 0]
        codes, scales = tensors[f"{name}.weight"], tensors[f"{name}.scale"].reshape(len(linear.weight), -1)
        weights = codes * np.repeat(scales, codes.shape[1] // scales.shape[1], axis=1)
        expected = linear.weight @ mean + linear.bias
        np.testing.assert_allclose(weights @ row + tensors[f"{name}.bias"], expected, atol=2e-5)
        assert np.abs(weights @ row + linear.bias - expected).max() > 1e-4


def test_a_norm_before_a_product_smooths_its_rows(fitted):
    """So that the kernels need not; the first layer has no norm before its attention, and smooths as BERT's do."""
    encoder, seen = fitted("ettin")
    tensors = quantized(encoder, Recipe(0, 0, 0.5), seen)
    smooth = {name for name in tensors if name.endswith(".smooth")}
    whole = {f"layers.{number}.{name}.smooth" for number in range(4) for name in ("output", "down")}
    assert smooth == {"layers.0.query.smooth", *whole}
    norm, planned = encoder.layers[2].output_norm, tensors["layers.2.output_norm.weight"]
    rows = size_of(seen[encoder.layers[2].up.input]) * planned / norm.weight
    both = np.concatenate([encoder.layers[2].up.weight, encoder.layers[2].gate.weight])
    np.testing.assert_allclose(rows, np.linalg.norm(both * norm.weight / planned, axis=0), rtol=1e-4)


def test_the_plan_of_a_modernbert(fitted):
    encoder, seen = fitted("modernbert")
    described = plan(encoder, Recipe(0, 0, 0.5))
    assert (described["architecture"], described["pooling"]) == ("modernbert", "mean")
    assert described["windows"] == [0, 16, 16, 0]
    assert described["rotary"] == [0, 1, 1, 0]
    assert (described["positions"], described["head"][0]["norm_epsilon"]) == (64, pytest.approx(1e-5))
    tensors = quantized(encoder, Recipe(0, 0, 0.5), seen)
    assert tensors["rotary.1.cosines"].shape == (64, 16)
    np.testing.assert_allclose(np.arctan2(tensors["rotary.1.sines"], tensors["rotary.1.cosines"])[1, 0], 1)


def test_the_plan_of_a_deberta(fitted):
    encoder, seen = fitted("deberta-v2")
    described = plan(encoder, Recipe(0, 0, 0.5))
    assert (described["architecture"], described["token_types"], described["relative_positions"]) == ("deberta", 0, 32)
    tensors = quantized(encoder, Recipe(0, 0, 0.5), seen)
    assert "embeddings.positions" not in tensors
    rows = tensors["relative.rows"]
    # Of 16 positions on each side, 8 are of one distance each, and the last is that of 63 tokens.
    assert (rows[63 - 7 : 63 + 8] == np.arange(16 - 7, 16 + 8)).all()
    assert (rows[0], rows[-1], len(np.unique(rows))) == (1, 31, 31)
    for name, exact, scale in (
        ("key", encoder.layers[1].relative.key, 1),
        ("query", encoder.layers[1].relative.query, 4),
    ):
        codes, scales = (tensors[f"layers.1.position_{name}.{part}"] for part in ("weight", "scale"))
        stands_for = codes * np.repeat(scales, 16, axis=1) * scale
        wanted = exact - exact.mean(axis=0) if name == "key" else exact
        np.testing.assert_allclose(stands_for, wanted, atol=scale * scales.max() / 1.99)


def test_what_all_keys_share_meets_positions_exactly(fitted):
    """A key's bias times the query of a position is as without rounding."""
    encoder, _ = fitted("deberta-v2")
    relative, bias = encoder.layers[0].relative, np.linspace(-3, 9, 32, dtype=np.float32)
    made = quantized_positions(relative, bias, encoder.heads)
    rounded = made["position_query.weight"] * np.repeat(made["position_query.scale"], 16, axis=1) * bias
    exact = (relative.query / 4 * bias).reshape(-1, 2, 16).sum(axis=2)
    shared = rounded.reshape(-1, 2, 16).sum(axis=2)
    assert np.abs(shared - exact).max() > 1e-3 * np.abs(exact).max()
    np.testing.assert_allclose(shared + made["position_bias"], exact, rtol=1e-5, atol=1e-6)


def test_everything_but_the_products_is_exact(fitted):
    encoder, seen = fitted("electra")
    tensors = quantized(encoder, Recipe(0, 0, 0.5), seen)
    assert tensors["embeddings.words"] is encoder.words
    np.testing.assert_array_equal(tensors["embeddings.projection.weight"], encoder.projection.weight)
    np.testing.assert_array_equal(tensors["head.1.weight"], encoder.head[1].linear.weight)


def test_groups_and_rotations_are_tried_where_they_divide_the_channels(fitted, monkeypatch):
    """Of 32 and 64 channels: no group of 128 or 512, and blocks of 32 and 64."""
    monkeypatch.setenv("PAIRSCORE_ISA", "portable")
    assert fitting(fitted("bert")[0]) == [Recipe(0, 0, 0.5, 2, 4)]


@pytest.mark.skipif("avx2" not in kernels.available(), reason="needs AVX2")
def test_narrow_sums_are_tried_where_they_are_faster(fitted, monkeypatch):
    monkeypatch.setenv("PAIRSCORE_ISA", "avx2")
    wide, narrow = fitting(fitted("bert")[0])
    assert (wide.narrow, narrow.narrow) == (False, True)


ODD = (
    ("bert", {"hidden_size": 40, "num_attention_heads": 4, "intermediate_size": 72}),
    ("modernbert", {"hidden_size": 40, "num_attention_heads": 2, "intermediate_size": 72}),
    ("deberta-v2", {"hidden_size": 40, "num_attention_heads": 4, "intermediate_size": 72, "pooler_hidden_size": 40}),
)


@pytest.mark.parametrize(("family", "sizes"), ODD, ids=[family for family, _ in ODD])
def test_widths_that_no_vector_divides_are_filled_up_with_zeros(checkpoint, family, sizes):
    """The same logits from the wider formula; and from the kernels as far as int8 allows."""
    model = model_of(checkpoint(family, **sizes))
    encoder = read_encoder(model, 64)
    seen = observe(model, [each.input for _, each in encoder.products()], [batch(encoder, 8, 30, 1)])
    wide, read = widened(encoder, seen, 16)
    assert wide.hidden // wide.heads % 16 == wide.intermediate % 16 == 0
    given = batch(encoder, 12, 20, 7)
    exact = encoder.logits(given.input_ids, given.token_type_ids)
    np.testing.assert_allclose(wide.logits(given.input_ids, given.token_type_ids), exact, atol=2e-5, rtol=1e-5)
    if family == "modernbert":
        assert unfit(wide) == "the model has 40 columns of a norm in its head, which 16 does not divide"
        return
    assert unfit(wide) is None
    recipe = Recipe(0, 64, 0.5)
    tensors = quantized(wide, recipe, read)
    described = plan(wide, recipe)
    assert (described["hidden"], described["heads"] * described["head_columns"]) == (40, wide.hidden)
    ours = kernels.Encoder(described, tensors).run(given.input_ids, given.token_type_ids)
    slow = reference.encode(parse_plan(described), tensors, given.input_ids, given.token_type_ids)
    assert np.quantile(np.abs(ours - slow), 0.25) <= 1e-4
    assert 0 < np.quantile(np.abs(ours - exact), 0.9) <= 0.25 * max(1.0, np.abs(exact).max())


def test_a_recipe_says_what_its_products_take():
    assert str(Recipe(0, 0, 0.0)) == "whole rows"
    assert str(Recipe(128, 0, 0.0)) == "groups of 128 but whole rows in the feed-forward's second product"
    assert str(Recipe(0, 512, 0.0)) == "whole rows but groups of 512 in the feed-forward's second product"
