"""A bundle's manifest and files: what is written is what is read, and what has changed is refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from pairscore import PairscoreError, Scorer
from pairscore.runtime.bundle.manifest import Bundle, GoldenRows, Manifest, sha256
from pairscore.runtime.describe import describe


@pytest.fixture
def bundle(exported, tmp_path):
    """A bundle of its own that a test may damage."""
    return shutil.copytree(exported("bert").bundle, tmp_path / "bundle")


def test_manifest_survives_its_json(bundle):
    manifest = Bundle.open(bundle).manifest
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_golden_rows_survive_their_json():
    golden = GoldenRows(
        ("claim", ""), ("evidence\n\u2028", "\x00🌍"), ((1, 2, 3), (4,)), np.array([[0.1], [-7e-5]], dtype=np.float32)
    )
    again = GoldenRows.from_json(golden.to_json(), labels=1)
    assert dataclasses.replace(again, logits=None) == dataclasses.replace(golden, logits=None)
    np.testing.assert_array_equal(again.logits, golden.logits)


@pytest.mark.parametrize("name", ["onnx/model.onnx", "tokenizer.json", "golden.json"])
def test_a_changed_file_is_refused(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(PairscoreError, match=rf"{name}.*has changed since its export"):
        Scorer.from_pretrained(bundle)


@pytest.mark.parametrize("name", ["onnx/model.onnx", "tokenizer.json", "golden.json"])
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(PairscoreError, match=rf"{name}.*is missing"):
        Scorer.from_pretrained(bundle)


def test_an_unlisted_file_is_not_read(bundle):
    (bundle / "extra.txt").write_text("not in the manifest")
    with pytest.raises(PairscoreError, match=r"lists no file 'extra\.txt'"):
        Bundle.open(bundle).path("extra.txt")


def test_not_a_bundle(tmp_path, checkpoint):
    with pytest.raises(PairscoreError, match=r"no bundle at .*pairscore export"):
        Bundle.open(tmp_path / "nothing")
    with pytest.raises(PairscoreError, match="is not a bundle"):
        Bundle.open(tmp_path)
    with pytest.raises(PairscoreError, match="looks like a checkpoint"):
        Bundle.open(checkpoint("bert"))


def changed_manifest(bundle, **changes):
    path = bundle / "pairscore.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", 2, "format is 2, and this release reads format 1"),
        ("activation", "relu", "activation is 'relu', not one of sigmoid"),
        ("labels", [], "labels is empty"),
        ("labels", "LABEL_0", 'labels is "LABEL_0", not a list'),
        ("truncation_side", "middle", 'truncation_side is "middle", not left or right'),
        ("max_length", 0, "max_length is 0, not 1 to"),
        ("max_length", "64", 'max_length is "64", not an integer'),
        ("pad_token_id", -1, "pad_token_id is -1, not 0 to"),
        ("source", None, "source is null, not an object"),
        ("files", {}, "variants.fp32.files names 'onnx/model.onnx', which has no digest"),
        ("files", {"../x": "0" * 64}, r"files names '\.\./x', which is no path inside the bundle"),
        ("files", {"golden.json": "0" * 63}, "files.golden.json is '0+', not a SHA-256"),
        ("variants", {"fp32": {}}, "variants.fp32.precision is missing"),
        ("variants.fp32.precision", "int8", "variants.fp32.precision is 'int8', not 'fp32'"),
        ("variants.fp32.files", [], "variants.fp32.files is empty"),
        ("variants.fp32.engines", ["onnxruntime", 7], r"variants.fp32.engines\[1\] is 7, not text"),
        ("variants.fp32.engines", [], "variants.fp32.engines is empty"),
        ("variants.fp32.settings", {"x": 1}, "variants.fp32.settings.x is 1, not text"),
        ("variants.fp32.parity.pairs", 1.5, "variants.fp32.parity.pairs is 1.5, not an integer"),
        ("variants.fp32.ranking", {"torch": 1}, "variants.fp32.ranking.torch is 1, not an object"),
        ("variants.fp32.golden_logits", [[0.5], []], "variants.fp32.golden_logits.1 has 0 values for 1 labels"),
        ("surprise", 1, "surprise is no field that this release knows"),
    ],
)
def test_a_manifest_that_does_not_validate_is_refused(bundle, path, value, message):
    raw = json.loads((bundle / "pairscore.json").read_text())
    *holders, last = path.split(".")
    place = raw
    for each in holders:
        place = place[each]
    place[last] = value
    (bundle / "pairscore.json").write_text(json.dumps(raw))
    with pytest.raises(PairscoreError, match=rf"not a valid manifest \({message}.*export the bundle again"):
        Bundle.open(bundle)


def test_a_truncated_manifest_is_refused(bundle):
    path = bundle / "pairscore.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(PairscoreError, match="not a valid manifest"):
        Bundle.open(bundle)


def test_a_variant_that_is_not_there(bundle):
    with pytest.raises(PairscoreError, match=r"no int8 variant \(it has fp32\).*--precision int8"):
        Scorer.from_pretrained(bundle, precision="int8")


def test_other_golden_logits_are_refused(bundle):
    """The replay, not the digest: the manifest is made to agree with the changed rows."""
    golden = Bundle.open(bundle).golden_rows()
    wrong = dataclasses.replace(golden, logits=golden.logits + np.float32(0.001))
    (bundle / "golden.json").write_text(wrong.to_json())
    files = {**Bundle.open(bundle).manifest.files, "golden.json": sha256(bundle / "golden.json")}
    changed_manifest(bundle, files=files)
    with pytest.raises(PairscoreError, match="does not reproduce its golden rows"):
        Scorer.from_pretrained(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[0].update(claim=1), r"\[0\].claim is 1, not text"),
        (lambda rows: rows[2].update(logits=[0.1, 0.2]), r"\[2\].logits has 2 values, not 1"),
        (lambda rows: rows.clear(), "it holds no rows"),
    ],
)
def test_golden_rows_that_do_not_fit_are_refused(bundle, change, message):
    rows = json.loads((bundle / "golden.json").read_text())
    change(rows)
    (bundle / "golden.json").write_text(json.dumps(rows))
    files = {**Bundle.open(bundle).manifest.files, "golden.json": sha256(bundle / "golden.json")}
    changed_manifest(bundle, files=files)
    with pytest.raises(PairscoreError, match=rf"holds no golden rows \({message}"):
        Scorer.from_pretrained(bundle)


def test_engines_of_a_later_release_are_passed_over(bundle):
    variants = json.loads((bundle / "pairscore.json").read_text())["variants"]
    variants["fp32"]["engines"].insert(0, "warp")
    changed_manifest(bundle, variants=variants)
    assert Scorer.from_pretrained(bundle).engine.name == "onnxruntime"
    assert "unknown engine 'warp'" in describe(str(bundle))["variants"]["fp32"]["runs_here"]["warp"]
    variants["fp32"]["engines"] = ["warp"]
    changed_manifest(bundle, variants=variants)
    with pytest.raises(PairscoreError, match=r"runs on warp, and this release knows onnxruntime.*upgrade pairscore"):
        Scorer.from_pretrained(bundle)


def test_a_tokenizer_that_splits_otherwise_is_refused(bundle):
    tokenizer = json.loads((bundle / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (bundle / "tokenizer.json").write_text(json.dumps(tokenizer))
    files = {**Bundle.open(bundle).manifest.files, "tokenizer.json": sha256(bundle / "tokenizer.json")}
    changed_manifest(bundle, files=files)
    with pytest.raises(PairscoreError, match=r"gets other token ids.*tokenizers=="):
        Scorer.from_pretrained(bundle)


def test_the_digest_follows_what_decides_scores(bundle):
    before = Bundle.open(bundle)
    manifest = before.manifest
    other_length = dataclasses.replace(before, manifest=dataclasses.replace(manifest, max_length=32))
    other_versions = dataclasses.replace(before, manifest=dataclasses.replace(manifest, versions={}))
    fp32 = manifest.variants["fp32"]
    more = dataclasses.replace(fp32, precision="int8", files=("onnx/model_int8.onnx",))
    two_variants = dataclasses.replace(
        manifest,
        variants={"fp32": fp32, "int8": more},
        files={**manifest.files, "onnx/model_int8.onnx": "0" * 64},
    )
    assert other_length.digest("fp32") != before.digest("fp32")
    assert other_versions.digest("fp32") == before.digest("fp32")
    assert dataclasses.replace(before, manifest=two_variants).digest("fp32") == before.digest("fp32")


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"vocab_size": "x"}', b'{"vocab_size": true}'])
def test_a_configuration_that_says_nothing_of_the_model_is_refused(small_bundle, tmp_path, content):
    bundle = shutil.copytree(small_bundle(), tmp_path / "bundle")
    (bundle / "config.json").write_bytes(content)
    manifest = Bundle.open(bundle).manifest
    files = {**manifest.files, "config.json": sha256(bundle / "config.json")}
    (bundle / "pairscore.json").write_text(dataclasses.replace(manifest, files=files).to_json())
    with pytest.raises(
        PairscoreError, match=r"config\.json' is no model's configuration \(.*\): export the bundle again"
    ):
        Scorer.from_pretrained(bundle)
