"""Fine-tune a cross-encoder with sentence-transformers' trainer: to relevance, or to one of several labels.

The work happens in `OUT.partial` beside the output folder: the trainer's checkpoints, and the configuration that a
resumed run must share. The finished checkpoint is renamed into place.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, CrossEntropyLoss
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from pairscore.runtime.errors import PairscoreError
from pairscore.training.annotations import Annotations, read_annotations
from pairscore.training.batch_order import PlannedBatches, plan_epoch
from pairscore.training.card import write_card
from pairscore.training.checkpoint import save_checkpoint
from pairscore.training.evaluate import TRAINING_NAME, Evaluation, Start, evaluate, evaluate_labels, reranking_evaluator
from pairscore.training.labels import LabelEvaluation, read_labelled
from pairscore.training.report import EVALUATION_NAME, configuration, training_report, write_json
from pairscore.training.run import TrainingRun
from pairscore.training.samples import NegativeSampler, Sample
from pairscore.training.start import find_start, is_bi_encoder, load_untrained
from pairscore.training.teacher import cosines, fit_cosines

RUN_NAME = "run.json"
# Names of the head's parameters within the loss: of a classifier, or of the modules behind the transformer.
_HEAD = r"pooler|classifier|^model\.[1-9]\d*\."


def train(run: TrainingRun) -> list[Evaluation] | list[LabelEvaluation]:
    """Train, evaluate on the dev files, and leave the checkpoint and its report in `run.out`.

    Returns the evaluations: see `evaluate_on_dev`.

    Raises PairscoreError for bad input, an output folder in use, and a resume that does not fit; before the
    first step, so that nothing is half written.
    """
    if run.preset.keep == "best" and not run.dev:
        raise PairscoreError(
            f"preset {run.preset.name!r} keeps the checkpoint that is best on dev files: give --dev FILE"
        )
    data = _labelled(run) if run.preset.labels else _relevance(run)
    start = find_start(run.start)
    if run.preset.teacher_shares and not is_bi_encoder(start):
        raise PairscoreError(
            f"preset {run.preset.name!r} learns from its start's cosine similarities, and {run.start!r} is no sentence "
            "embedding model: give one with --start, or use --preset model-card"
        )
    settings = configuration(run, start, data.counts)
    _open_partial(run, settings)

    began = time.monotonic()
    epochs, calibration = data.epochs(start)
    model = load_untrained(start, run.seed, run.preset.labels)
    limit = model.tokenizer.model_max_length
    if run.preset.max_length is not None:
        model.tokenizer.model_max_length = min(run.preset.max_length, limit)
    trainer = _trainer(run, model, epochs, data)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(run.checkpoints)) if run.resume else None)
    model.tokenizer.model_max_length = limit
    report = training_report(
        settings,
        samples_an_epoch=len(epochs[0]),
        calibration=calibration,
        state=trainer.state,
        seconds=time.monotonic() - began,
        resumed=run.resume,
    )
    return _finish(run, model, report)


def _finish(run: TrainingRun, model: CrossEncoder, report: dict[str, Any]) -> list[Evaluation] | list[LabelEvaluation]:
    finished = run.partial / "finished"
    shutil.rmtree(finished, ignore_errors=True)
    save_checkpoint(model, finished)
    write_json(finished / TRAINING_NAME, report)
    evaluations = evaluate_on_dev(finished, run)
    if evaluations:
        write_json(finished / EVALUATION_NAME, [evaluation.to_dict() for evaluation in evaluations])
    write_card(finished, run.out.name)
    finished.rename(run.out)
    if not run.keep_partial:
        shutil.rmtree(run.partial)
    return evaluations


def evaluate_on_dev(checkpoint: Path, run: TrainingRun) -> list[Evaluation] | list[LabelEvaluation]:
    """The stored weights on the dev claims; empty without dev files.

    Relevance: candidates from the dev files, then from the training files as well. Labels: the dev files' own pairs.
    """
    if not run.dev:
        return []
    name, show = "this model", run.show_progress
    if run.preset.label_column is not None:
        return [evaluate_labels(str(checkpoint), run.dev, run.preset.label_column, name=name, show_progress=show)]
    start = Start(run.start, run.seed)
    return [
        evaluate(str(checkpoint), run.dev, pool=pool, start=start, name=name, show_progress=show)
        for pool in ((), run.pairs)
    ]


def _open_partial(run: TrainingRun, settings: dict[str, Any]) -> None:
    """Create the working folder, or check that the interrupted run in it is the same run."""
    recorded = run.partial / RUN_NAME
    if run.out.exists():
        raise PairscoreError(f"{str(run.out)!r} is there already: choose another --out, or delete it")
    if run.resume:
        if not run.checkpoints.is_dir() or get_last_checkpoint(str(run.checkpoints)) is None:
            raise PairscoreError(f"nothing to resume: {str(run.checkpoints)!r} holds no checkpoint; leave out --resume")
        if not recorded.is_file() or json.loads(recorded.read_text(encoding="utf-8")) != settings:
            raise PairscoreError(
                f"the interrupted run in {str(run.partial)!r} had another preset, seed, start or files than this one: "
                f"repeat its options (see {RUN_NAME} there), or delete the folder and start anew"
            )
        return
    if run.partial.exists():
        raise PairscoreError(f"{str(run.partial)!r} is there already: continue it with --resume, or delete it")
    run.partial.mkdir(parents=True)
    write_json(recorded, settings)


# Samples -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Data:
    """What is learned from. `counts`: of the files, for the report. `epochs`: from the start's folder to the samples of
    every epoch and the teacher's calibration. `label_weights`: of each label in the loss; empty for relevance. `dev`:
    claims that the best weights are chosen by.
    """

    counts: dict[str, Any]
    epochs: Callable[[Path], tuple[list[list[Sample]], dict[str, float] | None]]
    label_weights: tuple[float, ...] = ()
    dev: Annotations | None = None


def _relevance(run: TrainingRun) -> _Data:
    annotations = read_annotations(run.pairs)
    dev = read_annotations(run.dev) if run.dev else None
    sampler = NegativeSampler(annotations, run.seed)
    sampler.epoch(0)  # too few sentences are an error before anything is written
    counts = {
        "claims": len(annotations.claims),
        "relevant_pairs": annotations.relevant_pairs,
        "evidence_sentences": len(annotations.evidence),
    }
    return _Data(counts, lambda start: labelled_epochs(run, sampler, start), dev=dev)


def _labelled(run: TrainingRun) -> _Data:
    labels, column = run.preset.labels, run.preset.label_column or ""
    labelled = read_labelled(run.pairs, column, labels)
    read_labelled(run.dev, column, labels)
    found = {label: labelled.labels.count(label) for label in labels}
    if not all(found.values()):
        missing = next(label for label, count in found.items() if not count)
        raise PairscoreError(f"no pair has the label {missing!r} in column {column!r}: give files that hold each label")
    samples = [
        Sample(claim, evidence, labels.index(label))
        for (claim, evidence), label in zip(labelled.pairs, labelled.labels, strict=True)
    ]
    counts = {"claims": labelled.claims, "pairs_by_label": found}
    weights = tuple(len(samples) / (len(labels) * count) for count in found.values()) if run.preset.balanced else ()
    return _Data(counts, lambda _: ([samples] * run.preset.epochs, None), weights or (1.0,) * len(labels))


def labelled_epochs(
    run: TrainingRun, sampler: NegativeSampler, start: Path
) -> tuple[list[list[Sample]], dict[str, float] | None]:
    """The samples of every epoch, the teacher's share mixed into their labels, and the teacher's calibration."""
    epochs = [sampler.epoch(number if run.preset.fresh_negatives else 0) for number in range(run.preset.epochs)]
    if not run.preset.teacher_shares:
        return epochs, None
    flat = [sample for epoch in epochs for sample in epoch]
    cosine = cosines(str(start), [(sample.claim, sample.evidence) for sample in flat], run.show_progress)
    labels = np.asarray([sample.label for sample in flat])
    calibration = fit_cosines(cosine, labels)
    size = len(epochs[0])
    shares = np.repeat(run.preset.teacher_shares, size)
    mixed = (1.0 - shares) * labels + shares * calibration.probabilities(cosine)
    relabelled = [
        Sample(sample.claim, sample.evidence, float(label)) for sample, label in zip(flat, mixed, strict=True)
    ]
    return [relabelled[place : place + size] for place in range(0, len(flat), size)], asdict(calibration)


# The trainer -------------------------------------------------------------------------------------------


class _PlannedTrainer(CrossEncoderTrainer):
    """The trainer with the batches of a plan, so that all epochs are one pass which can be resumed anywhere."""

    plan: Sequence[npt.NDArray[np.int64]] = ()

    def get_batch_sampler(self, dataset: Dataset, batch_size: int, *_: Any, **__: Any) -> PlannedBatches:
        return PlannedBatches(dataset, self.plan, batch_size)


class _EvaluateTheEnd(TrainerCallback):
    """Evaluates after the last step as well, so that the final weights can be the best ones."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = True
            control.should_save = True


