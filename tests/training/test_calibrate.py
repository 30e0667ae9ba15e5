"""Calibration: the likelihood's own maximum, figures worked out by hand, and a fit that the runtime uses."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss

from pairscore import PairscoreError, Scorer, calibrate
from pairscore.cli import main
from pairscore.runtime.bundle.activation import scaled
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.job.run import run_job
from pairscore.training.calibration.fit import calibrate_bundle, fit, probability_errors, reliability, thresholds
from tests.pairs_files import job, pairs_table, read_output


def drawn(pairs, labels=1, slope=0.5, intercept=-1.0, seed=0):
    """Logits, and truths drawn from the probabilities that a known scaling makes of them."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 4, (pairs, labels)).astype(np.float32)
    p = scaled(slope, intercept if labels == 1 else 0.0, logits).astype(np.float64)
    if labels == 1:
        return logits, (draw.random(pairs) < p[:, 0]).astype(np.int64)
    return logits, (draw.random((pairs, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, labels - 1)


def loss(slope, intercept, logits, truth):
    return probability_errors(scaled(slope, intercept, logits), truth)["log loss"]


@pytest.mark.parametrize("labels", [1, 3])
def test_the_fit_finds_the_scaling_that_made_the_labels(labels):
    logits, truth = drawn(20_000, labels)
    slope, intercept = fit(logits, truth)
    assert slope == pytest.approx(0.5, rel=0.05)
    assert intercept == pytest.approx(-1.0 if labels == 1 else 0.0, abs=0.1)
    best = loss(slope, intercept, logits, truth)
    for other in (
        (slope * 1.02, intercept),
        (slope * 0.98, intercept),
        (slope, intercept + 0.05),
        (slope, intercept - 0.05),
    ):
        if labels == 1 or other[1] == intercept:
            assert loss(*other, logits, truth) > best


@pytest.mark.filterwarnings("ignore:The y_prob values do not sum to one")  # they are float32
def test_figures_are_scikit_learn_s():
    logits, truth = drawn(500)
    p = scaled(1.0, 0.0, logits)
    found = probability_errors(p, truth)
    assert found["log loss"] == pytest.approx(log_loss(truth, p[:, 0].astype(np.float64)), rel=1e-6)
    assert found["Brier score"] == pytest.approx(brier_score_loss(truth, p[:, 0]), rel=1e-6)
    logits, truth = drawn(500, 3)
    p = scaled(1.0, 0.0, logits)
    assert probability_errors(p, truth)["log loss"] == pytest.approx(log_loss(truth, p.astype(np.float64)), rel=1e-5)


def test_the_calibration_error_of_an_example():
    """Two ranges: 4 pairs at 0.9 of which 2 are true, 1 pair at 0.1 that is false: (4 * 0.4 + 1 * 0.1) / 5."""
    p, truth = np.array([[0.9]] * 4 + [[0.1]], np.float32), np.array([1, 1, 0, 0, 0])
    assert probability_errors(p, truth)["expected calibration error"] == pytest.approx(0.34)
    assert [(each.pairs, each.share) for each in reliability(p, truth)] == [(1, 0.0), (4, 0.5)]
    several = np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]], np.float32)
    assert probability_errors(several, np.array([0, 1]))["expected calibration error"] == pytest.approx(0.2)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=30), st.sampled_from([0.5, 0.8, 1.0]))
def test_thresholds_are_those_of_trying_each(rows, wanted):
    scores = np.array([[score / 10] for score, _ in rows], np.float32)
    truth = np.array([int(true) for _, true in rows])
    if not truth.any():
        truth[0] = 1
    by_precision, by_recall = thresholds(scores, truth, ["x"], [wanted], [wanted])

    def at(threshold):
        chosen = scores[:, 0] >= np.float32(threshold)
        return truth[chosen].mean(), truth[chosen].sum() / truth.sum()

    tried = {float(score): at(score) for score in np.unique(scores)}
    precise = [score for score, (precision, _) in tried.items() if precision >= wanted]
    assert by_precision.score == (pytest.approx(min(precise)) if precise else None)
    assert by_recall.score == pytest.approx(max(score for score, (_, recall) in tried.items() if recall >= wanted))
    for each in (by_precision, by_recall):
        if each.score is not None:
            assert (each.precision, each.recall) == pytest.approx(at(each.score))


