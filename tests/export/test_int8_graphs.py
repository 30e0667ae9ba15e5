"""int8 graphs: what is quantized, what the codes stand for, and which candidate the gate takes."""

import numpy as np
import onnx
import onnx_ir
import onnxruntime as ort
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.encoder.read import read_encoder
from pairscore.export.errors import ParityError
from pairscore.export.model import LogitsModel
from pairscore.export.parity.gate import Trial, batch_difference, choose, undisturbed
from pairscore.export.parity.measure import open_unproven
from pairscore.export.quantization.calibration import CalibrationPairs, observe
from pairscore.export.quantization.int8 import candidates, products, quantize, rows_of_weights, sensitivities
from pairscore.export.reference import load_reference
from pairscore.export.variants import unmeasured
from pairscore.runtime.bundle.parity import ParityReport
from pairscore.runtime.engines.onnxruntime.session import input_types
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.stream.batching import plan_batches
from tests import corpus
from tests.checkpoints import FAMILIES

PAIRS = [(claim, evidence) for claim in corpus.SENTENCES[:8] for evidence in corpus.SENTENCES[8:20]]


def graph_of(exported, family="bert"):
    return exported(family).bundle / "onnx/model.onnx"


@pytest.fixture(scope="module")
def batches(exported):
    scorer = open_unproven(exported("bert").bundle, "fp32")
    pairs = scorer.tokenize(PAIRS)
    return [pairs.batch(rows) for rows in plan_batches(pairs.lengths, 512)]