def _trainer(run: TrainingRun, model: CrossEncoder, epochs: list[list[Sample]], data: _Data) -> _PlannedTrainer:
    dev = data.dev
    rows = [sample for epoch in epochs for sample in epoch]
    plan = _plan(run, model, epochs)
    evaluator = reranking_evaluator(dev, dev.evidence, name="dev") if run.preset.keep == "best" and dev else None
    trainer = _PlannedTrainer(
        model=model,
        args=_arguments(run, interval=math.ceil(len(plan) / len(epochs) / run.preset.saves_an_epoch)),
        train_dataset=Dataset.from_dict(
            {
                "claim": [row.claim for row in rows],
                "evidence": [row.evidence for row in rows],
                "label": [row.label for row in rows],
            }
        ),
        loss=_loss(model, data.label_weights),
        evaluator=evaluator,
        callbacks=[_EvaluateTheEnd()] if evaluator is not None else None,
    )
    trainer.plan = plan
    return trainer


def _loss(model: CrossEncoder, label_weights: Sequence[float]) -> Any:
    """Cross-entropy over the labels; binary for relevance, whose positives weigh no more than negatives."""
    if not label_weights:
        return BinaryCrossEntropyLoss(model)
    return CrossEntropyLoss(model, weight=torch.tensor(label_weights, device=model.device))


