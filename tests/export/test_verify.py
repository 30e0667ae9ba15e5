"""`pairscore verify`: a bundle against its checkpoint on the user's pairs."""

import json
import shutil

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from onnx import numpy_helper
from sentence_transformers import CrossEncoder

from pairscore import PairscoreError
from pairscore.export.parity.verify import verify
from pairscore.runtime.bundle.manifest import Bundle, sha256
from pairscore.runtime.errors import shorten
from tests import corpus
from tests.checkpoints import FAMILIES
from tests.command_line import run

PAIRS = [(claim, evidence) for claim in corpus.SENTENCES[:4] for evidence in corpus.SENTENCES[4:16]]


@pytest.fixture
def pairs_file(tmp_path):
    claims, evidence = map(list, zip(*PAIRS, strict=True))
    pq.write_table(pa.table({"claim": claims, "evidence": evidence}), tmp_path / "pairs.parquet")
    return tmp_path / "pairs.parquet"


def shifted_bundle(bundle, folder, shift):
    """A copy whose logits are `shift` too high: graph, digests and golden rows all agree with each other."""
    shutil.copytree(bundle, folder)
    graph = onnx.load(folder / "onnx/model.onnx")
    bias = next(weight for weight in graph.graph.initializer if weight.name.endswith("classifier.bias"))
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(shift), bias.name))
    onnx.save(graph, folder / "onnx/model.onnx")
    golden = Bundle.open(folder).golden_rows()
    golden.logits[:] += np.float32(shift)
    (folder / "golden.json").write_text(golden.to_json())
    manifest = json.loads((folder / "pairscore.json").read_text())
    for name in ("onnx/model.onnx", "golden.json"):
        manifest["files"][name] = sha256(folder / name)
    (folder / "pairscore.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=() if family in ("bert", "deberta-v2") else pytest.mark.every_combination)
        for family in FAMILIES
    ],
)
def test_a_good_bundle_passes(exported, family):
    checkpoint, bundle = exported(family)
    result = verify(bundle, str(checkpoint), PAIRS)
    assert result.broken == ()
    assert result.report.pairs == len(PAIRS)
    assert result.report.max_logit_difference <= 1e-4
    assert result.report.top1_agreement == 1.0
    assert result.report.spearman == pytest.approx(1.0, abs=1e-4)


def test_figures_are_those_of_the_two_systems(exported, tmp_path):
    checkpoint, bundle = exported("bert")
    result = verify(shifted_bundle(bundle, tmp_path / "shifted", 0.25), str(checkpoint), PAIRS)
    expected = CrossEncoder(str(checkpoint), device="cpu").predict(PAIRS, activation_fn=torch.nn.Identity())
    assert result.report.max_logit_difference == pytest.approx(0.25, abs=1e-4)
    assert result.report.mean_logit_difference == pytest.approx(0.25, abs=1e-4)
    scores = 1 / (1 + np.exp(-expected.astype(float)))
    shifted = 1 / (1 + np.exp(-expected.astype(float) - 0.25))
    assert result.report.max_score_difference == pytest.approx(np.abs(shifted - scores).max(), abs=1e-4)
    assert result.report.spearman == pytest.approx(1.0, abs=1e-4)
    worst = result.worst[0]
    assert PAIRS[worst.row][0].startswith(worst.claim[:50])
    assert worst.reference_logits == pytest.approx((expected[worst.row],), abs=1e-5)
    assert worst.logits == pytest.approx((expected[worst.row] + 0.25,), abs=1e-4)
    assert len(result.broken) == 1
    assert "promised at most 0.0001" in result.broken[0]


def test_exit_codes_and_json(capsys, exported, pairs_file, tmp_path):
    checkpoint, bundle = exported("bert")
    common = ["--reference", checkpoint, "--pairs", pairs_file]
    code, out, _ = run(capsys, "verify", bundle, *common, "--json", "--limit", 5)
    report = json.loads(out)
    assert (code, report["passed"], report["broken"], report["report"]["pairs"]) == (0, True, [], 5)
    assert (report["precision"], report["engine"], report["device"]) == ("fp32", "onnxruntime", "cpu")
    shifted = shifted_bundle(bundle, tmp_path / "shifted", 0.25)
    code, out, _ = run(capsys, "verify", shifted, *common, "--json")
    report = json.loads(out)
    assert (code, report["passed"]) == (1, False)
    assert report["report"]["max_logit_difference"] == pytest.approx(0.25, abs=1e-4)
    assert len(report["worst"]) == 5


def test_the_table(capsys, exported, pairs_file, tmp_path):
    checkpoint, bundle = exported("bert", 3)
    common = ["--reference", checkpoint, "--pairs", pairs_file]
    code, out, _ = run(capsys, "verify", bundle, *common)
    assert code == 0
    assert "largest logit difference" in out
    assert "≤ 0.0001" in out
    assert "Promise broken" not in out
    shown = [line.strip() for line in out.splitlines()]
    assert sum(line in {shorten(claim, 60) for claim, _ in PAIRS} for line in shown) == 5
    shifted = shifted_bundle(bundle, tmp_path / "shifted", 0.25)
    code, out, _ = run(capsys, "verify", shifted, *common)
    assert code == 1
    assert "Promise broken: max_logit_difference 0.25" in " ".join(out.split())


def test_another_checkpoint_is_refused(exported, checkpoint):
    with pytest.raises(PairscoreError, match=r"is not what .* was exported from: its weights have the digest [0-9a-f]"):
        verify(exported("bert").bundle, str(checkpoint("bert", seed=1)), PAIRS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bundle": "missing"}, "no bundle at 'missing'"),
        ({"--reference": "missing"}, "hub cannot be reached"),
        ({"--pairs": "missing.parquet"}, "no file 'missing.parquet'"),
        ({"--precision": "int8"}, "no int8 variant"),
        ({"--engine": "abacus"}, "unknown engine 'abacus'"),
        ({"--device": "tpu"}, "unknown device 'tpu'"),
        ({"--claim-column": "text"}, "no column 'text'"),
    ],
)
@pytest.mark.usefixtures("working_folder")
def test_bad_input_is_one_line_and_code_2(capsys, exported, pairs_file, changes, message):
    checkpoint, bundle = exported("bert")
    arguments = {"bundle": bundle, "--reference": checkpoint, "--pairs": pairs_file, **changes}
    code, out, errors = run(
        capsys, "verify", arguments.pop("bundle"), *(each for option in arguments.items() for each in option)
    )
    assert (code, out) == (2, "")
    assert errors.startswith("pairscore: error: ")
    assert errors.count("\n") == 1
    assert message in errors
