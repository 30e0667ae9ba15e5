"""`score_files`: the whole of `pairscore score`, from Python."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, cast

from pairscore.runtime.arguments import argument_types, in_python, python_call
from pairscore.runtime.bundle.hub import find_bundle
from pairscore.runtime.job.options import JobOptions, ScoreOptions, shown_options
from pairscore.runtime.job.progress.events import EventLog, log_handler
from pairscore.runtime.job.progress.meter import Progress
from pairscore.runtime.job.run import run_job
from pairscore.runtime.job.summary import Summary


@python_call()
def score_files(
    bundle: str | Path,
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    revision: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    log_json: str | Path | None = None,
    **options: Unpack[ScoreOptions],
) -> Summary:
    """Score the pairs of Parquet files into Parquet, as `pairscore score` does.

        summary = score_files("bundle", "pairs/", "scored.parquet", reuse="yesterday.parquet", top_k=5)
        summary.whole, summary.figures.reused, summary.as_dict()

    inputs: Parquet files, folders or patterns; output: a folder of parts, or one file if it ends in `.parquet`. s3://
    and gs:// work for both, hf:// for the input. The same call continues a run that was stopped behind its last whole
    part, and does nothing where the output is whole already (`summary.nothing_to_do`).

    `revision`: branch, tag or commit, where `bundle` is the id of one on the hub.

    `progress`: called about four times a second, from a thread of its own, and once at the end. `log_json`: a file that
    events are appended to, one JSON object a line. Everything else that a person may want to know is logged to the
    logger "pairscore".

    Raises PairscoreError, one line with the remedy, for bad input before anything is written, and for what shows only
    on the way.

    `options`, those of the command:
    """
    given: dict[str, Any] = {"bundle": bundle, "inputs": inputs, "output": output, **cast(dict[str, Any], options)}
    return score_job(JobOptions(**given), revision, progress, log_json)


def score_job(
    options: JobOptions,
    revision: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    log_json: str | Path | None = None,
) -> Summary:
    """What `score_files` does, for options that are checked; they stand in messages as the command writes them."""
    options = replace(options, bundle=str(find_bundle(options.bundle, revision, options.precisions)))
    log = EventLog(Path(log_json) if log_json is not None else None)
    try:
        with log_handler(logging.WARNING, lambda record: log.write("warning", message=record.getMessage())):
            return run_job(options, progress, log)
    finally:
        log.close()


score_files.__doc__ = (score_files.__doc__ or "") + "\n".join(
    f"    `{name}`: {in_python(shown.help, argument_types(score_files))}" for name, shown in shown_options().items()
)
