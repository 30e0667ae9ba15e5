"""`pairscore export` and `pairscore verify`. PyTorch is imported only once the arguments are read."""

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from inspect import unwrap
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pairscore.export.api import export_bundle
from pairscore.export.errors import ParityError
from pairscore.export.parity.verify import Verification
from pairscore.export.parity.verify import verify as verify_bundle
from pairscore.runtime.bundle.manifest import PAIR_ORDERS, Manifest
from pairscore.runtime.bundle.parity import ParityReport, Tier

# Exit code of a variant that breaks its promise; bad input exits with 2.
BROKEN_PROMISE = 1


@click.command()
@click.argument("source")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--revision", help="Branch, tag or commit of a Hugging Face id.")
@click.option("--precision", default="fp32", show_default=True, help="Precision of the variant to make.")
@click.option("--exporter", default="auto", show_default=True, help="optimum, torch, or auto: optimum where installed.")
@click.option("--pairs", type=click.Path(path_type=Path), help="Parquet file of your own pairs to check parity on too.")
@click.option(
    "--calibration", type=click.Path(path_type=Path), help="Parquet file of your own pairs that int8 is fitted to."
)
@click.option("--claim-column", default="claim", show_default=True, help="Column of the claims in these files.")
@click.option("--evidence-column", default="evidence", show_default=True, help="Column of the evidence in these files.")
@click.option("--engine", default="auto", show_default=True, help="Engine that int8 is made for; auto tries them all.")
@click.option("--label-column", help="Column of --calibration that marks relevant evidence: adds ranking figures.")
@click.option("--max-difference", type=click.FloatRange(0), help="Largest score difference, instead of the promise's.")
@click.option("--min-spearman", type=click.FloatRange(-1, 1), help="Rank correlation, instead of the promise's.")
@click.option("--max-length", type=click.IntRange(min=1), help="Tokens a pair is truncated to, instead of the model's.")
@click.option(
    "--pair-order",
    type=click.Choice(PAIR_ORDERS),
    help="Which text the model reads first.  [default: claim-evidence, or the bundle's own]",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle, or its variant.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
def export(
    *,
    source: str,
    bundle: Path,
    precision: str,
    pairs: Path | None,
    quiet: bool,
    **options: Any,
) -> int:
    """Export the cross-encoder SOURCE, a folder or a Hugging Face id, into the new folder BUNDLE.

    Any precision but fp32 is added to BUNDLE where it exists and is of the same SOURCE. The export is compared with
    PyTorch before the folder appears. If a difference is larger than the precision's promise, nothing is written and
    the exit code is 1. For int8, pairscore makes several candidates, fits them to half of the claims of --calibration,
    and takes the fastest that keeps the promise on the other half.
    """
    # A polite kill unwinds the stack, so that the half-written folder is removed.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    say: Callable[[str], None] = (lambda line: None) if quiet else partial(click.echo, err=True)
    try:
        manifest = unwrap(export_bundle)(source, bundle, precision=precision, pairs=pairs or (), say=say, **options)
    except ParityError as error:
        click.echo(f"pairscore: error: {error}", err=True)
        return BROKEN_PROMISE
    for line in _summary(manifest, bundle, precision):
        say(line)
    return 0


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--reference", required=True, help="The checkpoint it was exported from: a folder or Hugging Face id.")
@click.option("--revision", help="Branch, tag or commit of a Hugging Face id.")
@click.option("--pairs", required=True, type=click.Path(path_type=Path), help="Parquet file of pairs.")
@click.option("--claim-column", default="claim", show_default=True, help="Column of the claims in --pairs.")
@click.option("--evidence-column", default="evidence", show_default=True, help="Column of the evidence in --pairs.")
@click.option("--limit", type=click.IntRange(min=1), help="Compare only the first rows of the file.")
@click.option("--precision", default="fp32", show_default=True, help="Variant to compare.")
@click.option("--engine", default="auto", show_default=True, help="Engine that runs it.")
@click.option("--device", default="cpu", show_default=True, help="Device that runs it.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(
    *,
    bundle: Path,
    reference: str,
    pairs: Path,
    as_json: bool,
    **options: Any,
) -> int:
    """Compare BUNDLE with its PyTorch checkpoint on pairs of your own.

    The exit code is 1 when a difference is larger than the precision's promise.
    """
    result = unwrap(verify_bundle)(bundle, reference, pairs, **options)
    if as_json:
        click.echo(json.dumps({**asdict(result), "passed": not result.broken}, indent=2, ensure_ascii=False))
    else:
        _print_verification(result)
    return BROKEN_PROMISE if result.broken else 0


def _summary(manifest: Manifest, bundle: Path, precision: str) -> list[str]:
    variant = manifest.variants[precision]
    report = variant.parity
    return [
        *(f"Graph: {note}" for note in variant.notes),
        f"Parity over {report.pairs} pairs: logits differ by at most {report.max_logit_difference:.2g}, "
        f"scores by at most {report.max_score_difference:.2g}",
        *(
            f"{system}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
            for system, figures in variant.ranking.items()
        ),
        f"Wrote {bundle}",
    ]


def _print_verification(result: Verification) -> None:
    console = Console()
    what = f"{result.bundle}, {result.precision} on {result.engine} ({result.device})"
    # transformers 5 loads weights in the type that they are stored in: compared with that, the figures would differ.
    loaded = f'CrossEncoder({result.reference!r}, model_kwargs={{"torch_dtype": "float32"}})'
    console.print(escape(f"{what}, against {loaded}"), highlight=False, soft_wrap=True)
    figures = Table()
    for heading in ("", "measured", "promised"):
        figures.add_column(heading, justify="left" if not heading else "right")
    for cells in _figures(result.report, result.promise):
        figures.add_row(*cells)
    console.print(figures)
    console.print("Largest differences:")
    for pair in result.worst:
        differences = [abs(ours - theirs) for ours, theirs in zip(pair.logits, pair.reference_logits, strict=True)]
        label = differences.index(max(differences))
        console.print(
            f"  row {pair.row}: logit {pair.logits[label]:.6f}, PyTorch {pair.reference_logits[label]:.6f}, "
            f"difference {differences[label]:.2g}"
        )
        for text in (pair.claim, pair.evidence):
            console.print(f"    {escape(text)}", no_wrap=True, overflow="ellipsis", highlight=False)
    for broken in result.broken:
        console.print(f"Promise broken: {escape(broken)}", style="bold red")


def _figures(report: ParityReport, promise: Tier) -> list[tuple[str, ...]]:
    def row(name: str, value: float | None, form: str, sign: str = "", bound: float | None = None) -> tuple[str, ...]:
        measured = "not defined" if value is None else format(value, form)
        return name, measured, "" if bound is None else f"{sign} {bound:g}"

    return [
        row("pairs", report.pairs, "d"),
        row("largest logit difference", report.max_logit_difference, ".3g", "≤", promise.max_logit_difference),
        row("mean logit difference", report.mean_logit_difference, ".3g"),
        row("largest score difference", report.max_score_difference, ".3g", "≤", promise.max_score_difference),
        row("Spearman correlation", report.spearman, ".6f", "≥", promise.min_spearman),
        row("same best evidence for a claim", report.top1_agreement, ".2%"),
    ]