def _arguments(run: TrainingRun, interval: int) -> CrossEncoderTrainingArguments:
    preset = run.preset
    best = preset.keep == "best"
    cuda = torch.cuda.is_available()
    bfloat16 = cuda and preset.half_precision == "bf16" and torch.cuda.is_bf16_supported()
    head = preset.head_learning_rate
    return CrossEncoderTrainingArguments(
        output_dir=str(run.checkpoints),
        num_train_epochs=1,  # the plan holds all epochs
        max_steps=-1 if run.max_steps is None else run.max_steps,
        per_device_train_batch_size=preset.batch_size,
        learning_rate=preset.learning_rate,
        learning_rate_mapping={} if head is None else {_HEAD: head},
        weight_decay=preset.weight_decay,
        warmup_ratio=preset.warmup_ratio,
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        fp16=cuda and not bfloat16,
        bf16=bfloat16,
        seed=run.seed,
        data_seed=run.seed,
        save_strategy="steps",
        save_steps=interval,
        save_total_limit=2,
        eval_strategy="steps" if best else "no",
        eval_steps=interval if best else None,
        load_best_model_at_end=best,
        metric_for_best_model="eval_dev_map" if best else None,
        logging_steps=min(25, interval),
        logging_first_step=True,
        report_to="none",
        disable_tqdm=not run.show_progress,
        dataloader_pin_memory=cuda,
    )


def _plan(run: TrainingRun, model: CrossEncoder, epochs: list[list[Sample]]) -> list[npt.NDArray[np.int64]]:
    """Batches as places in the concatenation of all epochs, epoch after epoch."""
    plan: list[npt.NDArray[np.int64]] = []
    first = 0
    for number, samples in enumerate(epochs):
        claims, evidence = [sample.claim for sample in samples], [sample.evidence for sample in samples]
        encoded = model.tokenizer(claims, evidence, truncation=True, return_length=True)
        generator = np.random.default_rng([run.seed, number, 1])
        lengths = np.asarray(encoded["length"], dtype=np.int64)
        batches = plan_epoch(lengths, run.preset.batch_size, generator, run.preset.group_by_length)
        plan += [rows + first for rows in batches]
        first += len(samples)
    return plan
