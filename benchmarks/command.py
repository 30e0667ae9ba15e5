"""`pairscore bench`. Libraries are imported only once the arguments are read."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pairscore.export.environment import require_export_extra
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.pairs_file import read_labels, read_pairs

BROKEN_PROMISE = 1


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--reference", required=True, help="The checkpoint it was exported from: a folder or Hugging Face id.")
@click.option("--revision", help="Branch, tag or commit of a Hugging Face id.")
@click.option("--pairs", required=True, type=click.Path(path_type=Path), help="Parquet file of pairs.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="New folder for bench.json, bench.html.")
@click.option("--claim-column", default="claim", show_default=True, help="Column of the claims in --pairs.")
@click.option("--evidence-column", default="evidence", show_default=True, help="Column of the evidence in --pairs.")
@click.option("--label-column", help="Column of --pairs that marks relevant evidence: adds ranking figures.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="Pairs that are taken.")
@click.option("--rounds", type=click.IntRange(min=1), default=4, show_default=True, help="Timed runs of each system.")
@click.option("--peers", type=click.Path(path_type=Path), help="Measure other libraries too; folder of their Pythons.")
@click.option("--overwrite", is_flag=True, help="Replace the files of an earlier benchmark in --output.")
@click.option("--quiet", is_flag=True, help="Print the table only.")
def bench(
    *,
    bundle: Path,
    reference: str,
    revision: str | None,
    pairs: Path,
    output: Path,
    claim_column: str,
    evidence_column: str,
    label_column: str | None,
    limit: int,
    rounds: int,
    peers: Path | None,
    overwrite: bool,
    quiet: bool,
) -> int:
    """Measure every installed engine and every precision of BUNDLE against PyTorch, on pairs of your own.

    Writes bench.json and the report bench.html. Exit code 1 when a difference is past a precision's promise.
    """
    require_export_extra()
    targets = output / "bench.json", output / "bench.html"
    if output.exists() and not output.is_dir():
        raise PairscoreError(f"{str(output)!r} is a file: name a folder with --output")
    if not overwrite and any(path.exists() for path in targets):
        raise PairscoreError(f"{str(output)!r} holds a benchmark already: choose another name, or add --overwrite")
    manifest = Bundle.open(bundle).manifest
    rows = read_pairs(pairs, claim_column, evidence_column)
    labels = read_labels(pairs, label_column) if label_column else None
    from pairscore.benchmarks.bench import run_bench
    from pairscore.benchmarks.tables.report_page import render_page
    from pairscore.export.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(reference, revision)
    if checkpoint.source.digest != manifest.source.digest:
        raise PairscoreError(f"{reference!r} is not what {str(bundle)!r} was exported from: give that checkpoint")
    try:
        result = run_bench(
            bundle,
            checkpoint.folder,
            pairs,
            rows,
            labels,
            limit=limit,
            rounds=rounds,
            environments=peers,
            say=_say_nothing if quiet else _say,
        )
    except RuntimeError as error:
        raise PairscoreError(f"no benchmark was written: {error}") from error
    try:
        output.mkdir(parents=True, exist_ok=True)
        targets[0].write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        targets[1].write_text(render_page(result), encoding="utf-8")
    except OSError as error:
        raise PairscoreError(f"cannot write {str(output)!r} ({error}): name another folder with --output") from error
    console = Console()
    console.print(terminal_table(result))
    for system in result["systems"]:
        if "error" in system:
            console.print(escape(f"{system['name']} did not run: {system['error']}"), style="dim", highlight=False)
    click.echo(f"Wrote {targets[0]} and {targets[1]}")
    return BROKEN_PROMISE if any(each["ours"] and each.get("violations") for each in result["systems"]) else 0


def terminal_table(result: dict[str, Any]) -> Table:
    """One row a system."""
    table = Table(padding=(0, 0, 0, 1))
    table.add_column("system", overflow="fold", ratio=1)
    for heading in ("pairs/s", "ratio", "max Δ logit", "Spearman", "top 1", "memory"):
        table.add_column(heading, justify="right")
    for system in result["systems"]:
        name = escape(system["name"])
        if "error" in system:
            table.add_row(name, "did not run", *([""] * 5), style="dim")
            continue
        parity = system["parity"]
        table.add_row(
            name,
            f"{system['pairs_per_second']:.1f}",
            f"{system['ratio']:.2f}",
            f"{parity['max_logit_difference']:.2g}",
            "" if parity["spearman"] is None else f"{parity['spearman']:.5f}",
            "" if parity["top1_agreement"] is None else f"{parity['top1_agreement']:.1%}",
            f"{system['peak_memory_bytes'] / 2**30:.2f} GiB",
            style="bold" if system["ours"] else None,
        )
        for broken in system["violations"] if system["ours"] else ():
            table.add_row(f"  promise broken: {escape(broken)}", style="bold red")
    return table


def _say(line: str) -> None:
    click.echo(line, err=True)


def _say_nothing(line: str) -> None:
    del line
