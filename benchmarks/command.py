"""`pairscore bench`. Libraries are imported only once the arguments are read."""

import json
from importlib.util import find_spec
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from pairscore.export.environment import require_export_extra
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.pairs_file import read_labels, read_pairs

FAILED = 1
TERMINAL = ("system", "pairs/s", "to PyTorch", "max logit difference", "Spearman", "same top 1", "memory")


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
@click.option("--rounds", type=click.IntRange(min=1), default=2, show_default=True, help="Timed runs of each system.")
@click.option("--long", type=click.IntRange(min=0), default=200, show_default=True, help="Pairs of 256 to 512 tokens.")
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
    long: int,
    peers: Path | None,
    overwrite: bool,
    quiet: bool,
) -> int:
    """Measure every installed engine and every precision of BUNDLE against PyTorch, on pairs of your own.

    It writes bench.json and the report bench.html. The exit code is 1 when a difference is larger than a precision's
    promise, or when a system seems faster than this machine multiplies matrices.
    """
    require_export_extra()
    require_bench_extra()
    targets = output / "bench.json", output / "bench.html"
    if output.exists() and not output.is_dir():
        raise PairscoreError(f"{str(output)!r} is a file: name a folder with --output")
    if not overwrite and any(path.exists() for path in targets):
        raise PairscoreError(f"{str(output)!r} holds a benchmark already: choose another name, or add --overwrite")
    manifest = Bundle.open(bundle).manifest
    rows = read_pairs(pairs, claim_column, evidence_column)
    labels = read_labels(pairs, label_column) if label_column else None
    from pairscore.benchmarks.bench import failures, run_bench
    from pairscore.benchmarks.tables.page import render_page
    from pairscore.benchmarks.tables.table import terminal
    from pairscore.benchmarks.tables.throughput import throughput_table
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
            long=long,
            environments=peers,
            say=(lambda line: None) if quiet else _say,
        )
    except RuntimeError as error:
        raise PairscoreError(f"no benchmark was written: {error}") from error
    try:
        output.mkdir(parents=True, exist_ok=True)
        targets[0].write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        targets[1].write_text(render_page(result), encoding="utf-8")
    except OSError as error:
        raise PairscoreError(f"cannot write {str(output)!r} ({error}): name another folder with --output") from error
    table = throughput_table(result, TERMINAL)
    Console().print(terminal(table))
    for line in table.notes[:-1]:
        Console().print(escape(line), style="dim", highlight=False)
    click.echo(f"Wrote {targets[0]} and {targets[1]}")
    for line in (failed := failures(result)):
        click.echo(f"Error: {line}", err=True)
    return FAILED if failed else 0


def require_bench_extra() -> None:
    """Raise PairscoreError unless what draws the report is installed."""
    missing = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if missing:
        raise PairscoreError(f'the report needs {" and ".join(missing)}: `pip install "pairscore[bench]"`')


def _say(line: str) -> None:
    click.echo(line, err=True)
