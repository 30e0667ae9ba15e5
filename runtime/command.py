"""`pairscore score`, `pairscore show`, `pairscore info` and `pairscore tune`."""

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from inspect import unwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import click
from rich.console import Console
from rich.table import Table

from pairscore.runtime.bundle.hub import REVISION_HELP, find_bundle
from pairscore.runtime.describe import describe, description_lines
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.options import JobOptions, option_of, shown_options
from pairscore.runtime.job.progress.display import choose_display
from pairscore.runtime.job.progress.display import shown as shown_on
from pairscore.runtime.job.signals import Stopped, stop_on_signals

if TYPE_CHECKING:
    from pairscore.runtime.job.estimate import Estimate
    from pairscore.runtime.job.summary import Summary


def _job_options(command: Callable[..., int]) -> Callable[..., int]:
    """The options of `JobOptions`, which checks them."""
    kinds = get_type_hints(JobOptions)
    for name, shown in reversed(shown_options().items()):
        kind, flag = kinds[name], option_of(name)
        default = JobOptions.__dataclass_fields__[name].default
        named: dict[str, Any] = {"help": shown.help, "metavar": shown.metavar, "default": default}
        if kind is bool:
            named |= {"is_flag": True, "flag_value": not default}
        elif get_origin(kind) is Literal:
            named |= {"type": click.Choice(get_args(kind)), "show_default": True}
        elif kind in (tuple[str, ...], tuple[str, ...] | None):
            named |= {"multiple": True, "default": ()}
        else:
            whole = kind in (int, int | None)
            named |= {"type": int if whole else str, "show_default": default is not None}
        command = click.option(flag, name, **named)(command)
    return command


