"""Adding precisions to a bundle: the gate end to end, and what it refuses."""

import gc
import json
import shutil

import numpy as np
import openvino
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore import Scorer, export_bundle
from pairscore.export.quantization import selection
from pairscore.export.quantization.calibration import Seen
from pairscore.export.reference import Reference
from pairscore.runtime.bundle.manifest import Bundle
from tests import corpus
from tests.command_line import run

PAIRS = [(claim, evidence) for claim in corpus.SENTENCES[:10] for evidence in corpus.SENTENCES[10:22]]


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    claims, evidence = map(list, zip(*PAIRS, strict=True))
    labels = [number % 4 == 0 for number in range(len(PAIRS))]
    path = tmp_path_factory.mktemp("calibration") / "pairs.parquet"
    pq.write_table(pa.table({"claim": claims, "evidence": evidence, "relevant": labels}), path)
    return path


@pytest.fixture(scope="module")
def int8(exported, calibration, built_once):
    """A bundle with an int8 variant added; do not write into it."""
    from pairscore.cli import main

    checkpoint, bundle = exported("bert")

    def add(folder):
        made = shutil.copytree(bundle, folder / "bundle")
        arguments = ["export", checkpoint, made, "--precision", "int8", "--calibration", calibration]
        # The logits of an untrained model lie so close together that rounding swaps some.
        loose = ["--min-spearman", "0.95", "--engine", "onnxruntime"]
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments), "--label-column", "relevant", *loose, "--quiet"])
        assert ended.value.code == 0

    return built_once("int8", add) / "bundle"


