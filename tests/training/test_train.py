"""Training for a few steps: the loss falls, the checkpoint is whole, and an interruption changes nothing."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder

from pairscore import PairscoreError
from pairscore.cli import main
from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.model import load_model
from pairscore.training.annotations import read_annotations
from pairscore.training.checkpoint import SIGMOID, save_checkpoint
from pairscore.training.presets import CLIMATE_CLAIMS, CLIMATE_VERDICTS, MODEL_CARD, PRESETS, Preset
from pairscore.training.run import TrainingRun
from pairscore.training.samples import NegativeSampler
from pairscore.training.start import load_untrained
from pairscore.training.teacher import CosineFit, cosines
from pairscore.training.train import labelled_epochs, train
from tests.climate import LABELS, build_bi_encoder, rows, write

# Strong enough to see the loss fall within seconds.
QUICK = replace(
    CLIMATE_CLAIMS,
    batch_size=8,
    learning_rate=2e-3,
    head_learning_rate=4e-3,
    epochs=2,
    teacher_shares=(),
    max_length=48,
)
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    return write(folder / "train.parquet", rows(claims=12)), write(folder / "dev.parquet", rows(claims=8)[:12])


def quick_run(tables, checkpoint, folder, preset: Preset = QUICK, **changes) -> TrainingRun:
    pairs, dev = tables
    run = TrainingRun(preset, str(checkpoint("bert")), (pairs,), folder / "out", (dev,), seed=1, show_progress=False)
    return replace(run, **changes)


@pytest.fixture(scope="module")
def trained(tables, checkpoint, tmp_path_factory):
    """A finished run whose working folder was kept, and what it returned."""
    run = quick_run(tables, checkpoint, tmp_path_factory.mktemp("trained"), keep_partial=True)
    return run, train(run)


def test_the_loss_falls(trained):
    run, _ = trained
    report = json.loads((run.out / "training.json").read_text())
    # 12 claims with 2 relevant and 12 negatives, in batches of 8, twice
    assert (report["samples_an_epoch"], report["steps"]) == (168, 42)
    # Each the mean of the steps since the last one. A run of few steps reports more often than every 25.
    assert [entry["step"] for entry in report["loss"]] == [1, *range(6, 43, 6)]
    losses = [entry["loss"] for entry in report["loss"]]
    assert losses[-1] < 0.8 * losses[0]


def test_the_checkpoint_is_whole_and_scores_with_a_sigmoid(trained, checkpoint):
    run, _ = trained
    names = {path.name for path in run.out.iterdir()}
    files = ("config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json", "training.json", "evaluation.json")
    assert names >= {*files, "README.md"}
    assert {tensor.dtype for tensor in load_file(run.out / WEIGHTS).values()} == {torch.float16}
    config = json.loads((run.out / "config.json").read_text())
    assert (config["sentence_transformers"]["activation_fn"], config["id2label"]) == (SIGMOID, {"0": "LABEL_0"})
    tokenizer = json.loads((run.out / "tokenizer.json").read_text())
    assert (tokenizer["truncation"], tokenizer["padding"]) == (None, None)
    model = CrossEncoder(str(run.out), model_kwargs={"torch_dtype": torch.float32})
    assert isinstance(model.activation_fn, torch.nn.Sigmoid)
    assert model.tokenizer.model_max_length == 64  # the start's, not the shorter one of training
    start = load_file(checkpoint("bert") / WEIGHTS)
    assert all(not torch.equal(start[name].half(), tensor) for name, tensor in load_file(run.out / WEIGHTS).items())


def test_figures_are_taken_over_both_pools(trained):
    run, evaluations = trained
    recorded = json.loads((run.out / "evaluation.json").read_text())
    assert recorded == [json.loads(json.dumps(evaluation.to_dict())) for evaluation in evaluations]
    assert [each["pool_sentences"] for each in recorded] == [12, 36]
    assert [figures["system"] for figures in recorded[0]["systems"]] == ["BM25", "start", "this model"]


def test_an_interrupted_run_ends_as_if_it_had_not_been(trained, tmp_path):
    """Both ends of a run from its first kept checkpoint, dropout included, give the same bits."""
    run, _ = trained
    again = replace(run, out=tmp_path / "out", resume=True)
    shutil.copytree(run.partial, again.partial)
    kept = sorted(again.checkpoints.iterdir(), key=lambda path: int(path.name.rpartition("-")[2]))
    assert [path.name for path in kept] == ["checkpoint-36", "checkpoint-42"]
    shutil.rmtree(kept[-1])
    train(again)
    first, second = load_file(run.out / WEIGHTS), load_file(again.out / WEIGHTS)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert json.loads((again.out / "training.json").read_text())["resumed"] is True


def test_another_run_is_not_resumed(trained, tmp_path):
    run, _ = trained
    other = replace(run, out=tmp_path / "out", resume=True, seed=2)
    shutil.copytree(run.partial, other.partial)
    with pytest.raises(PairscoreError, match="another preset, seed, start or files"):
        train(other)
    with pytest.raises(PairscoreError, match="nothing to resume"):
        train(replace(run, out=tmp_path / "never", resume=True))
    with pytest.raises(PairscoreError, match="continue it with --resume"):
        train(replace(other, resume=False))
    with pytest.raises(PairscoreError, match="is there already: choose another --out"):
        train(run)


def test_the_teacher_has_its_share_of_each_epoch_s_labels(tables, checkpoint, tmp_path):
    start = build_bi_encoder(checkpoint("bert"), tmp_path / "bi-encoder")
    preset = replace(QUICK, epochs=3, teacher_shares=(1.0, 0.25, 0.0))
    run = quick_run(tables, checkpoint, tmp_path, preset)
    sampler = NegativeSampler(read_annotations(run.pairs), run.seed)
    epochs, fitted = labelled_epochs(run, sampler, start)
    assert fitted is not None
    for number, share in enumerate(preset.teacher_shares):
        gold = sampler.epoch(number)
        pairs = [(sample.claim, sample.evidence) for sample in gold]
        assert [(sample.claim, sample.evidence) for sample in epochs[number]] == pairs
        opinion = CosineFit(**fitted).probabilities(cosines(str(start), pairs, show_progress=False))
        expected = share * opinion + (1 - share) * np.array([sample.label for sample in gold])
        np.testing.assert_allclose([sample.label for sample in epochs[number]], expected, atol=1e-6)
        assert all(0 <= sample.label <= 1 for sample in epochs[number])


def test_the_model_card_preset_keeps_the_best_checkpoint(tables, checkpoint, tmp_path):
    """Rates so high that weights get worse again: the kept ones are those that were best on dev."""
    preset = replace(MODEL_CARD, learning_rate=0.05, epochs=2, max_length=48)
    run = quick_run(tables, checkpoint, tmp_path, preset, keep_partial=True)
    train(run)
    last = max(run.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    state = json.loads((last / "trainer_state.json").read_text())
    evaluated = {entry["step"]: entry["eval_dev_map"] for entry in state["log_history"] if "eval_dev_map" in entry}
    assert list(evaluated) == [3, 6, 9, 12, 15, 18, 21, 22]  # four an epoch of 11 steps, and the end
    assert evaluated[state["best_global_step"]] == max(evaluated.values())
    best = load_file(run.checkpoints / f"checkpoint-{state['best_global_step']}" / WEIGHTS)
    assert all(torch.equal(best[name].half(), tensor) for name, tensor in load_file(run.out / WEIGHTS).items())


def test_presets_are_the_recipes():
    card = PRESETS["model-card"]
    assert (card.batch_size, card.learning_rate, card.weight_decay, card.epochs) == (16, 1e-6, 0.01, 1)
    assert (card.warmup_ratio, card.half_precision, card.keep, card.teacher_shares) == (0.1, "fp16", "best", ())
    with pytest.raises(ValueError, match="teacher shares"):
        replace(CLIMATE_CLAIMS, epochs=9)


def test_saving_leaves_the_model_as_it_was(checkpoint, tmp_path):
    model = load_untrained(checkpoint("bert"), 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = model.predict([("Sea ice melts.", "The ice is melting.")])
    save_checkpoint(model, tmp_path / "saved")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "saved").iterdir()} == {0o644}
    saved = CrossEncoder(str(tmp_path / "saved"), model_kwargs={"torch_dtype": torch.float32})
    np.testing.assert_allclose(saved.predict([("Sea ice melts.", "The ice is melting.")]), expected, atol=5e-3)


def test_a_stack_of_modules_is_trained_and_stays_one(tables, checkpoint, tmp_path):
    """Ettin's layout: every module learns, is saved in fp16, is evaluated, and is what an export then computes."""
    start = checkpoint("ettin", layers=1)
    run = replace(quick_run(tables, checkpoint, tmp_path, replace(QUICK, epochs=1)), start=str(start))
    evaluations = train(run)
    assert [figures.system for figures in evaluations[0].systems] == ["BM25", "start", "this model"]
    assert (run.out / "modules.json").read_text() == (start / "modules.json").read_text()
    for name in (WEIGHTS, f"2_Dense/{WEIGHTS}", f"3_LayerNorm/{WEIGHTS}", f"4_Dense/{WEIGHTS}"):
        before, after = load_file(start / name), load_file(run.out / name)
        assert {tensor.dtype for tensor in after.values()} == {torch.float16}
        assert not any(torch.equal(before[key].half(), after[key]) for key in before)
    tokenizer = json.loads((run.out / "tokenizer.json").read_text())
    assert (tokenizer["truncation"], tokenizer["padding"]) == (None, None)
    model = CrossEncoder(str(run.out), model_kwargs={"torch_dtype": torch.float32})
    assert isinstance(model.activation_fn, torch.nn.Sigmoid)
    pairs = [("Sea ice melts.", "The ice is melting."), ("Sea ice melts.", "Penguins live in the south.")]
    exported = load_model(open_checkpoint(str(run.out)))
    features = model.tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = exported(*(features[name] for name in exported.inputs))
    np.testing.assert_allclose(torch.sigmoid(logits[:, 0]), model.predict(pairs), atol=1e-5)


