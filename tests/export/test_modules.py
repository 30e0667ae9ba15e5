"""Cross-encoders that are a stack of modules: the same scores as sentence-transformers', or a refusal by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

from pairscore import PairscoreError, Scorer
from pairscore.export.api import export_bundle
from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.model import load_model
from pairscore.export.modules import DENSE_ACTIVATIONS
from pairscore.runtime.bundle.manifest import Bundle
from tests import corpus
from tests.checkpoints import EXPORTED_BY, WIDTH, build_stack

PAIRS = [(claim, evidence) for claim in corpus.SENTENCES[::4] for evidence in [*corpus.SENTENCES[::5], ""]]
PROMISE = 1e-4


def scores_head(labels=1, width=WIDTH):
    return Dense(width, labels, activation_function=torch.nn.Identity(), module_output_name="scores")


def same_scores(checkpoint, bundle):
    """The bundle's scores, after comparing them with those of CrossEncoder."""
    encoder = CrossEncoder(str(checkpoint), device="cpu", model_kwargs={"torch_dtype": torch.float32})
    expected = encoder.predict(PAIRS)
    assert expected.std(axis=0).min() > 0.01  # or nothing would be compared
    scores = Scorer.from_pretrained(bundle).predict(PAIRS)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=PROMISE)
    return scores


@pytest.mark.parametrize("labels", [1, pytest.param(3, marks=pytest.mark.every_combination)])
def test_ettins_layout(exported, labels):
    checkpoint, bundle = exported("ettin", labels)
    assert len(list(checkpoint.glob("*_Dense/model.safetensors"))) == 2
    scores = same_scores(checkpoint, bundle)
    assert scores.shape == ((len(PAIRS),) if labels == 1 else (len(PAIRS), 3))
    manifest = Bundle.open(bundle).manifest
    assert manifest.labels == tuple(f"LABEL_{place}" for place in range(labels))
    assert manifest.activation == ("sigmoid" if labels == 1 else "identity")
    variant = manifest.variants["fp32"]
    assert "first row only: 5 matrix products on one row a pair" in variant.notes
    assert variant.notes[0].startswith("exported by PyTorch ")
    assert variant.engines == ("onnxruntime", "openvino")
    on_openvino = Scorer.from_pretrained(bundle, engine="openvino").predict(PAIRS)
    np.testing.assert_allclose(on_openvino, scores, rtol=0, atol=PROMISE)


def test_token_types_and_several_poolings(tmp_path):
    """BERT, the mean, the largest and the last of its tokens side by side, each text of a pair with its own type."""
    pooling = Pooling(WIDTH, ("max", "mean", "lasttoken"))
    head = [pooling, Normalize(), Dense(3 * WIDTH, WIDTH), scores_head(2)]
    checkpoint = build_stack("bert", tmp_path / "checkpoint", *head, activation_fn=torch.nn.Tanh(), layers=1)
    manifest = export_bundle(str(checkpoint), tmp_path / "bundle")
    assert manifest.variants["fp32"].inputs == ("input_ids", "attention_mask", "token_type_ids")
    assert manifest.activation == "tanh"
    same_scores(checkpoint, tmp_path / "bundle")


def test_a_prompt_stands_before_every_claim(tmp_path):
    prompts = {"check": "Is this claim true? "}
    checkpoint = build_stack(
        "roberta",
        tmp_path / "checkpoint",
        Pooling(WIDTH, "mean"),
        scores_head(),
        prompts=prompts,
        default_prompt_name="check",
        layers=1,
    )
    manifest = export_bundle(str(checkpoint), tmp_path / "bundle")
    assert manifest.prompt == "Is this claim true? "
    assert Bundle.open(tmp_path / "bundle").digest("fp32") != Bundle.open(_without_prompt(tmp_path)).digest("fp32")
    with pytest.raises(PairscoreError, match="which CrossEncoder puts before the first text"):
        export_bundle(str(checkpoint), tmp_path / "other", pair_order="evidence-claim")
    scores = same_scores(checkpoint, tmp_path / "bundle")
    named = json.loads((checkpoint / "config_sentence_transformers.json").read_text())
    (checkpoint / "config_sentence_transformers.json").write_text(json.dumps({**named, "default_prompt_name": None}))
    without = CrossEncoder(str(checkpoint), device="cpu").predict(PAIRS)
    assert np.abs(scores - without).max() > 0.01  # the prompt does change scores


