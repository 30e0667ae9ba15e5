"""`pairscore train` and `pairscore evaluate`. PyTorch is imported only once the arguments are read."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pairscore.runtime.bundle.manifest import PAIR_ORDERS, PairOrder
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.machine import require_modules
from pairscore.training.presets import PRESETS

if TYPE_CHECKING:
    from pairscore.training.evaluate import Evaluation, Start
    from pairscore.training.labels import LabelEvaluation

_MODULES = ("torch", "transformers", "sentence_transformers", "accelerate", "datasets", "bm25s", "sklearn")
_PRESETS = "; ".join(f"{preset.name}: {preset.summary}" for preset in PRESETS.values())


@click.command()
@click.option(
    "--pairs",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Parquet file of annotated pairs to train on (columns claim, evidence, relevant). Repeat for more files.",
)
@click.option(
    "--dev",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Parquet file of other claims, evaluated at the end. Repeat for more files.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder for the checkpoint.")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="model-card", show_default=True, help=_PRESETS)
@click.option("--start", help="Weights to start from, a folder or a Hugging Face id.  [default: the preset's]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of everything random.")
@click.option("--max-steps", type=click.IntRange(min=1), help="Stop after so many steps, to try things out.")
@click.option("--resume", is_flag=True, help="Continue the interrupted run of the same options.")
@click.option("--keep-partial", is_flag=True, help="Keep OUT.partial, the trainer's checkpoints, after the end.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def train(
    *,
    pairs: tuple[Path, ...],
    dev: tuple[Path, ...],
    out: Path,
    preset: str,
    start: str | None,
    seed: int,
    max_steps: int | None,
    resume: bool,
    keep_partial: bool,
    quiet: bool,
) -> int:
    """Fine-tune a cross-encoder on claims and evidence into the new folder OUT.

    Samples of an epoch: each claim's relevant evidence, and 12 sentences that nobody annotated for it, 6 of
    BM25's best 50 and 6 at random. The work happens in OUT.partial; OUT appears when it is complete, with the
    run's own account in training.json, the figures on --dev in evaluation.json and a model card.
    """
    require_modules(_MODULES, "training or evaluating", "train")
    from pairscore.training.run import TrainingRun
    from pairscore.training.train import train as run_training

    chosen = PRESETS[preset]
    run = TrainingRun(
        preset=chosen,
        start=start or chosen.start,
        pairs=pairs,
        dev=dev,
        out=out,
        seed=seed,
        max_steps=max_steps,
        resume=resume,
        keep_partial=keep_partial,
        show_progress=not quiet,
    )
    for evaluation in run_training(run):
        print_any(evaluation)
    click.echo(f"Wrote {out}", err=True)
    return 0


@click.command()
@click.argument("model")
@click.option(
    "--pairs",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Parquet file of the claims to evaluate (columns claim, evidence, relevant). Repeat for more files.",
)
@click.option(
    "--pool",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Parquet file whose evidence joins the candidates; its claims are not evaluated. Repeat for more files.",
)
@click.option(
    "--label-column",
    help="Column of --pairs with one of MODEL's labels: gives accuracy, macro-F1 and a confusion matrix.",
)
@click.option("--pair-order", type=click.Choice(PAIR_ORDERS), help="Which text a checkpoint of labels reads first.")
@click.option("--precision", help="Variant of a bundle.  [default: fp32]")
@click.option("--start", help="The untrained start to compare with.  [default: the one in MODEL's training.json]")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the start's head.  [default: training.json's, or 0]")
@click.option("--no-start", is_flag=True, help="Leave the untrained start out; it takes as long as MODEL.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def evaluate(
    *,
    model: str,
    pairs: tuple[Path, ...],
    pool: tuple[Path, ...],
    label_column: str | None,
    pair_order: PairOrder | None,
    precision: str | None,
    start: str | None,
    seed: int | None,
    no_start: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Compute how well MODEL, a checkpoint or an exported bundle, ranks evidence: MAP, MRR@5 and NDCG@5.

    The candidates of a claim are BM25's top 50 of all unique evidence sentences in the --pairs and --pool files, and
    the claim's relevant ones. A larger pool holds more similar sentences and gives lower figures: compare figures
    only where the pools are the same. The table has BM25 itself and the untrained start beside MODEL.

    With --label-column, MODEL labels the pairs of the files themselves: accuracy, the mean of the labels' F1, and how
    often each label was taken for each other.
    """
    require_modules(_MODULES, "training or evaluating", "train")
    show_progress = not quiet and sys.stderr.isatty()
    if label_column is not None:
        if pool or start is not None:
            raise PairscoreError("--pool and --start are for ranking: leave them out with --label-column")
        from pairscore.training.evaluate import evaluate_labels

        labelled = evaluate_labels(
            model, pairs, label_column, precision=precision, pair_order=pair_order, show_progress=show_progress
        )
        if as_json:
            click.echo(json.dumps(labelled.to_dict(), indent=2, ensure_ascii=False))
        else:
            print_any(labelled)
        return 0
    if pair_order is not None:
        raise PairscoreError("--pair-order is for a checkpoint of several labels: give --label-column with it")
    if no_start and start is not None:
        raise PairscoreError(f"--no-start leaves out what --start {start} asks for: give one of them")
    from pairscore.training.evaluate import evaluate as run_evaluation

    compared = None if no_start else _start(model, start, seed)
    evaluation = run_evaluation(
        model, pairs, pool=pool, precision=precision, start=compared, show_progress=show_progress
    )
    if as_json:
        click.echo(json.dumps(evaluation.to_dict(), indent=2, ensure_ascii=False))
    else:
        print_any(evaluation)
    return 0