@pytest.fixture
def bundle(small_bundle, tmp_path):
    return shutil.copytree(small_bundle(), tmp_path / "bundle")


@pytest.fixture
def labelled(bundle, tmp_path):
    """600 pairs whose labels follow from the bundle's own logits by a known scaling."""
    table = pairs_table(600)
    logits = Scorer.from_pretrained(bundle, activation="identity").score_table(table)["score"].to_numpy()
    draw = np.random.default_rng(1).random(600)
    p = scaled(2.0, 0.7, logits[:, None])[:, 0]
    table = table.set_column(table.schema.names.index("relevant"), "relevant", pa.array(draw < p))
    pq.write_table(table, tmp_path / "pairs.parquet")
    return tmp_path / "pairs.parquet"


def run(*arguments):
    with pytest.raises(SystemExit) as leaving:
        main([str(each) for each in arguments])
    return leaving.value.code


def test_the_command_keeps_a_fit_that_scoring_uses(bundle, labelled, tmp_path, capfd):
    digest = Bundle.open(bundle).digest("fp32")
    page = tmp_path / "page.html"
    assert run("calibrate", bundle, "--pairs", labelled, "--html", page, "--want-precision", 0.6, "--json") == 0
    told = json.loads(capfd.readouterr().out)
    assert told["scaling"]["slope"] == pytest.approx(2.0, rel=0.3)
    for name, value in told["scaling"]["after"].items():
        assert value < told["scaling"]["before"][name]
    assert Bundle.open(bundle).digest("fp32") == digest
    assert page.read_text().count("<svg") == 2
    assert "precision 0.6" in page.read_text()
    scaling = Bundle.open(bundle).manifest.variants["fp32"].scaling
    scorer = Scorer.from_pretrained(bundle, activation="calibrated")
    pairs = [("Sea level rises.", "Ice melts."), ("Sea level rises.", "Tides.")]
    logits = scorer.predict(pairs, activation="identity")
    expected = 1 / (1 + np.exp(-(scaling.slope * logits.astype(np.float64) + scaling.intercept)))
    np.testing.assert_allclose(scorer.predict(pairs), expected, rtol=1e-6)
    assert run("calibrate", bundle, "--pairs", labelled) == 0
    out, errors = capfd.readouterr()
    assert "log loss" in out
    assert "recall 0.95" in out
    assert "use it with --activation calibrated" in errors
    assert run("info", bundle) == 0
    assert "calibrated  on 600 pairs: log loss" in capfd.readouterr().out


def test_jobs_take_another_calibration_for_another_activation(bundle, labelled, tmp_path):
    asked = {"activation": "calibrated"}
    with pytest.raises(PairscoreError, match="has not been calibrated: do it with `pairscore calibrate"):
        run_job(job(bundle, labelled, tmp_path / "out", **asked))
    table = pq.read_table(labelled)
    pairs = list(zip(table["claim"].to_pylist(), table["evidence"].to_pylist(), strict=True))
    calibrate_bundle(bundle, pairs, table["relevant"].to_pylist())
    run_job(job(bundle, labelled, tmp_path / "out", **asked))
    assert run_job(job(bundle, labelled, tmp_path / "out", **asked)).nothing_to_do
    scorer = Scorer.from_pretrained(bundle, activation="calibrated")
    assert np.array_equal(read_output(tmp_path / "out")["score"].to_numpy(), scorer.predict(pairs))
    run_job(job(bundle, labelled, tmp_path / "logits", activation="identity"))
    calibrate_bundle(bundle, pairs[:500], table["relevant"].to_pylist()[:500])
    with pytest.raises(PairscoreError, match="--activation was 'calibrated"):
        run_job(job(bundle, labelled, tmp_path / "out", **asked))
    with pytest.raises(PairscoreError, match="holds scores of activation calibrated"):
        run_job(job(bundle, labelled, tmp_path / "new", reuse=(str(tmp_path / "out"),), **asked))
    summary = run_job(job(bundle, labelled, tmp_path / "new", reuse=(str(tmp_path / "logits"),), **asked))
    assert summary.figures.statistics.pairs == 0
    scorer = Scorer.from_pretrained(bundle, activation="calibrated")
    assert np.array_equal(read_output(tmp_path / "new")["score"].to_numpy(), scorer.predict(pairs))


