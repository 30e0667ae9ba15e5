"""A job reads, scores and writes at the same time. Stopped at any moment, it continues after the last whole part."""

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress

from pairscore.runtime.errors import PairscoreError, TryAgainError
from pairscore.runtime.job.execution import Execution
from pairscore.runtime.job.options import JobOptions
from pairscore.runtime.job.output import layout as out
from pairscore.runtime.job.output.locks import hold
from pairscore.runtime.job.plan import JobPlan
from pairscore.runtime.job.prepare import find_work, finished, prepare
from pairscore.runtime.job.progress.events import EventLog
from pairscore.runtime.job.progress.meter import Progress, duration
from pairscore.runtime.job.reuse import OldFile, read_old_scores
from pairscore.runtime.job.signals import Stopped
from pairscore.runtime.job.summary import Summary
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.spill.old_scores import OldScores

_log = logging.getLogger(__name__)


def run_job(
    options: JobOptions,
    progress: Callable[[Progress], None] | None = None,
    log: EventLog | None = None,
    *,
    scorer: Scorer | None = None,
) -> Summary:
    """Score the input into the output and return what was done.

    progress: called with how far it is. scorer: of the options' bundle, open already; by default the one that the
    options ask for is opened. Raises PairscoreError for bad input before anything is written, and for what shows only
    on the way. After that, and when the process is stopped or killed, the same call continues behind the last whole
    part; on an output that is whole it does nothing.
    """
    log = log or EventLog(None)
    try:
        summary = _run_job(options, progress, log, scorer)
    except BaseException as error:
        ours = isinstance(error, Exception) and not isinstance(error, PairscoreError)
        more = {"traceback": traceback.format_exc()} if ours else {}
        log.write("stopped" if isinstance(error, Stopped) else "error", message=str(error), **more)
        raise
    log.write("end", **summary.as_dict())
    return summary


def _run_job(
    options: JobOptions, progress: Callable[[Progress], None] | None, log: EventLog, scorer: Scorer | None
) -> Summary:
    prepared = prepare(options)
    output, plan = prepared.output, prepared.plan
    if output is None:
        raise PairscoreError("no output: name one with --output")
    if prepared.whole is not None:
        if out.has_leftovers(output):
            with hold(output, options.shard):
                if finished(options, prepared.bundle, plan, output) is None:
                    raise TryAgainError(
                        f"another run changed output {output.url!r} just now: give the same command again"
                    )
                out.remove_leftovers(output)
        return prepared.whole
    started = time.perf_counter()
    work = find_work(prepared, scorer)
    opened = work.opened
    opened.scorer.tokenizer.prepare(plan.rows)
    load_seconds = time.perf_counter() - started
    with ExitStack() as stack:
        old = stack.enter_context(_old_scores(work.old_files, opened.scorer, plan, log))
        exact = stack.enter_context(_old_scores(work.exact_files, opened.exact or opened.scorer, plan, log))
        held = stack.enter_context(hold(output, options.shard))
        # Another run may have ended since this one looked.
        whole = finished(options, prepared.bundle, plan, output)
        if whole is not None:
            out.remove_leftovers(output)
            return whole
        try:
            continues = out.begin(output, work.record, options.overwrite)
            run = Execution(options, plan, work, output, held, progress, log, old, exact)
            run.score(out.whole_parts(output, work.record.digest, plan.mine) if continues else [])
            return run.finish(load_seconds)
        except BaseException:
            if options.shard is None:
                with suppress(PairscoreError):  # the storage may be what failed
                    out.abandon(output)
            raise


@contextmanager
def _old_scores(files: Sequence[OldFile], scorer: Scorer, plan: JobPlan, log: EventLog) -> Iterator[OldScores | None]:
    """The scores to reuse; None without a file to take them from. Nothing of this run's output is touched before."""
    if not files:
        yield None
        return
    started = time.perf_counter()
    with closing(read_old_scores(files, scorer, plan.columns)) as old:
        seconds = time.perf_counter() - started
        _log.info("Reusing %s scored pairs, read in %s", f"{old.pairs:,}", duration(seconds))
        log.write("reuse", pairs=old.pairs, files=len(files), seconds=round(seconds, 3))
        yield old
