"""Real exports of seven families: what the runtime and the peers make of the bundle is what PyTorch gives."""

import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from sentence_transformers import CrossEncoder
from transformers import AutoTokenizer

from pairscore import PairscoreError, Scorer
from pairscore.export.api import export_bundle
from pairscore.export.build import GOLDEN_ROWS, GOLDEN_TOKENS
from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.errors import ParityError
from pairscore.export.parity.builtin_pairs import builtin_pairs
from pairscore.export.parity.measure import ParitySet, check_parity
from pairscore.export.parity.verify import verify
from pairscore.export.reference import load_reference
from pairscore.runtime.bundle.manifest import Bundle, Manifest, sha256
from pairscore.runtime.describe import describe, description_lines
from tests import corpus
from tests.checkpoints import EXPORTED_BY, FAMILIES, build_checkpoint, scale_weights

# None of these is in the built-in parity set; long ones are cut in the claim, in the evidence and in both.
TEXTS = [*corpus.SENTENCES[::3], *corpus.ODDITIES, " ".join(corpus.SENTENCES[:12])]
PAIRS = [(claim, evidence) for claim in TEXTS[::3] for evidence in TEXTS]
PROMISE = 1e-4
with_optimum = pytest.mark.skipif("optimum" not in EXPORTED_BY, reason="optimum is not installed")
# Two heads of three labels stand for all: those of the other families differ from them as with one label.
LABELS = {family: 3 if family in ("bert", "roberta") else 1 for family in FAMILIES}
HEADS = [
    *((family, 1) for family in FAMILIES),
    *(
        pytest.param(family, 3, marks=() if LABELS[family] == 3 else pytest.mark.every_combination)
        for family in FAMILIES
    ),
]


@pytest.mark.parametrize(("family", "labels"), HEADS)
def test_scores_are_those_of_pytorch(exported, family, labels):
    checkpoint, bundle = exported(family, labels)
    scorer, encoder = Scorer.from_pretrained(bundle), CrossEncoder(str(checkpoint), device="cpu")
    expected = encoder.predict(PAIRS, activation_fn=torch.nn.Identity())
    assert expected.std(axis=0).min() > 0.05  # or nothing would be compared
    logits = scorer.predict(PAIRS, activation="identity")
    assert logits.shape == expected.shape
    np.testing.assert_allclose(logits, expected, rtol=0, atol=PROMISE)
    np.testing.assert_allclose(scorer.predict(PAIRS), encoder.predict(PAIRS), rtol=0, atol=PROMISE)


@pytest.mark.parametrize("family", FAMILIES)
def test_manifest_says_what_crossencoder_resolves(exported, family):
    labels = LABELS[family]
    checkpoint, bundle = exported(family, labels)
    manifest = Bundle.open(bundle).manifest
    assert manifest.source.name == checkpoint.name
    assert manifest.source.digest == sha256(checkpoint / "model.safetensors")
    assert manifest.source.revision is None
    assert manifest.model_type == json.loads((checkpoint / "config.json").read_text())["model_type"]
    assert manifest.labels == tuple(f"LABEL_{place}" for place in range(labels))
    assert manifest.activation == ("sigmoid" if labels == 1 else "identity")
    assert (manifest.max_length, manifest.truncation_side) == (64, "right")
    assert manifest.pad_token_id == AutoTokenizer.from_pretrained(checkpoint).pad_token_id
    assert {"torch", "transformers", "onnx", "tokenizers", "pairscore"} <= manifest.versions.keys()
    variant = manifest.variants["fp32"]
    assert "attention_mask" in variant.inputs or variant.notes  # a graph without a mask says so
    assert variant.parity.pairs == len(builtin_pairs(64))
    assert 0 < variant.parity.max_logit_difference <= PROMISE
    assert variant.measured_on