def test_the_public_function_takes_a_file_or_pairs(bundle, labelled):
    table = pq.read_table(labelled)
    pairs = list(zip(table["claim"].to_pylist(), table["evidence"].to_pylist(), strict=True))
    found = calibrate(bundle, labelled, want_precision=[0.7], want_recall=[])
    assert [each.wanted for each in found.thresholds] == ["precision 0.7"]
    assert calibrate(bundle, pairs, table["relevant"].to_pylist()).scaling == found.scaling
    with pytest.raises(PairscoreError, match="pairs without labels: give labels"):
        calibrate(bundle, pairs)
    with pytest.raises(PairscoreError, match="leave out labels"):
        calibrate(bundle, labelled, [True])


def test_several_labels_get_a_temperature(small_bundle, tmp_path, capfd):
    bundle = shutil.copytree(small_bundle(3), tmp_path / "bundle")
    table = pairs_table(600)
    logits = Scorer.from_pretrained(bundle, activation="identity").score_table(table)
    columns = np.stack([logits[f"score_LABEL_{place}"].to_numpy() for place in range(3)], axis=1)
    p = scaled(3.0, 0.0, columns).astype(np.float64)
    truth = (np.random.default_rng(2).random((600, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    table = table.append_column("label", pa.array([f"LABEL_{place}" for place in truth]))
    pq.write_table(table, tmp_path / "pairs.parquet")
    assert run("calibrate", bundle, "--pairs", tmp_path / "pairs.parquet", "--label-column", "label", "--json") == 0
    told = json.loads(capfd.readouterr().out)
    assert told["scaling"]["slope"] == pytest.approx(3.0, rel=0.3)
    assert told["scaling"]["intercept"] == 0
    assert len(told["thresholds"]) == 3 * 6
    scores = Scorer.from_pretrained(bundle, activation="calibrated").predict([("a", "b")])
    assert scores.sum() == pytest.approx(1.0)
    with pytest.raises(PairscoreError, match="the label 'x' is none of this model's, LABEL_0, LABEL_1, LABEL_2"):
        calibrate_bundle(bundle, [("a", "b")], ["x"])


def test_too_few_labels_and_scores_that_fall_are_errors_and_change_nothing(bundle, labelled):
    before = (bundle / "pairscore.json").read_bytes()
    pairs = [(f"claim {row % 12}", f"evidence {row}") for row in range(60)]
    with pytest.raises(
        PairscoreError, match=r"too few labels .*: 50 false, 10 true, of 12 claims; at least 20 of each"
    ):
        calibrate_bundle(bundle, pairs, [row < 10 for row in range(60)])
    with pytest.raises(PairscoreError, match=r"30 false, 30 true, of 3 claims"):
        calibrate_bundle(bundle, [(f"claim {row % 3}", f"{row}") for row in range(60)], [row < 30 for row in range(60)])
    with pytest.raises(PairscoreError, match="there are 60 pairs and 59 labels"):
        calibrate_bundle(bundle, pairs, [True] * 59)
    table = pq.read_table(labelled)
    pairs = list(zip(table["claim"].to_pylist(), table["evidence"].to_pylist(), strict=True))
    with pytest.raises(PairscoreError, match="scores fall as the labels rise"):
        calibrate_bundle(bundle, pairs, [not label for label in table["relevant"].to_pylist()])
    assert (bundle / "pairscore.json").read_bytes() == before
