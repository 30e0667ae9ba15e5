"""The model card of a trained checkpoint, written from its `training.json` and `evaluation.json` alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pairscore.training.evaluate import TRAINING_NAME
from pairscore.training.report import EVALUATION_NAME

# Hub id of the starting weights -> their licence, and the name that their authors give them.
_STARTS = {
    "sentence-transformers/all-MiniLM-L6-v2": ("Apache-2.0", "a sentence embedding model, MiniLM-L6-H384"),
    "cross-encoder/ms-marco-MiniLM-L6-v2": ("Apache-2.0", "a reranker trained on MS MARCO, MiniLM-L6-H384"),
}

_CLIMATE_FEVER = """\
CLIMATE-FEVER: Thomas Diggelmann, Jordan Boyd-Graber, Jannis Bulian, Massimiliano Ciaramita and Markus Leippold,
*CLIMATE-FEVER: A Dataset for Verification of Real-World Climate Claims*, 2020, arXiv 2012.00614. Its evidence
sentences are from the English Wikipedia (CC BY-SA). The data are not part of this checkpoint."""

_RELEVANCE_LIMITS = (
    "A high score says that a sentence bears on the claim, not that it supports it: evidence that refutes a claim "
    "counts as\n  relevant too.",
    "Sentences that nobody annotated for a claim serve as negatives, in training as in the figures. Some of them would"
    "\n  be relevant to a careful reader.",
    "The score is not a calibrated probability: the share of relevant pairs in training is the sampling's.\n"
    "  `pairscore calibrate` makes it one for pairs like yours.",
    "Among sentences that are all near the claim, the score hardly tells relevant ones from others, calibrated or not.",
)
_LABEL_LIMITS = (
    "It saw annotated sentences alone, all of them near their claim. Of sentences from elsewhere nothing is known.",
    "The labels are those of single sentences. What several sentences say together is for the reader to decide.",
    "The probabilities are not calibrated: in the loss, a rare label weighs as much as a frequent one.",
)


def write_card(folder: Path, name: str) -> None:
    """Write `README.md` into a checkpoint folder. `name`: what the model is called."""
    training = json.loads((folder / TRAINING_NAME).read_text(encoding="utf-8"))
    path = folder / EVALUATION_NAME
    evaluations = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    (folder / "README.md").write_text(model_card(name, training, evaluations), encoding="utf-8")


def model_card(name: str, training: dict[str, Any], evaluations: Sequence[dict[str, Any]]) -> str:
    """The text of a model card: Markdown under the metadata that the hub reads."""
    sections = [
        _metadata(training),
        f"# {name}",
        _introduction(training),
        _usage(name, training),
        "## Figures",
        _figures(evaluations),
        "## Training",
        _training(training),
        "## Limits",
        _limits(training),
        "## Licences",
        _licences(training),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _metadata(training: dict[str, Any]) -> str:
    return "\n".join(
        [
            "---",
            "language: en",
            "license: apache-2.0",
            "library_name: sentence-transformers",
            "pipeline_tag: text-ranking",
            "tags: [cross-encoder, text-classification, fact-checking, climate]",
            f"base_model: {training['start']}",
            "datasets: [tdiggelm/climate_fever]",
            "---",
        ]
    )


def _introduction(training: dict[str, Any]) -> str:
    labels = training["preset"].get("labels")
    if labels:
        return (
            "A cross-encoder that says what a sentence does to a claim. It reads both texts together, the claim first, "
            f"and gives a logit for each of {', '.join(labels)}; a softmax turns them into probabilities."
        )
    return (
        "A cross-encoder that scores how well a sentence serves as evidence for a claim. It reads both texts together "
        "and gives one logit; a sigmoid turns it into a score between 0 and 1."
    )


def _usage(name: str, training: dict[str, Any]) -> str:
    softmax = ", apply_softmax=True" if training["preset"].get("labels") else ""
    return f"""\
```python
from sentence_transformers import CrossEncoder

model = CrossEncoder("{name}", model_kwargs={{"torch_dtype": "float32"}})
scores = model.predict([("Sea levels are falling.", "Global mean sea level has risen since 1900.")]{softmax})
```