def _without_prompt(folder):
    copy = shutil.copytree(folder / "bundle", folder / "copy")
    manifest = json.loads((copy / "pairscore.json").read_text())
    (copy / "pairscore.json").write_text(json.dumps({**manifest, "prompt": ""}))
    return copy


def test_a_checkpoint_that_sentence_transformers_6_saved(tmp_path):
    """In `tests/data`, with its own `predict`: made by `build_stack`, sentence-transformers 6.2, transformers 5.24."""
    saved = Path(__file__).parents[1] / "data/saved-by-sentence-transformers-6"
    rows = json.loads(saved.with_suffix(".json").read_text())
    export_bundle(str(saved), tmp_path / "bundle", exporter="torch")
    scores = Scorer.from_pretrained(tmp_path / "bundle").predict([(row["claim"], row["evidence"]) for row in rows])
    np.testing.assert_allclose(scores, [row["score"] for row in rows], rtol=0, atol=PROMISE)


@pytest.mark.parametrize("activation", DENSE_ACTIVATIONS)
def test_every_activation_of_a_dense_module(tmp_path, activation):
    dense = Dense(WIDTH, WIDTH, activation_function=getattr(torch.nn, activation)())
    checkpoint = build_stack("bert", tmp_path / "checkpoint", Pooling(WIDTH, "cls"), dense, scores_head(), layers=1)
    encoder = CrossEncoder(str(checkpoint), device="cpu")
    expected = encoder.predict(PAIRS[:8], activation_fn=torch.nn.Identity())
    features = encoder.tokenizer(*map(list, zip(*PAIRS[:8], strict=True)), padding=True, return_tensors="pt")
    model = load_model(open_checkpoint(str(checkpoint)))
    with torch.no_grad():
        logits = model(*(features[name] for name in model.inputs))
    np.testing.assert_allclose(logits[:, 0].numpy(), expected, atol=1e-5)


@pytest.mark.skipif("optimum" not in EXPORTED_BY, reason="sentence-transformers opens ONNX graphs through optimum")
def test_sentence_transformers_opens_the_bundle(exported):
    checkpoint, bundle = exported("ettin")
    opened = CrossEncoder(str(bundle), backend="onnx", device="cpu", model_kwargs={"provider": "CPUExecutionProvider"})
    expected = CrossEncoder(str(checkpoint), device="cpu").predict(PAIRS)
    np.testing.assert_allclose(opened.predict(PAIRS), expected, rtol=0, atol=PROMISE)


# What is refused ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(checkpoint, tmp_path):
    """A stack of its own that a test may damage."""
    return shutil.copytree(checkpoint("ettin"), tmp_path / "checkpoint")


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def module(folder, place, **changes):
    listed = json.loads((folder / "modules.json").read_text())
    listed[place].update(changes)
    (folder / "modules.json").write_text(json.dumps(listed))


def refused(folder, match):
    with pytest.raises(PairscoreError, match=match) as raised:
        open_checkpoint(str(folder))
    assert "\n" not in str(raised.value)


def test_code_of_its_own(folder):
    module(folder, 2, type="modeling.Own")
    refused(folder, r"code of its own \(module 'modeling\.Own' in modules\.json\), which is never run")


def test_a_module_that_cannot_be_exported(folder):
    module(folder, 2, type="sentence_transformers.sentence_transformer.modules.lstm.LSTM")
    refused(folder, r"the module LSTM \('2_Dense'\) of 'checkpoint' cannot be exported: those that can are")


