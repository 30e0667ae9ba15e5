"""What precedes a run: open, check, plan, look at what is done, and so at what is left.

A run, a dry run and a run that has nothing to do share it.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.input.footer_process import read_footers
from pairscore.runtime.job.blocks import missing, within
from pairscore.runtime.job.opening import Opened, open_scorer
from pairscore.runtime.job.options import JobOptions
from pairscore.runtime.job.output import layout as out
from pairscore.runtime.job.plan import JobPlan, make_plan
from pairscore.runtime.job.record import RunRecord
from pairscore.runtime.job.reuse import OldFile, check_not_own, find_old_files, recorded_settings
from pairscore.runtime.job.settings import RunSettings, changed_settings, settings_like, settings_of
from pairscore.runtime.job.summary import JobFigures, Summary
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.storage.parts import Block, Part
from pairscore.runtime.typed_json import from_plain


@dataclass(frozen=True)
class Prepared:
    """A job that may start. `output`: None for a dry run that names none. `earlier`: the settings of a run to continue.

    `whole`: the summary of a run that has nothing to do, since the output is whole; None where it is not.
    """

    options: JobOptions
    bundle: Bundle
    output: out.Output | None
    plan: JobPlan
    earlier: RunSettings | None
    whole: Summary | None


@dataclass(frozen=True)
class Work:
    """What is left of a job whose output is not whole. `old_files`: to take scores from. `exact_files`: of a run that
    refines, those with scores of the exact variant.

    `skipped`: place of a file that is left out -> the reason. `done`: parts of this shard that an earlier run left,
    going by their names. `left`: the rest of the shard.
    """

    opened: Opened
    record: RunRecord
    old_files: tuple[OldFile, ...]
    exact_files: tuple[OldFile, ...]
    skipped: dict[int, str]
    done: tuple[Part, ...]
    left: tuple[Block, ...]


def prepare(options: JobOptions) -> Prepared:
    """Check all that can be checked before an engine is opened. Writes nothing.

    Raises PairscoreError for input that does not fit, and where something is in the output's way.
    """
    bundle = Bundle.open(options.bundle)
    output = out.open_output(options.output) if options.output is not None else None
    if output is not None:
        out.check_output(output)
        check_not_own(options.reuse, output)
    earlier = out.recorded_settings(output) if output is not None and not options.overwrite else None
    plan = make_plan(options, bundle.manifest, read_footers, earlier)
    return Prepared(options, bundle, output, plan, earlier, finished(options, bundle, plan, output))


def find_work(prepared: Prepared, scorer: Scorer | None = None) -> Work:
    """Open the scorer, and see what is left to do. Writes nothing.

    scorer: of the options' bundle, open already; None for the one that the options ask for. What an earlier run left to
    the machine stays as it was then.
    """
    options, output, plan = prepared.options, prepared.output, prepared.plan
    earlier = prepared.earlier or recorded_settings(options.reuse)
    if scorer is not None and options.refine is not None:
        raise PairscoreError(f"--refine {options.refine}: a scorer that is open already cannot compute in it")
    opened = Opened(scorer) if scorer else open_scorer(options, earlier)
    settings = replace(settings_of(options, opened.scorer, opened.exact), delta_versions=plan.delta_versions)
    record = RunRecord(settings, plan.input_records())
    exact_files, old_files = list[OldFile](), list[OldFile]()
    for url in options.reuse:
        exact, first = _old_files(url, record.settings, opened, plan)
        exact_files += exact
        old_files += first
    skipped, done = dict(plan.skipped), list[Part]()
    if output is not None and out.continues(output, record, options.overwrite):
        skipped |= out.skipped_files(output)
        done = within(output.parts(), plan.mine)
    left = missing([block for block in plan.mine if block.file not in skipped], done)
    return Work(opened, record, tuple(old_files), tuple(exact_files), skipped, tuple(done), tuple(left))


def _old_files(
    url: str, settings: RunSettings, opened: Opened, plan: JobPlan
) -> tuple[Sequence[OldFile], Sequence[OldFile]]:
    """The files of an old output: those with scores of the exact variant, and those with scores of the first one."""
    if opened.exact is not None:
        with suppress(PairscoreError):  # what is wrong with it shows below
            return find_old_files((url,), settings.of_scores, opened.exact, plan.columns), ()
    return (), find_old_files((url,), settings, opened.scorer, plan.columns)


def finished(options: JobOptions, bundle: Bundle, plan: JobPlan, output: out.Output | None) -> Summary | None:
    """The summary of a run that has nothing to do; None where there is something.

    Footers alone are read. Raises PairscoreError where the output is whole and another run's.
    """
    if output is None or options.overwrite or not out.is_whole(output):
        return None
    figures = out.finished_figures(output)
    try:
        before: RunSettings = from_plain(RunSettings, figures["settings"])
        digest = figures["run"]
    except (ValueError, KeyError) as error:
        raise out.finished_error(output) from error
    now = replace(settings_like(options, bundle, before), delta_versions=plan.delta_versions)
    if RunRecord(now, plan.input_records()).digest != digest:
        changed = [*changed_settings(before, now), "its input was another one"]
        raise out.finished_error(output, changed[0])
    parts = output.parts() if output.file is None else []
    skipped = dict(plan.skipped)
    if output.file is None:
        if options.on_error == "skip-file":
            absent = {block.file for block in plan.blocks} - {part.file for part in parts}
            skipped = {**dict.fromkeys(absent, "an earlier run left it out"), **skipped}
        if missing([block for block in plan.blocks if block.file not in skipped], parts):
            raise PairscoreError(
                f"output {output.url!r} is marked as whole and lacks parts: score it again with --overwrite"
            )
    return Summary(
        output=output.url,
        whole=True,
        figures=JobFigures(),
        earlier_parts=len(parts),
        missing_blocks=0,
        skipped=plan.named(skipped),
        precision=before.precision,
        engine=before.engine,
        device=before.device,
        tuning=str(before.tuning) if before.tuning else None,
        max_length=before.max_length,
        load_seconds=0.0,
        best=plan.best,
        nothing_to_do=True,
    )