The weights are stored in fp16. Load them in fp32 as above for the reference scores: transformers 5 otherwise keeps
fp16, whose scores differ and which a CPU computes slowly. `pairscore export {name} BUNDLE` makes a bundle that
runs without PyTorch."""


def _figures(evaluations: Sequence[dict[str, Any]]) -> str:
    if not evaluations:
        return "This run was given no files to evaluate on."
    if "column" in evaluations[0]:
        return "\n\n".join(map(_label_figures, evaluations))
    parts = [
        "By sentence-transformers' `CrossEncoderRerankingEvaluator`, on the weights as stored, in fp32. Candidates of "
        "a claim are BM25's top 50 sentences of a pool, plus the claim's relevant ones. A larger pool holds more "
        "look-alikes and gives lower figures, so figures over different pools do not compare."
    ]
    for evaluation in evaluations:
        files = ", ".join(each["file"] for each in [*evaluation["files"], *evaluation["pool_files"]])
        rows = [
            f"| {each['system']} | {each['map']:.4f} | {each['mrr_at_5']:.4f} | {each['ndcg_at_5']:.4f} |"
            for each in evaluation["systems"]
        ]
        parts.append(
            "\n".join(
                [
                    f"{evaluation['claims']:,} claims with {evaluation['relevant_pairs']:,} relevant pairs; pool of "
                    f"{evaluation['pool_sentences']:,} sentences ({files}); "
                    f"{evaluation['scored_pairs']:,} pairs scored:",
                    "",
                    "| system | MAP | MRR@5 | NDCG@5 |",
                    "|---|---|---|---|",
                    *rows,
                ]
            )
        )
    return "\n\n".join(parts)


def _label_figures(evaluation: dict[str, Any]) -> str:
    labels = evaluation["labels"]
    rows = [
        f"| {each['system']} | {each['accuracy']:.4f} | {each['macro_f1']:.4f} | "
        + " | ".join(f"{each['f1'][label]:.4f}" for label in labels)
        + " |"
        for each in evaluation["systems"]
    ]
    confusion = [
        f"| {label} | " + " | ".join(map(str, row)) + " |"
        for label, row in zip(labels, evaluation["systems"][-1]["confusion"], strict=True)
    ]
    line = "|---" * (len(labels) + 1) + "|"
    return "\n".join(
        [
            f"{evaluation['pairs']:,} pairs of {evaluation['claims']:,} claims "
            f"({', '.join(each['file'] for each in evaluation['files'])}), on the weights as stored, in fp32:",
            "",
            f"| system | accuracy | macro-F1 | {' | '.join(f'F1 {label}' for label in labels)} |",
            "|---|---" + line,
            *rows,
            "",
            "How often each label (rows) was taken for each other (columns):",
            "",
            f"| | {' | '.join(labels)} |",
            line,
            *confusion,
        ]
    )


def _training(training: dict[str, Any]) -> str:
    preset, negatives, machine = training["preset"], training["negatives"], training["machine"]
    head = preset["head_learning_rate"]
    rates = f"learning rate {preset['learning_rate']:g}" + (f" ({head:g} for pooler and classifier)" if head else "")
    rows = [
        (
            "Start",
            f"`{training['start']}`{_described(training['start'])}, weights SHA-256 `{training['start_sha256']}`",
        ),
        ("Data", _data(training)),
        ("Samples", f"{training['samples_an_epoch']:,} an epoch: {_samples(preset, negatives)}"),
        ("Loss", _loss(preset)),
        ("Labels", _labels(training)),
        (
            "Preset",
            f"`{preset['name']}`: epochs: {preset['epochs']}, batch {preset['batch_size']}, {rates}, "
            f"{preset['warmup_ratio']:.0%} warm-up then linear decay, weight decay {preset['weight_decay']:g}, "
            f"{_length(preset['max_length'])}; the {preset['keep']} weights are kept",
        ),
        ("Seed", str(training["seed"])),
        ("Steps", f"{training['steps']:,}" + _stopped(training["max_steps"])),
        ("Loss over time", _losses(training["loss"])),
        (
            "Time",
            f"{training['seconds'] / 60:.0f} minutes{' since it was resumed' if training['resumed'] else ''}, finished "
            f"{training['finished'][:10]}",
        ),
        (
            "Machine",
            f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads"
            + (f", {machine['gpu']}" if machine["gpu"] else ", no GPU"),
        ),
        ("Libraries", ", ".join(f"{library} {release}" for library, release in training["versions"].items())),
    ]
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)])
    command = _command(training)
    choices = training.get("choices_on_dev") or []
    chosen = "\n".join(f"- {choice}" for choice in choices)
    return "\n\n".join(
        [table, f"The same again:\n\n```sh\n{command}\n```"]
        + ([f"Decided by looking at figures of the dev files:\n\n{chosen}"] if choices else [])
    )


def _samples(preset: dict[str, Any], negatives: dict[str, Any] | None) -> str:
    if negatives is None:
        return "the annotated pairs, the same in every epoch"
    return (
        f"relevant evidence, and {negatives['each_claim']} negatives a "
        f"claim that nobody annotated for it, {negatives['hard']} of BM25's top "
        f"{negatives['hard_from_bm25_ranks']} and the others at random"
        + (", drawn anew each epoch" if preset["fresh_negatives"] else "")
    )


def _loss(preset: dict[str, Any]) -> str:
    if not preset.get("labels"):
        return "binary cross-entropy on the logit, no weight on positives"
    return "cross-entropy over the labels" + (", each label of equal weight" if preset["balanced"] else "")


def _described(start: str) -> str:
    return f" ({_STARTS[start][1]})" if start in _STARTS else ""


def _data(training: dict[str, Any]) -> str:
    files = ", ".join(f"`{each['file']}` (SHA-256 `{each['sha256'][:16]}…`)" for each in training["data"])
    if "pairs_by_label" in training:
        counted = ", ".join(f"{count:,} {label}" for label, count in training["pairs_by_label"].items())
        return f"{files}: {training['claims']:,} claims, pairs: {counted}"
    return (
        f"{files}: {training['claims']:,} claims, {training['relevant_pairs']:,} relevant pairs, "
        f"{training['evidence_sentences']:,} sentences"
    )


def _labels(training: dict[str, Any]) -> str:
    if training["preset"].get("labels"):
        return f"`{training['preset']['label_column']}`: {', '.join(training['preset']['labels'])}"
    shares, calibration = training["preset"]["teacher_shares"], training["teacher_calibration"]
    if not shares:
        return "1 for relevant evidence, 0 for negatives"
    listed = ", ".join(f"{share:g}" for share in shares)
    return (
        "1 for relevant evidence, 0 for negatives, mixed with what the start's own cosine similarity says, "
        f"1 / (1 + exp(-({calibration['slope']:.3f} · cosine {calibration['intercept']:+.3f}))); the share of that, "
        f"epoch by epoch: {listed}"
    )


def _length(tokens: int | None) -> str:
    return "the start's maximum length" if tokens is None else f"pairs cut to {tokens} tokens in training only"


def _stopped(max_steps: int | None) -> str:
    return "" if max_steps is None else f" (stopped by --max-steps {max_steps})"


def _losses(losses: Sequence[dict[str, float]]) -> str:
    picked = [losses[place * (len(losses) - 1) // 5] for place in range(6)] if losses else []
    return ", ".join(
        f"{each['loss']:.3f} (step {each['step']})" for each in {each["step"]: each for each in picked}.values()
    )


def _command(training: dict[str, Any]) -> str:
    parts = ["pairscore train", f"--preset {training['preset']['name']}", f"--start {training['start']}"]
    parts += [f"--pairs {each['file']}" for each in training["data"]]
    parts += [f"--dev {each['file']}" for each in training["dev"]]
    parts += [f"--seed {training['seed']}"]
    if training["max_steps"] is not None:
        parts += [f"--max-steps {training['max_steps']}"]
    return " ".join([*parts, "--out OUT"])


def _limits(training: dict[str, Any]) -> str:
    lines = [
        f"It was trained on {training['claims']:,} English claims about the climate and sentences from Wikipedia. "
        "Other\n  subjects, languages and kinds of text were not measured.",
        *(_LABEL_LIMITS if training["preset"].get("labels") else _RELEVANCE_LIMITS),
    ]
    return "\n".join(f"- {line}" for line in lines)


def _licences(training: dict[str, Any]) -> str:
    licence = _STARTS.get(training["start"], ("see its own card", ""))[0]
    return f"These weights: Apache-2.0. The start, `{training['start']}`: {licence}.\n\n{_CLIMATE_FEVER}"
