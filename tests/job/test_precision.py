"""`--precision auto`: the fastest variant that runs here and keeps the promise; a resume keeps it."""

import json
import shutil
from dataclasses import asdict, replace

import pytest

from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.bundle.parity import TIERS, Tier
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.opening import golden_rate, keeps, open_scorer
from pairscore.runtime.job.run import run_job
from tests.command_line import run
from tests.pairs_files import AtPart, job, write_pairs


@pytest.fixture(scope="module")
def bundle(small_bundle, tmp_path_factory):
    """fp32 as it is; int8 and fp16 are the same graph by other names, of which fp16 has no engine here."""
    copy = shutil.copytree(small_bundle(), tmp_path_factory.mktemp("several") / "bundle")
    manifest = json.loads((copy / "pairscore.json").read_text())
    exact = manifest["variants"]["fp32"]
    manifest["variants"]["int8"] = {**exact, "precision": "int8", "engines": ["onnxruntime"]}
    manifest["variants"]["fp16"] = {**exact, "precision": "fp16", "engines": ["nowhere"]}
    (copy / "pairscore.json").write_text(json.dumps(manifest))
    return copy


def rates(**given):
    return lambda scorer: given[scorer.precision]


@pytest.mark.parametrize(
    ("promise", "fp32", "int8", "expected"),
    [("int8", 100, 130, "int8"), ("int8", 100, 110, "fp32"), ("bf16", 100, 1000, "fp32"), ("fp32", 100, 1000, "fp32")],
)
def test_the_fastest_that_keeps_the_promise_is_taken(bundle, promise, fp32, int8, expected):
    """A gain of 10 % is noise, and no reason for less exact scores."""
    options = replace(job(bundle, bundle, "out"), precision="auto", promise=promise)
    opened = open_scorer(options, rate=rates(fp32=fp32, int8=int8))
    assert opened.scorer.precision == expected
    assert f"fp32 {fp32} pairs/s" in (opened.chosen or "")
    assert ("fp16 does not run here" in (opened.chosen or "")) is (promise != "fp32")


def test_speed_is_measured_on_the_golden_rows(bundle):
    assert golden_rate(open_scorer(job(bundle, bundle, "out")).scorer) > 0


def test_a_promise_is_kept_by_one_that_is_at_least_as_strict(bundle):
    int8 = Bundle.open(bundle).variant("int8")
    fp32, fp16 = (Bundle.open(bundle).variant(name) for name in ("fp32", "fp16"))
    assert all(keeps(fp32, TIERS[name]) for name in ("fp32", "bf16", "fp16", "int8"))
    assert [keeps(fp16, TIERS[name]) for name in ("fp32", "bf16", "int8")] == [False, True, True]
    assert [keeps(int8, TIERS[name]) for name in ("fp32", "bf16", "int8")] == [False, False, True]
    for looser in ({"max_score_difference": 0.2}, {"min_spearman": 0.99}, {"max_batch_difference": None}):
        promise = Tier(**{**asdict(TIERS["int8"]), **looser})
        assert not keeps(replace(int8, promise=promise), TIERS["int8"])


def test_none_that_fits_is_an_error_that_says_why(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    manifest = json.loads((copy / "pairscore.json").read_text())
    del manifest["variants"]["fp32"], manifest["variants"]["int8"]
    (copy / "pairscore.json").write_text(json.dumps(manifest))
    with pytest.raises(PairscoreError, match=r"--promise bf16 \(fp16 does not run here\)"):
        open_scorer(replace(job(copy, copy, "out"), precision="auto", promise="bf16"))
    with pytest.raises(PairscoreError, match=r"--promise fp32 \(none promises as much as fp32\)"):
        open_scorer(replace(job(copy, copy, "out"), precision="auto", promise="fp32"))
    with pytest.raises(PairscoreError, match="--promise 'half' is unknown: use fp32, bf16, int8"):
        run_job(replace(job(copy, copy, tmp_path / "out"), precision="auto", promise="half"))


def test_a_run_keeps_the_precision_that_it_was_started_with(bundle, tmp_path):
    """Also where nothing is left to do, and where scores of an earlier output are reused."""
    write_pairs(tmp_path / "in.parquet", 130)
    options = job(bundle, tmp_path / "in.parquet", tmp_path / "out", precision="int8")
    with pytest.raises(KeyError):
        run_job(options, log=AtPart(1, {}.popitem))
    auto = replace(options, precision="auto")
    summary = run_job(auto)
    assert (summary.precision, summary.chosen, summary.earlier_parts) == ("int8", "as an earlier run chose", 1)
    assert run_job(auto).nothing_to_do
    reusing = run_job(replace(auto, output=str(tmp_path / "new"), reuse=(str(tmp_path / "out"),)))
    assert (reusing.precision, reusing.figures.reused) == ("int8", 130)
    with pytest.raises(PairscoreError, match="precision int8, and this run takes fp32"):
        run_job(replace(auto, promise="fp32", output=str(tmp_path / "exact"), reuse=(str(tmp_path / "out"),)))


def test_the_summary_names_the_choice(capsys, bundle, tmp_path):
    write_pairs(tmp_path / "in.parquet", 60)
    code, _, said = run(
        capsys, "score", bundle, tmp_path / "in.parquet", "-o", tmp_path / "out", "--precision", "auto",
        "--promise", "bf16",
    )  # fmt: skip
    assert code == 0
    assert "--precision auto chose fp32, from fp32 " in said
    assert "--precision auto passes over fp16: " in said