@pytest.mark.parametrize("family", FAMILIES)
def test_every_file_has_its_digest(exported, family):
    bundle = exported(family).bundle
    manifest = Bundle.open(bundle).manifest
    on_disk = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert on_disk == {*manifest.files, "pairscore.json"}
    assert {"config.json", "tokenizer.json", "tokenizer_config.json", "onnx/model.onnx", "golden.json"} <= on_disk
    assert all(sha256(bundle / name) == digest for name, digest in manifest.files.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_golden_rows_hold_what_the_tokenizer_and_pytorch_give(exported, family):
    checkpoint, bundle = exported(family)
    golden = Bundle.open(bundle).golden_rows()
    assert len(golden.claims) == GOLDEN_ROWS
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    encoded = tokenizer(list(golden.claims), list(golden.evidence), truncation=True, max_length=64)["input_ids"]
    assert [list(ids) for ids in golden.input_ids] == encoded
    assert max(map(len, encoded)) == 64  # a truncated pair is among them
    assert "" in golden.claims
    assert "" in golden.evidence
    expected = CrossEncoder(str(checkpoint), device="cpu").predict(
        list(zip(golden.claims, golden.evidence, strict=True)), activation_fn=torch.nn.Identity()
    )
    np.testing.assert_allclose(golden.logits[:, 0], expected, rtol=0, atol=1e-5)


def test_golden_rows_are_few_and_one_of_them_is_truncated(exported):
    golden = Bundle.open(exported("bert", 1, 512).bundle).golden_rows()
    lengths = [len(ids) for ids in golden.input_ids]
    assert max(lengths) == 512
    assert sum(lengths) <= GOLDEN_TOKENS
    assert len(lengths) == GOLDEN_ROWS


@with_optimum
@pytest.mark.parametrize("family", FAMILIES)
def test_sentence_transformers_opens_the_bundle(exported, family):
    checkpoint, bundle = exported(family)
    pairs = PAIRS[:40]
    opened = CrossEncoder(str(bundle), backend="onnx", device="cpu", model_kwargs={"provider": "CPUExecutionProvider"})
    expected = CrossEncoder(str(checkpoint), device="cpu").predict(pairs)
    np.testing.assert_allclose(opened.predict(pairs), expected, rtol=0, atol=PROMISE)


@with_optimum
@pytest.mark.parametrize("family", FAMILIES)
def test_optimum_opens_the_bundle(exported, family):
    from optimum.onnxruntime import ORTModelForSequenceClassification

    bundle = exported(family, LABELS[family]).bundle
    model = ORTModelForSequenceClassification.from_pretrained(bundle, file_name="model.onnx", subfolder="onnx")
    tokenizer = AutoTokenizer.from_pretrained(bundle)
    claims, evidence = map(list, zip(*PAIRS[:8], strict=True))
    inputs = tokenizer(claims, evidence, padding=True, truncation=True, return_tensors="pt")
    scorer = Scorer.from_pretrained(bundle)
    expected = scorer.predict(PAIRS[:8], activation="identity")
    np.testing.assert_allclose(model(**inputs).logits.numpy(), expected.reshape(8, -1), rtol=0, atol=PROMISE)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("linear.Identity", 1),
        ("activation.Sigmoid", 3),
        ("activation.Tanh", 1),
        ("activation.Softmax", 3),
        pytest.param("linear.Identity", 3, marks=pytest.mark.every_combination),
        pytest.param("activation.Sigmoid", 1, marks=pytest.mark.every_combination),
        pytest.param("activation.Tanh", 3, marks=pytest.mark.every_combination),
        pytest.param("activation.Softmax", 1, marks=pytest.mark.every_combination),
    ],
)
def test_activations(exported, name, labels):
    checkpoint, bundle = exported("bert", labels, activation=f"torch.nn.modules.{name}", layers=1)
    assert Bundle.open(bundle).manifest.activation == name.rpartition(".")[2].lower()
    expected = CrossEncoder(str(checkpoint), device="cpu").predict(PAIRS[:50])
    np.testing.assert_allclose(Scorer.from_pretrained(bundle).predict(PAIRS[:50]), expected, rtol=0, atol=PROMISE)


def test_the_older_activation_setting(exported):
    changes = {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}
    checkpoint, bundle = exported("bert", **changes, layers=1)
    assert Bundle.open(bundle).manifest.activation == "identity"
    expected = CrossEncoder(str(checkpoint), device="cpu").predict(PAIRS[:50])
    np.testing.assert_allclose(Scorer.from_pretrained(bundle).predict(PAIRS[:50]), expected, rtol=0, atol=PROMISE)


def test_the_evidence_first(tmp_path, checkpoint):
    """Token types, truncation, golden rows, verification and `info` follow the order; nothing else does."""
    source, lines = checkpoint("bert", layers=1), []
    manifest = export_bundle(str(source), tmp_path / "bundle", pair_order="evidence-claim", say=lines.append)
    assert manifest.pair_order == "evidence-claim"
    assert "Exporting bert, 64 tokens, the evidence first, to ONNX" in lines
    encoder = CrossEncoder(str(source), device="cpu")
    pairs = PAIRS[:80]
    expected = encoder.predict([(evidence, claim) for claim, evidence in pairs])
    assert np.abs(expected - encoder.predict(pairs)).max() > 1e-3
    scorer = Scorer.from_pretrained(tmp_path / "bundle")
    np.testing.assert_allclose(scorer.predict(pairs), expected, rtol=0, atol=1e-5)
    assert not verify(tmp_path / "bundle", str(source), pairs).broken
    assert "  pair order  evidence, then claim" in description_lines(describe(str(tmp_path / "bundle")))
    export_bundle(str(source), tmp_path / "bundle", precision="fp16")
    np.testing.assert_allclose(
        Scorer.from_pretrained(tmp_path / "bundle", precision="fp16").predict(pairs), expected, rtol=0, atol=0.03
    )
    plain = export_bundle(str(source), tmp_path / "plain")
    assert Bundle.open(tmp_path / "bundle").digest("fp32") != Bundle.open(tmp_path / "plain").digest("fp32")
    with pytest.raises(PairscoreError, match="has the pair order claim-evidence, not evidence-claim"):
        export_bundle(str(source), tmp_path / "plain", precision="fp16", pair_order="evidence-claim")
    earlier = {name: value for name, value in json.loads(plain.to_json()).items() if name != "pair_order"}
    assert Manifest.from_json(json.dumps(earlier)) == plain