def logits(model, batches):
    session = ort.InferenceSession(onnx_ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = input_types(session)
    return np.concatenate([session.run(None, batch.feeds(inputs))[0] for batch in batches])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_large_matrix_product_is_quantized(exported, family):
    graph = graph_of(exported, family)
    found = [each for each in products(onnx_ir.load(graph)) if each.inputs % 32 == 0]
    assert len(found) >= 12
    made, note = quantize(graph, 32)
    left = {each.name for each in products(made)}
    made = onnx_ir.to_proto(made)
    onnx.checker.check_model(made)
    kinds = [node.op_type for node in made.graph.node]
    assert kinds.count("MatMulNBits") == len(found)
    assert f"int8: {len(found)} matrix products in groups of 32" in note
    assert not left & {each.name for each in found}
    assert len(made.SerializeToString()) < graph.stat().st_size


def test_the_codes_stand_for_the_weights(exported, batches):
    """Against the unmodified graph with the weights that the codes stand for: what is left comes of activations."""
    made, _ = quantize(graph_of(exported), 32)
    tables = {name: weight.const_value.numpy() for name, weight in made.graph.initializers.items()}
    plain = onnx_ir.load(graph_of(exported))
    for product in products(plain):
        codes, scales = tables[f"{product.weight.name}.codes"], tables[f"{product.weight.name}.scales"]
        values = (codes.astype(np.float32) - 128) * scales.reshape(codes.shape[:2])[..., None]
        matrix = np.ascontiguousarray(values.reshape(len(codes), product.inputs).T)
        product.node.inputs[1].const_value = onnx_ir.tensor(matrix, name=product.weight.name)
    expected = logits(plain, batches)
    assert 0 < np.abs(logits(made, batches) - expected).max() < 0.05 * np.abs(expected).max()


def test_what_is_kept_and_what_does_not_divide_stays_in_fp32(exported):
    graph = graph_of(exported)
    first = products(onnx_ir.load(graph))[0]
    made, note = quantize(graph, 32, keep={first.name})
    assert next(each.name for each in products(made)) == first.name
    assert "1 left in fp32" in note
    same, note = quantize(graph, 128)
    assert len(products(same)) == len(products(onnx_ir.load(graph)))
    assert "int8: 0 matrix products in groups of 128 channels" in note


def test_a_last_group_is_filled_up_with_zeros(exported, batches):
    """40 and 72 channels in groups of 32: the codes beyond them stand for zero, and the logits are nearly the same."""
    odd = exported("bert", hidden_size=40, intermediate_size=72).bundle / "onnx/model.onnx"
    model = onnx_ir.load(odd)
    made, note = quantize(odd, 32)
    assert f"int8: {len(products(model))} matrix products in groups of 32" in note
    for product in products(model):
        codes = made.graph.initializers[f"{product.weight.name}.codes"].const_value.numpy()
        values = codes.reshape(len(codes), -1)
        assert (values[:, product.inputs :] == 128).all()
        assert values.shape[1] % 32 == 0
    expected = logits(model, batches)
    assert 0 < np.abs(logits(made, batches) - expected).max() < 0.1 * np.abs(expected).max()


@pytest.fixture(scope="module")
def model(exported):
    return LogitsModel(load_reference(open_checkpoint(str(exported("bert").checkpoint))).encoder)


def test_every_row_that_a_product_reads_is_seen(exported, model, batches):
    """By what the graph, which computes the last layer's first row alone, gives its products."""
    every = products(onnx_ir.load(graph_of(exported)))
    rows_of = rows_of_weights(model, graph_of(exported), read_encoder(model, 64))
    found = observe(model, rows_of.values(), batches)
    assert set(rows_of) == {each.weight.name for each in every}
    names = {each.node.inputs[0].name: rows_of[each.weight.name] for each in every}
    graph = onnx.load(graph_of(exported))
    graph.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, names))
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = input_types(session)
    for name, each in names.items():
        values = [session.run([name], batch.feeds(inputs))[0] for batch in batches]
        rows = np.concatenate([value.reshape(-1, value.shape[-1]) for value in values]).astype(np.float64)
        np.testing.assert_allclose(found[each].hessian, rows.T @ rows, rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(found[each].total, rows.sum(axis=0), rtol=1e-3, atol=1e-2)
        assert found[each].rows == len(rows)
    assert {rows.first_only for rows in rows_of.values()} == {True, False}


def test_sensitivities_come_largest_first(exported, batches):
    graph = graph_of(exported)
    found = sensitivities(graph, batches)
    assert set(found) == {each.name for each in products(onnx_ir.load(graph))}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    worst = next(iter(found))
    alone, _ = quantize(graph, 32, keep=found.keys() - {worst})
    moved = np.abs(logits(alone, batches) - logits(onnx_ir.load(graph), batches)).max()
    assert moved == pytest.approx(found[worst], rel=0.5)


def test_candidates_are_every_group_size_on_every_engine(exported, model, batches, tmp_path):
    graph = graph_of(exported)
    rows_of = rows_of_weights(model, graph, None)
    seen = observe(model, rows_of.values(), batches)
    found = list(candidates(graph, tmp_path, {name: seen[rows] for name, rows in rows_of.items()}))
    assert {each.engine for each in found} == {"onnxruntime", "openvino"}
    assert "groups of 32 on onnxruntime" in {each.name for each in found}
    for each in found:
        size = each.name.split()[2]
        assert each.settings == ({"DYNAMIC_QUANTIZATION_GROUP_SIZE": size} if each.engine == "openvino" else {})
        assert "weights rounded with GPTQ" in each.note


# The user's pairs -------------------------------------------------------------------------------------


def test_no_claim_is_fitted_and_judged():
    labels = tuple(number % 3 == 0 for number in range(len(PAIRS)))
    fitted, judged = CalibrationPairs(tuple(PAIRS), labels).split()
    assert not {claim for claim, _ in fitted.pairs} & {claim for claim, _ in judged.pairs}
    assert sorted(fitted.pairs + judged.pairs) == sorted(PAIRS)
    label_of = dict(zip(PAIRS, labels, strict=True))
    assert all(label_of[pair] == label for pair, label in zip(judged.pairs, judged.labels, strict=True))
    assert CalibrationPairs(tuple(PAIRS), labels).split() == (fitted, judged)


def test_one_claim_is_too_few():
    with pytest.raises(PairscoreError, match="fewer than 2 different claims"):
        CalibrationPairs((("a", "b"), ("a", "c"))).split()


# The gate ---------------------------------------------------------------------------------------------


def trial(name, speed, difference, *broken, mean=0.1):
    report = ParityReport(10, 0.1, mean, difference, 0.9995, None, ())
    from dataclasses import replace

    from pairscore.runtime.bundle.manifest import Variant

    variant = Variant("int8", ("onnx/model.onnx",), (), ("onnxruntime",), report, "here")
    return Trial(name, replace(variant, parity=report), speed, speed / 100, broken)


def test_the_fastest_that_passes_is_taken():
    trials = [trial("slow", 50, 0.01), trial("fast", 100, 0.05), trial("wrong", 900, 0.5, "spearman 0.9")]
    assert choose(trials, "int8").name == "fast"


def test_of_equally_fast_ones_the_most_exact_is_taken():
    """In the mean: the largest difference is that of a single pair."""
    trials = [trial("a", 100, 0.01, mean=0.05), trial("b", 98, 0.05, mean=0.01), trial("c", 90, 0.001, mean=0.001)]
    assert choose(trials, "int8").name == "b"


def test_without_one_that_passes_the_most_exact_is_named():
    trials = [trial("far", 100, 0.5, "spearman 0.9"), trial("near", 10, 0.2, "spearman 0.99 (promised 0.999)")]
    with pytest.raises(ParityError, match=r"the most exact is near: 10 pairs/s.*spearman 0\.99 .promised"):
        choose(trials, "int8")


def test_slow_moments_are_to_nobodys_disadvantage():
    """The machine is half as fast for two rounds of five, and in another one while the first alone computes."""
    seconds = np.outer([2, 2, 1, 1, 1], [1.0, 1.1])
    seconds[3, 0] = 3.0
    np.testing.assert_allclose(undisturbed(seconds), [1.0, 1.1])


def test_a_scorer_whose_scores_depend_on_their_neighbours_is_seen(exported, tmp_path):
    """ONNX Runtime's own dynamic int8 takes one activation scale for a whole batch."""
    bundle = exported("bert").bundle
    honest = open_unproven(bundle, "fp32")
    logits = honest.predict(PAIRS, activation="identity").reshape(-1, 1)
    assert batch_difference(honest, PAIRS, logits) <= 1e-5
    quantize_dynamic(graph_of(exported), tmp_path / "dynamic.onnx", weight_type=QuantType.QInt8)
    variant = unmeasured(bundle, "fp32", (graph_of(exported),), ("onnxruntime",))
    from dataclasses import replace

    dependent = open_unproven(bundle, "fp32", variant=replace(variant, files=(str(tmp_path / "dynamic.onnx"),)))
    logits = dependent.predict(PAIRS, activation="identity").reshape(-1, 1)
    assert batch_difference(dependent, PAIRS, logits) > 1e-5