def print_any(evaluation: "Evaluation | LabelEvaluation") -> None:
    """Its tables."""
    from pairscore.training.labels import LabelEvaluation

    if isinstance(evaluation, LabelEvaluation):
        print_labels(evaluation)
    else:
        print_evaluation(evaluation)


def print_labels(evaluation: "LabelEvaluation") -> None:
    """A table of the systems, and the confusion matrix of the last one."""
    files = ", ".join(each["file"] for each in evaluation.files)
    title = f"{evaluation.pairs:,} pairs of {evaluation.claims:,} claims ({files})"
    table = Table(title=escape(title), title_justify="left")
    for heading in ("", "accuracy", "macro-F1", *(f"F1 {label}" for label in evaluation.labels)):
        table.add_column(escape(heading), justify="right" if heading else "left")
    for figures in evaluation.systems:
        values = (figures.accuracy, figures.macro_f1, *figures.f1.values())
        table.add_row(escape(figures.system), *(f"{value:.4f}" for value in values))
    last = evaluation.systems[-1]
    matrix = Table(title=escape(f"{last.system}: rows are {evaluation.column}"), title_justify="left")
    for heading in ("", *evaluation.labels):
        matrix.add_column(escape(heading), justify="right" if heading else "left")
    for label, row in zip(evaluation.labels, last.confusion, strict=True):
        matrix.add_row(escape(label), *(f"{count:,}" for count in row))
    console = Console()
    console.print(table)
    console.print(matrix)


def print_evaluation(evaluation: "Evaluation") -> None:
    """A table of the systems, under the size of the task."""
    files = ", ".join(each["file"] for each in (*evaluation.files, *evaluation.pool_files))
    title = (
        f"{evaluation.claims:,} claims, {evaluation.relevant_pairs:,} relevant pairs; candidates from "
        f"{evaluation.pool_sentences:,} sentences ({files})"
    )
    table = Table(title=escape(title), title_justify="left")
    for heading in ("", "MAP", "MRR@5", "NDCG@5"):
        table.add_column(heading, justify="right" if heading else "left")
    for figures in evaluation.systems:
        values = (figures.map, figures.mrr_at_5, figures.ndcg_at_5)
        table.add_row(escape(figures.system), *(f"{value:.4f}" for value in values))
    Console().print(table)


def _start(model: str, start: str | None, seed: int | None) -> "Start | None":
    """The start that MODEL is compared with:

    the one that the options name, else the one in the checkpoint's `training.json`.
    """
    from pairscore.training.evaluate import Start, recorded_start
    from pairscore.training.start import find_start

    if start is not None:
        return Start(start, seed or 0)
    recorded = recorded_start(model)
    if recorded is None:
        click.echo(f"{model} does not say what it was trained from: --start NAME compares it with that", err=True)
        return None
    try:
        find_start(recorded.name)
    except PairscoreError as error:  # the model's own figures need no start
        click.echo(f"the untrained start is left out: {error}", err=True)
        return None
    return recorded if seed is None else Start(recorded.name, seed)