def test_a_stack_that_begins_with_something_else(folder):
    module(folder, 0, type="sentence_transformers.base.modules.router.Router")
    refused(folder, "begins with the module Router")


def test_a_module_outside_of_the_checkpoint(folder):
    module(folder, 2, path="../2_Dense")
    refused(folder, r"the module Dense of 'checkpoint' is in '\.\./2_Dense', which is no folder of the checkpoint")


def test_an_embedding_model(folder):
    change(folder / "config_sentence_transformers.json", model_type="SentenceTransformer")
    refused(folder, "is a SentenceTransformer .*embeds single texts: give a cross-encoder")


def test_a_stack_without_scores(folder):
    change(folder / "4_Dense/config.json", module_output_name="sentence_embedding")
    refused(folder, "none of the modules .* writes scores")


@pytest.mark.parametrize("activation", ["torch.nn.modules.activation.GLU", "torch.hub.list", "own.Activation"])
def test_an_activation_that_is_not_of_the_list(folder, activation):
    change(folder / "2_Dense/config.json", activation_function=activation)
    refused(folder, f"the module '2_Dense' .* applies '{activation}': of torch.nn, only CELU, ELU, GELU")


def test_a_head_in_a_pickle_is_never_loaded(folder):
    (folder / "4_Dense/model.safetensors").rename(folder / "4_Dense/pytorch_model.bin")
    refused(folder, "the module '4_Dense' of 'checkpoint' has no model.safetensors, and pickles are never loaded")


def test_pairs_as_messages(folder):
    change(folder / "sentence_bert_config.json", modality_config={"message": {}})
    refused(folder, "reads pairs as message")


def test_a_tokenizer_called_in_another_way(folder):
    change(folder / "sentence_bert_config.json", processing_kwargs={"text": {"max_length": 8}})
    refused(folder, "processing_kwargs in sentence_bert_config.json")


def test_a_prompt_that_is_left_out_of_the_pooling(folder):
    change(folder / "1_Pooling/config.json", include_prompt=False)
    open_checkpoint(str(folder))  # there is no prompt
    prompt = {"prompts": {"query": "Is this true? "}, "default_prompt_name": "query"}
    change(folder / "config_sentence_transformers.json", **prompt)
    refused(folder, r"puts the prompt 'Is this true\? ' before every claim and leaves it out of its pooling")


def test_what_is_missing_would_be_random(folder):
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if name.endswith("layers.1.mlp.Wi.weight"))
    del weights[gone]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(PairscoreError, match=r"lacks 1 weights of its architecture \(layers\.1\.mlp\.Wi\.weight\)"):
        load_model(open_checkpoint(str(folder)))


def test_a_head_that_is_not_finite(folder):
    weights = load_file(folder / "4_Dense/model.safetensors")
    weights["linear.bias"][0] = float("nan")
    save_file(weights, folder / "4_Dense/model.safetensors")
    with pytest.raises(PairscoreError, match=r"weight 4\.linear\.bias of 'checkpoint' .*not finite"):
        load_model(open_checkpoint(str(folder)))


def test_the_digest_follows_the_head(folder):
    before = open_checkpoint(str(folder)).source.digest
    weights = load_file(folder / "4_Dense/model.safetensors")
    save_file({name: weight + 1 for name, weight in weights.items()}, folder / "4_Dense/model.safetensors")
    assert open_checkpoint(str(folder)).source.digest != before


def test_only_pytorchs_exporter_takes_a_stack(checkpoint, tmp_path):
    if "optimum" in EXPORTED_BY:
        match = "optimum's exporter takes no stack of modules: use exporter torch"
    else:
        match = "exporter optimum needs optimum-onnx, which is not installed"
    with pytest.raises(PairscoreError, match=match):
        export_bundle(str(checkpoint("ettin")), tmp_path / "bundle", exporter="optimum")
    assert not list(tmp_path.iterdir())
