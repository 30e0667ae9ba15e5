"""`pairscore calibrate`. scikit-learn is imported only once the arguments are read."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.machine import require_modules


@click.command(context_settings={"max_content_width": 120})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--pairs", required=True, type=click.Path(path_type=Path), help="Parquet file of pairs with known labels."
)
@click.option("--claim-column", default="claim", show_default=True, help="Column of the claims in --pairs.")
@click.option("--evidence-column", default="evidence", show_default=True, help="Column of the evidence in --pairs.")
@click.option(
    "--label-column",
    default="relevant",
    show_default=True,
    help="Column of truth values, or of one of the model's labels where it has several.",
)
@click.option("--precision", default="fp32", show_default=True, help="Variant of the bundle.")
@click.option("--engine", default="auto", show_default=True, help="Engine that runs it.")
@click.option("--device", default="cpu", show_default=True, help="Device that runs it.")
@click.option(
    "--want-precision", "precisions", multiple=True, type=click.FloatRange(0, 1), help="Name its threshold too."
)
@click.option("--want-recall", "recalls", multiple=True, type=click.FloatRange(0, 1), help="Name its threshold too.")
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page with a reliability diagram."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def calibrate(
    *,
    bundle: Path,
    pairs: Path,
    claim_column: str,
    evidence_column: str,
    label_column: str,
    html: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Fit BUNDLE's scores to pairs of your own, so that of the pairs with a score of 0.8 about 80 in 100 are true.

    The fit is kept in BUNDLE for that precision, and `pairscore score --activation calibrated` uses it. It never
    changes the order of one label's scores. Give pairs like those that you score, with as large a share of true ones.
    """
    require_modules(("sklearn",), "calibrating", "train")
    from pairscore.training.calibration.api import read_labelled_pairs
    from pairscore.training.calibration.fit import TARGETS, calibrate_bundle
    from pairscore.training.calibration.page import calibration_page, threshold_cells

    options |= {name: options[name] or TARGETS for name in ("precisions", "recalls")}
    rows, labels = read_labelled_pairs(bundle, pairs, claim_column, evidence_column, label_column)
    found = calibrate_bundle(bundle, rows, labels, **options)
    if html is not None:
        try:
            html.write_text(calibration_page(found), encoding="utf-8")
        except OSError as error:
            raise PairscoreError(f"cannot write {str(html)!r} ({error.strerror}): choose another file") from error
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        return 0
    console = Console()
    counted = ", ".join(f"{count:,} {name}" for name, count in found.labels.items())
    table = Table("", "before", "after", title=escape(f"{found.claims:,} claims, {counted}"), title_justify="left")
    for name, value in found.scaling.after.items():
        table.add_row(name, f"{found.scaling.before[name]:.4f}", f"{value:.4f}")
    console.print(table)
    chosen = Table("label", "wanted", "score at least", "precision", "recall")
    for each in found.thresholds:
        chosen.add_row(*map(escape, threshold_cells(each)))
    console.print(chosen)
    click.echo(
        f"Kept in {bundle} for {found.precision}: slope {found.scaling.slope:.4f}, intercept "
        f"{found.scaling.intercept:.4f}; use it with --activation calibrated",
        err=True,
    )
    return 0