def test_labels_are_learned_and_evaluated(tables, checkpoint, tmp_path, capfd):
    """Three labels, from a start with one: the loss falls, the figures on dev are those of `pairscore evaluate`."""
    preset = replace(CLIMATE_VERDICTS, batch_size=8, learning_rate=5e-3, head_learning_rate=1e-2, epochs=16)
    run = quick_run(tables, checkpoint, tmp_path, preset)
    (evaluation,) = train(run)
    report = json.loads((run.out / "training.json").read_text())
    assert report["pairs_by_label"] == dict.fromkeys(LABELS, 12)
    losses = [entry["loss"] for entry in report["loss"]]
    assert losses[-1] < 0.8 * losses[0]
    assert json.loads((run.out / "evaluation.json").read_text()) == [json.loads(json.dumps(evaluation.to_dict()))]
    model = CrossEncoder(str(run.out), model_kwargs={"torch_dtype": torch.float32})
    assert isinstance(model.activation_fn, torch.nn.Identity)
    assert tuple(model.config.id2label.values()) == LABELS
    for text in ("macro-F1", "12 SUPPORTS, 12 REFUTES", "apply_softmax=True", "cross-entropy over the labels"):
        assert text in (run.out / "README.md").read_text()
    command = ["evaluate", run.out, "--pairs", run.dev[0], "--label-column", "evidence_label", "--quiet"]
    capfd.readouterr()
    assert run_command(*command, "--json") == 0
    told = json.loads(capfd.readouterr().out)
    assert told["systems"][1] | {"system": ""} == json.loads(json.dumps(evaluation.to_dict()))["systems"][1] | {
        "system": ""
    }
    assert run_command(*command) == 0
    assert "rows are evidence_label" in capfd.readouterr().out