@with_optimum
def test_a_checkpoint_saved_by_sentence_transformers(tmp_path, checkpoint):
    """It carries modules.json, and the activation moves to config_sentence_transformers.json."""
    encoder = CrossEncoder(str(checkpoint("electra")), device="cpu", activation_fn=torch.nn.Tanh())
    encoder.save_pretrained(str(tmp_path / "saved"))
    manifest = export_bundle(str(tmp_path / "saved"), tmp_path / "bundle")
    assert manifest.activation == "tanh"
    expected = encoder.predict(PAIRS[:50])
    opened = CrossEncoder(str(tmp_path / "bundle"), backend="onnx", device="cpu")
    np.testing.assert_allclose(opened.predict(PAIRS[:50]), expected, rtol=0, atol=PROMISE)
    scorer = Scorer.from_pretrained(tmp_path / "bundle")
    np.testing.assert_allclose(scorer.predict(PAIRS[:50]), expected, rtol=0, atol=PROMISE)


def changed_tokenizer(folder, **changes):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_truncation_at_the_left(tmp_path):
    checkpoint = build_checkpoint("roberta", tmp_path / "checkpoint")
    changed_tokenizer(checkpoint, truncation_side="left")
    manifest = export_bundle(str(checkpoint), tmp_path / "bundle")
    assert manifest.truncation_side == "left"
    expected = CrossEncoder(str(checkpoint), device="cpu").predict(PAIRS)
    np.testing.assert_allclose(
        Scorer.from_pretrained(tmp_path / "bundle").predict(PAIRS), expected, rtol=0, atol=PROMISE
    )


def test_token_types_that_the_tokenizer_does_not_pass_on(tmp_path):
    """The template numbers claim and evidence, the graph has the input, and PyTorch sees zeros all the same."""
    checkpoint = build_checkpoint("bert", tmp_path / "checkpoint")
    changed_tokenizer(checkpoint, model_input_names=["input_ids", "attention_mask"])
    export_bundle(str(checkpoint), tmp_path / "bundle")
    expected = CrossEncoder(str(checkpoint), device="cpu").predict(PAIRS)
    np.testing.assert_allclose(
        Scorer.from_pretrained(tmp_path / "bundle").predict(PAIRS), expected, rtol=0, atol=PROMISE
    )


def test_max_length_shortens_the_bundle_for_everybody(tmp_path, checkpoint):
    source = checkpoint("bert")
    manifest = export_bundle(str(source), tmp_path / "bundle", max_length=24)
    assert manifest.max_length == 24
    expected = CrossEncoder(str(source), device="cpu", max_length=24).predict(PAIRS)
    scorer = Scorer.from_pretrained(tmp_path / "bundle")
    np.testing.assert_allclose(scorer.predict(PAIRS), expected, rtol=0, atol=PROMISE)
    if "optimum" in EXPORTED_BY:  # which sentence-transformers opens ONNX graphs through
        opened = CrossEncoder(str(tmp_path / "bundle"), backend="onnx")
        np.testing.assert_allclose(opened.predict(PAIRS), expected, rtol=0, atol=PROMISE)


def test_the_users_pairs_are_checked_but_not_kept(tmp_path, checkpoint):
    secret = ("a claim of the user's own", "and evidence that stays at home")
    manifest = export_bundle(str(checkpoint("bert")), tmp_path / "bundle", pairs=[secret, secret])
    assert manifest.variants["fp32"].parity.pairs == len(builtin_pairs(64)) + 2
    content = b"".join(path.read_bytes() for path in (tmp_path / "bundle").rglob("*") if path.is_file())
    assert b"user's own" not in content
    assert b"stays at home" not in content


def test_builtin_pairs_cut_claims_evidence_and_both(checkpoint):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint("bert"))
    pairs = builtin_pairs(64)
    whole = [[len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in pair] for pair in pairs]
    assert any(claim > 61 and evidence < 20 for claim, evidence in whole)
    assert any(claim < 20 and evidence > 61 for claim, evidence in whole)
    assert any(claim > 61 and evidence > 61 for claim, evidence in whole)
    assert any(sum(lengths) == 0 for lengths in whole)
    assert len(builtin_pairs(8192)) == len(pairs) - 5  # without the longest, which cost gigabytes and minutes each
    assert max(len(text) for pair in pairs for text in pair) == 100_000