def unchanged(folder, before):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def stamp(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_variant_is_measured_and_the_others_stay(exported, int8):
    before, after = Bundle.open(exported("bert").bundle), Bundle.open(int8)
    assert after.digest("fp32") == before.digest("fp32")
    variant = after.manifest.variants["int8"]
    assert variant.files == ("onnx/model_int8.onnx",)
    assert 0 < variant.parity.max_score_difference <= 0.1
    assert variant.parity.batch_difference <= 1e-5
    assert variant.parity.top1_agreement is not None
    assert set(variant.ranking) == {"PyTorch fp32", "int8"}
    assert 0 < variant.ranking["int8"]["MAP"] <= 1
    assert any(note.startswith("chosen: groups of") for note in variant.notes)
    assert sorted(path.name for path in (int8 / "onnx").iterdir()) == ["model.onnx", "model_int8.onnx"]


def test_info_shows_the_report(capsys, int8):
    code, out, _ = run(capsys, "info", int8)
    assert code == 0
    ranking = Bundle.open(int8).manifest.variants["int8"].ranking
    assert f"ranking     int8: MAP {ranking['int8']['MAP']:.4f}" in out
    assert "chosen: groups of" in out
    code, out, _ = run(capsys, "info", int8, "--json")
    told = json.loads(out)["variants"]["int8"]
    assert told["promise"]["max_batch_difference"] == 1e-5
    assert told["ranking"] == ranking


def test_a_pair_scores_the_same_alone_and_among_others(int8):
    scorer = Scorer.from_pretrained(int8, precision="int8")
    together = scorer.predict(PAIRS)
    alone = np.array([scorer.predict(pair) for pair in PAIRS[:40]])
    assert np.abs(alone - together[:40]).max() <= 1e-5
    fp32 = Scorer.from_pretrained(int8).predict(PAIRS)
    assert 0 < np.abs(together - fp32).max() <= 0.1


def test_a_new_bundle_gets_fp32_too(capsys, checkpoint, calibration, tmp_path):
    arguments = ["export", checkpoint("bert"), tmp_path / "new", "--precision", "int8", "--calibration", calibration]
    code, _, errors = run(capsys, *arguments, "--engine", "onnxruntime", "--min-spearman", 0.95)
    assert code == 0
    assert "x fp32, scores differ by at most" in errors
    assert "Chosen: groups of" in errors
    assert set(Bundle.open(tmp_path / "new").manifest.variants) == {"fp32", "int8"}


def test_candidates_are_tried_once_what_they_were_made_of_is_gone(exported, tmp_path, monkeypatch):
    checkpoint, bundle = exported("bert")
    made = shutil.copytree(bundle, tmp_path / "bundle")
    try_out, left = selection.try_out, []

    def looked_at(folder, tried, reference: Reference, parity_set):
        reference.release()
        left.extend(each for each in gc.get_objects() if isinstance(each, Seen))
        return try_out(folder, tried, reference, parity_set)

    monkeypatch.setattr(selection, "try_out", looked_at)
    export_bundle(checkpoint, made, precision="int8", calibration=PAIRS, min_spearman=0.9)
    assert left == []


def test_a_promise_that_nothing_keeps_leaves_the_bundle_as_it_was(capsys, exported, calibration, tmp_path):
    checkpoint, bundle = exported("bert")
    made = shutil.copytree(bundle, tmp_path / "bundle")
    before = stamp(made)
    arguments = ["export", checkpoint, made, "--precision", "int8", "--calibration", calibration]
    code, _, errors = run(capsys, *arguments, "--max-difference", 1e-9, "--engine", "onnxruntime")
    assert code == 1
    assert "most sensitive matrix products in fp32" in errors
    assert "no int8 variant keeps the promise; the most exact is groups of" in errors.splitlines()[-1]
    assert unchanged(made, before)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_an_own_promise_is_kept_with_the_variant(capsys, exported, calibration, tmp_path):
    checkpoint, bundle = exported("bert")
    made = shutil.copytree(bundle, tmp_path / "bundle")
    arguments = ["export", checkpoint, made, "--precision", "int8", "--calibration", calibration, "--quiet"]
    loose = ["--max-difference", 0.5, "--min-spearman", 0.9, "--engine", "onnxruntime"]
    assert run(capsys, *arguments, *loose)[0] == 0
    tier = Bundle.open(made).manifest.variants["int8"].tier
    assert (tier.max_score_difference, tier.min_spearman, tier.max_batch_difference) == (0.5, 0.9, 1e-5)
    # Tightened by hand below what was measured: golden rows are held to the variant's own promise.
    raw = json.loads((made / "pairscore.json").read_text())
    raw["variants"]["int8"]["promise"]["max_score_difference"] = 1e-12
    (made / "pairscore.json").write_text(json.dumps(raw))
    from pairscore import PairscoreError

    with pytest.raises(PairscoreError, match="does not reproduce its golden rows"):
        Scorer.from_pretrained(made, precision="int8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "int8"], "int8 is fitted to your own pairs: give a Parquet file of them with --calibration"),
        (["--precision", "int8", "--calibration", "no.parquet"], "give a Parquet file of pairs with --calibration"),
        (
            ["--precision", "int8", "--calibration", "{calibration}", "--label-column", "x"],
            "no column 'x'",
        ),
        (
            ["--precision", "int8", "--calibration", "{calibration}", "--label-column", "claim"],
            "column 'claim' is string, not truth values",
        ),
        (["--precision", "int8", "--calibration", "{calibration}"], "has a variant of precision int8 already"),
        (
            ["--precision", "int8", "--calibration", "{calibration}", "--overwrite", "--max-length", "32"],
            "has max length 64, not 32",
        ),
        (["--label-column", "relevant"], "--label-column names a column of --calibration"),
        (["--precision", "int4"], "unknown precision 'int4': use fp32"),
    ],
)
def test_bad_input_is_one_line(capsys, exported, int8, calibration, *, arguments, message):
    before = stamp(int8)
    given = [each.format(calibration=calibration) for each in arguments]
    code, out, errors = run(capsys, "export", exported("bert").checkpoint, int8, "--quiet", *given)
    assert (code, out) == (2, "")
    assert errors.count("\n") == 1
    assert message in errors
    assert unchanged(int8, before)


def test_another_source_is_refused(capsys, checkpoint, int8, calibration):
    arguments = ["--precision", "int8", "--calibration", calibration, "--quiet"]
    code, _, errors = run(capsys, "export", checkpoint("bert", seed=1), int8, *arguments)
    assert code == 2
    assert "was exported from other weights" in errors


def test_a_changed_file_is_not_built_on(capsys, exported, int8, calibration, tmp_path):
    made = shutil.copytree(int8, tmp_path / "bundle")
    with (made / "onnx/model.onnx").open("ab") as file:
        file.write(b" ")
    arguments = ["--precision", "int8", "--calibration", calibration, "--overwrite", "--quiet"]
    code, _, errors = run(capsys, "export", exported("bert").checkpoint, made, *arguments)
    assert code == 2
    assert "has changed since its export" in errors


def test_bf16_is_the_same_graph_where_the_processor_can(capsys, exported, tmp_path):
    checkpoint, bundle = exported("bert")
    made = shutil.copytree(bundle, tmp_path / "bundle")
    before = stamp(made)
    code, _, errors = run(capsys, "export", checkpoint, made, "--precision", "bf16", "--quiet")
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert code == 0
        assert Bundle.open(made).manifest.variants["bf16"].files == ("onnx/model.onnx",)
    else:
        assert code == 2
        assert "this processor computes no bf16" in errors
        assert unchanged(made, before)