@click.command(context_settings={"max_content_width": 120})
@click.argument("bundle")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--revision", help=REVISION_HELP)
@click.option("--output", "-o", help="Folder for parts, or one file if it ends in .parquet.  [required]")
@_job_options
@click.option("--dry-run", is_flag=True, help="Write nothing: count rows, sample tokens, estimate the time.")
@click.option(
    "--log-json", type=click.Path(path_type=Path), metavar="FILE", help="Append events to FILE, one JSON a line."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
def score(
    *,
    revision: str | None,
    log_json: Path | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **chosen: Any,
) -> int:
    """Score the pairs of Parquet files with BUNDLE.

    INPUT is a Parquet file, a folder, or a pattern in quotes; s3://, gs:// and hf:// work too. Every row
    comes back once, in order, with its columns and a score.

    With `--output scored` the result is a folder of parts that DuckDB, Spark, Polars and pandas read as one
    table, whole once it holds _SUCCESS; `key=value` folders of the input are kept. With `--output
    scored.parquet` it is one file, which appears when everything is scored.

    A run that was stopped or killed goes on behind the last whole part when the same command is given again. On an
    output that is whole, the same command does nothing and ends with exit code 0.
    """
    from pairscore.runtime.job.score import score_job

    for name, shown in shown_options().items():
        if shown.commas:
            chosen[name] = _names(chosen[name])
    options = JobOptions(**chosen)
    display = choose_display(quiet)
    try:
        with stop_on_signals(), shown_on(display):
            if dry_run:
                from pairscore.runtime.job.estimate import estimate_job

                options = replace(options, bundle=str(find_bundle(options.bundle, revision, options.precisions)))
                result: Estimate | Summary = estimate_job(options)
            else:
                result = score_job(options, revision, display.update, log_json)
    except Stopped as stopped:
        again = shlex.join(["pairscore", *sys.argv[1:]])
        click.echo(f"pairscore: stopped by {stopped}; whole parts are kept, continue with: {again}", err=True)
        return stopped.exit_code
    if as_json:
        click.echo(_json(result.as_dict()))
    elif not quiet:
        click.echo("\n".join(result.lines()), err=True)
    return 0


@click.command(context_settings={"max_content_width": 120})
@click.argument("output")
@click.option("--claim", "text", metavar="TEXT", help="Show claims that contain TEXT, whatever the case.")
@click.option("--claims", type=click.IntRange(min=1), default=6, show_default=True, help="How many claims to show.")
@click.option("--rows", type=click.IntRange(min=1), default=2, show_default=True, help="Best and worst rows of each.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write one page with pictures instead.")
@click.option("--claim-column", help="Column of the claims.  [default: the output's own]")
@click.option("--evidence-column", help="Column of the evidence.  [default: the output's own]")
@click.option("--score-column", help="Column of the scores.  [default: the output's own]")
def show(*, output: str, html: Path | None, **chosen: Any) -> int:
    """Look at OUTPUT, which `pairscore score` wrote: scores, nulls, lengths, best and worst evidence of some claims.

    Memory stays bounded whatever its size.
    """
    from pairscore.runtime.report.survey import survey
    from pairscore.runtime.report.views import print_survey, survey_page
    from pairscore.runtime.storage.local import LocalStorage

    seen = unwrap(survey)(output, **chosen)
    if html is None:
        print_survey(seen, Console())
        return 0
    try:
        LocalStorage().write(str(html.absolute()), survey_page(seen).encode(), str(html.absolute().parent))
    except OSError as error:
        raise PairscoreError(f"cannot write {str(html)!r} ({error.strerror}): choose another file") from error
    click.echo(f"Wrote {html}", err=True)
    return 0


@click.command()
@click.argument("bundle")
@click.option("--revision", help=REVISION_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def info(*, bundle: str, revision: str | None, as_json: bool) -> int:
    """Show what BUNDLE holds, what was measured for it, and what of it runs on this machine."""
    description = unwrap(describe)(bundle, revision=revision)
    click.echo(_json(description) if as_json else "\n".join(description_lines(description)))
    return 0


@click.command()
@click.argument("bundle")
@click.option("--revision", help=REVISION_HELP)
@click.option("--precision", default="fp32", show_default=True, help="Variant of the bundle.")
@click.option("--pairs", type=click.Path(path_type=Path), help="Parquet file of your own pairs to measure on.")
@click.option("--claim-column", default="claim", show_default=True, help="Column of the claims in --pairs.")
@click.option("--evidence-column", default="evidence", show_default=True, help="Column of the evidence in --pairs.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Cores to compute on.  [default: all]")
@click.option(
    "--seconds", type=click.FloatRange(1, 86_400), default=60.0, show_default=True, help="Time for measuring."
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def tune(
    *,
    bundle: str,
    pairs: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Measure engines, batch sizes and threads or streams for BUNDLE on this machine, and remember the fastest.

    `pairscore score` and Scorer.from_pretrained use the choice from then on, on this machine and with these library
    releases only. Run it while the machine does nothing else.
    """
    from pairscore.runtime.engines.tuning_cache import machine
    from pairscore.runtime.tuning import tune as tune_bundle

    found = unwrap(tune_bundle)(bundle, pairs=pairs or (), **options)
    results, default, choice = found.results, found.default, found.choice
    if as_json:
        click.echo(_json({**asdict(found), "machine": machine(options["threads"])}))
        return 0
    standard = next(each for each in results if each.setting == default).pairs_per_second
    table = Table("engine", "at once", "tokens", "pairs/s", "ratio", "")
    for each in results:
        setting = each.setting
        row = [setting.engine, setting.concurrency, f"{setting.token_budget:,}"]
        # Rates of an earlier round were not taken beside the default's last one.
        ratio = f"{each.pairs_per_second / standard:.2f}" if each.rounds == results[0].rounds else ""
        remark = "default" if setting == default else "chosen" if choice and setting == choice.setting else ""
        table.add_row(*row, f"{each.pairs_per_second:,.0f}", ratio, remark)
    Console().print(table)
    if choice is None:
        click.echo("The defaults are as fast as anything else: nothing to remember")
    else:
        click.echo(f"Remembered for this machine: {choice}, {choice.gain:.2f} times the defaults")
    return 0


def _names(given: tuple[str, ...]) -> tuple[str, ...] | None:
    names = tuple(dict.fromkeys(name.strip() for each in given for name in each.split(",") if name.strip()))
    return names if given else None


def _json(result: dict[str, Any]) -> str:
    return json.dumps(result, indent=2, ensure_ascii=False)