def test_labels_that_are_not_there_are_an_error(tables, checkpoint, tmp_path):
    table = rows(claims=3)
    other = write(tmp_path / "other.parquet", [{**row, "evidence_label": "MAYBE"} for row in table])
    some = write(tmp_path / "some.parquet", [row for row in table if row["evidence_label"] != "REFUTES"])
    for file, message in ((other, "row 0 has the label 'MAYBE', which is none of SUPPORTS"), (some, "label 'REFUTES'")):
        run = replace(quick_run(tables, checkpoint, tmp_path, CLIMATE_VERDICTS), pairs=(file,))
        with pytest.raises(PairscoreError, match=message):
            train(run)
        assert not run.partial.exists()
    with pytest.raises(ValueError, match="labels need a column"):
        replace(CLIMATE_VERDICTS, label_column=None)


def test_a_stack_with_several_scores_cannot_be_trained(checkpoint):
    with pytest.raises(PairscoreError, match="gives 3 scores a pair"):
        load_untrained(checkpoint("ettin", 3), 0)


# The command -------------------------------------------------------------------------------------------


def run_command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    assert isinstance(leaving.value.code, int)
    return leaving.value.code


def test_the_command_trains_in_one_go(tables, checkpoint, tmp_path, capfd):
    pairs, dev = tables
    options = ["--preset", "model-card", "--start", checkpoint("bert"), "--max-steps", 3, "--quiet"]
    assert run_command("train", "--pairs", pairs, "--dev", dev, "--out", tmp_path / "out", *options) == 0
    out, _ = capfd.readouterr()
    assert "BM25" in out
    assert "this model" in out
    assert (tmp_path / "out" / WEIGHTS).is_file()
    assert not (tmp_path / "out.partial").exists()


def test_bad_input_is_one_line_and_writes_nothing(tables, checkpoint, tmp_path, capfd):
    pairs, dev = tables
    few = write(tmp_path / "few.parquet", rows(claims=3))
    unlabelled = write(tmp_path / "unlabelled.parquet", [{"claim": "a", "evidence": "x"}])
    start = checkpoint("bert")
    cases = {
        "no column 'relevant'": ["--pairs", unlabelled, "--start", start, "--dev", dev],
        "needs 12 sentences": ["--pairs", few, "--start", start, "--dev", dev],
        "give --dev FILE": ["--pairs", pairs, "--start", start],
        "is no sentence embedding model": ["--pairs", pairs, "--start", start, "--preset", "climate-claims"],
        "cannot be had from the hub": ["--pairs", pairs, "--start", "someone/of-no-such-name", "--dev", dev],
    }
    for message, options in cases.items():
        assert run_command("train", "--out", tmp_path / "out", *options) == 2
        _, errors = capfd.readouterr()
        assert message in errors
        assert errors.strip().count("\n") == 0
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "out.partial").exists()