def fp32(bundle):
    return Bundle.open(bundle).manifest.variants["fp32"]


# Failures leave nothing behind ------------------------------------------------------------------------


def test_a_corrupted_graph_fails_and_names_the_pairs(exported, tmp_path):
    """One weight of the classifier is changed in the graph, and the manifest made to agree."""
    checkpoint, good = exported("bert")
    bundle = shutil.copytree(good, tmp_path / "bundle")
    graph = onnx.load(bundle / "onnx/model.onnx")
    classifier = next(weight for weight in graph.graph.initializer if weight.name.endswith("classifier.bias"))
    classifier.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(classifier) + np.float32(0.01), classifier.name))
    onnx.save(graph, bundle / "onnx/model.onnx")
    manifest = json.loads((bundle / "pairscore.json").read_text())
    manifest["files"]["onnx/model.onnx"] = sha256(bundle / "onnx/model.onnx")
    (bundle / "pairscore.json").write_text(json.dumps(manifest))
    reference = load_reference(open_checkpoint(str(checkpoint)))
    with pytest.raises(ParityError, match=r"max_logit_difference 0\.01 \(promised.*pair \d+ \('.*', '.*'\) by 0\.01"):
        check_parity(bundle, fp32(bundle), reference, ParitySet(PAIRS[:20], reference.logits(PAIRS[:20])))


def test_other_token_ids_fail_and_name_the_pair(exported, tmp_path):
    checkpoint, good = exported("roberta")
    bundle = shutil.copytree(good, tmp_path / "bundle")
    tokenizer = json.loads((bundle / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"]["add_prefix_space"] = True
    (bundle / "tokenizer.json").write_text(json.dumps(tokenizer))
    manifest = json.loads((bundle / "pairscore.json").read_text())
    manifest["files"]["tokenizer.json"] = sha256(bundle / "tokenizer.json")
    (bundle / "pairscore.json").write_text(json.dumps(manifest))
    reference = load_reference(open_checkpoint(str(checkpoint)))
    with pytest.raises(ParityError, match=r"pair 0 \('.*', '.*'\) gets other token ids"):
        check_parity(bundle, fp32(bundle), reference, ParitySet(PAIRS[:5], reference.logits(PAIRS[:5])))


def test_a_failed_parity_leaves_nothing(tmp_path):
    """Logits near a million: fp32 itself is then coarser than the promise."""
    checkpoint = build_checkpoint("bert", tmp_path / "checkpoint")
    scale_weights(checkpoint, "classifier.weight", 1e6)
    with pytest.raises(ParityError, match="no bundle was written") as raised:
        export_bundle(str(checkpoint), tmp_path / "new" / "bundle")
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_failed_overwrite_keeps_the_old_bundle(tmp_path, exported):
    shutil.copytree(exported("bert").bundle, tmp_path / "bundle")
    before = {path: path.read_bytes() for path in (tmp_path / "bundle").rglob("*") if path.is_file()}
    bad = build_checkpoint("bert", tmp_path / "checkpoint")
    scale_weights(bad, "classifier.weight", 1e6)
    with pytest.raises(ParityError):
        export_bundle(str(bad), tmp_path / "bundle", overwrite=True)
    assert {path: path.read_bytes() for path in (tmp_path / "bundle").rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "checkpoint"]


def test_overwrite_replaces_the_bundle(tmp_path, checkpoint, exported):
    shutil.copytree(exported("bert").bundle, tmp_path / "bundle")
    with pytest.raises(PairscoreError, match=r"exists.*overwrite=True"):
        export_bundle(str(checkpoint("electra")), tmp_path / "bundle")
    export_bundle(str(checkpoint("electra")), tmp_path / "bundle", overwrite=True)
    assert Bundle.open(tmp_path / "bundle").manifest.model_type == "electra"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_an_unknown_precision_is_refused(tmp_path, checkpoint):
    with pytest.raises(PairscoreError, match="unknown precision 'int3': use"):
        export_bundle(str(checkpoint("bert")), tmp_path / "bundle", precision="int3")
    assert not list(tmp_path.iterdir())


def test_a_model_whose_logits_in_pytorch_depend_on_the_batch_is_named(checkpoint, tmp_path):
    """Padding on the left moves the positions of a BERT."""
    folder = shutil.copytree(checkpoint("bert"), tmp_path / "checkpoint")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"padding_side": "left"}))
    with pytest.raises(
        PairscoreError, match=r"PyTorch's own logits depend on the batch.*save it with padding_side right"
    ):
        export_bundle(str(folder), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
