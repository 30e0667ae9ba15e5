"""`score_files`: the whole of `pairscore score`, from Python."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pairscore.runtime.bundle.hub import find_bundle
from pairscore.runtime.job.plan import JobOptions
from pairscore.runtime.job.progress.events import EventLog, heard
from pairscore.runtime.job.progress.meter import Progress
from pairscore.runtime.job.run import run_job
from pairscore.runtime.job.summary import Summary
from pairscore.runtime.stream.columns import WINDOW_PAIRS


def score_files(
    bundle: str | Path,
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    revision: str | None = None,
    claim_column: str = "claim",
    evidence_column: str = "evidence",
    score_column: str = "score",
    keep: Sequence[str] | None = None,
    precision: str = "fp32",
    promise: Literal["fp32", "bf16", "int8"] = "int8",
    engine: str = "auto",
    device: str = "cpu",
    tuning: bool = True,
    max_length: int | None = None,
    on_null: Literal["error", "null"] = "error",
    on_invalid_utf8: Literal["error", "null"] = "error",
    on_error: Literal["fail", "skip-file"] = "fail",
    filter: str | None = None,
    limit: int | None = None,
    shard: tuple[int, int] | None = None,
    part_rows: int = WINDOW_PAIRS,
    compression: str = "zstd",
    overwrite: bool = False,
    reuse: str | Path | Sequence[str | Path] = (),
    top_k: int | None = None,
    by: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    log_json: str | Path | None = None,
) -> Summary:
    """Score the pairs of Parquet files into Parquet, as `pairscore score` does.

        summary = score_files("bundle", "pairs/", "scored.parquet", reuse="yesterday.parquet", top_k=5)
        summary.whole, summary.figures.reused, summary.as_dict()

    inputs: Parquet files, folders or patterns; output: a folder of parts, or one file if it ends in `.parquet`. s3://
    and gs:// work for both, hf:// for the input. The same call continues a run that was stopped behind its last whole
    part, and does nothing where the output is whole already (`summary.nothing_to_do`).

    `revision`: branch, tag or commit, where `bundle` is the id of one on the hub.

    `claim_column`, `evidence_column`, `score_column`: names; a model of several labels gives `<score_column>_<label>`.
    `keep`: input columns of the output, None for all. `precision`: a variant of the bundle, or "auto" for the fastest
    that runs here and promises at least `promise`; the summary names it. `engine`, `device`, `tuning`, `max_length`: as
    for `Scorer.from_pretrained`. `on_null`, `on_invalid_utf8`: such a text is an error, or its row gets a null score.
    `on_error`: a file that cannot be read or scored is an error, or is left out and reported. `filter`: score only rows
    like "relevant and claim_id < 10". `limit`: take only the first rows of the input. `shard`: (i, n) for the i-th of n
    shares. `part_rows`: rows of one part: what a crash can lose. `compression`: zstd, snappy, gzip, lz4, brotli, none.
    `overwrite`: replace what the output holds. `reuse`: finished outputs to take the scores of the same texts from.
    `top_k`, `by`: keep the best rows of each value of a column, by default the claim column.

    `progress`: called about four times a second, from a thread of its own, and once at the end. `log_json`: a file that
    events are appended to, one JSON object a line. Everything else that a person may want to know is logged to the
    logger "pairscore".

    Raises PairscoreError, one line with the remedy, for bad input before anything is written, and for what shows only
    on the way.
    """
    options = JobOptions(
        bundle=str(find_bundle(bundle, revision)),
        inputs=_texts(inputs),
        output=str(output),
        claim_column=claim_column,
        evidence_column=evidence_column,
        score_column=score_column,
        keep=tuple(keep) if keep is not None else None,
        precision=precision,
        promise=promise,
        engine=engine,
        device=device,
        tuning=tuning,
        max_length=max_length,
        on_null=on_null,
        on_invalid_utf8=on_invalid_utf8,
        on_error=on_error,
        filter=filter,
        limit=limit,
        shard=shard,
        part_rows=part_rows,
        compression=compression,
        overwrite=overwrite,
        reuse=_texts(reuse),
        top_k=top_k,
        by=by,
    )
    log = EventLog(Path(log_json) if log_json is not None else None)
    try:
        with heard(logging.WARNING, lambda record: log.write("warning", message=record.getMessage())):
            return run_job(options, progress, log)
    finally:
        log.close()


def _texts(given: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    return (str(given),) if isinstance(given, str | Path) else tuple(str(each) for each in given)
