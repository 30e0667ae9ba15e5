"""The same command on an output that is already whole: there is nothing to do."""

from dataclasses import replace
from typing import Any

from pairscore.runtime.bundle.activation import choose_activation
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.options import AUTO, JobOptions, RunSettings
from pairscore.runtime.job.output import layout as out
from pairscore.runtime.job.parts import missing
from pairscore.runtime.job.plan import Plan
from pairscore.runtime.job.record import RunRecord, changed_settings
from pairscore.runtime.job.summary import Figures, Summary
from pairscore.runtime.typed_json import from_plain


def already_whole(options: JobOptions, plan: Plan, bundle: Bundle, output: out.Output) -> Summary:
    """The summary of a run that has nothing to do. output: a finished one.

    Footers alone are read, nothing is written, no engine is opened. Raises PairscoreError where the output is another
    run's.
    """
    told = out.finished_figures(output)
    try:
        before: RunSettings = from_plain(RunSettings, told["settings"])
        digest = told["run"]
    except (ValueError, KeyError) as error:
        raise out.finished_error(output) from error
    now = replace(_settings(options, bundle, before), delta_versions=plan.delta_versions)
    if RunRecord(now, plan.input_records()).digest != digest:
        changed = [*changed_settings(before, now), "its input was another one"]
        raise out.finished_error(output, changed[0])
    parts = output.parts() if output.file is None else []
    skipped = dict(plan.skipped)
    if output.file is None:
        present = {part.file for part in parts}
        if options.on_error == "skip-file":
            left_out = {place: "an earlier run left it out" for place in range(len(plan.files)) if place not in present}
            skipped = {**left_out, **skipped}
        if missing([block for block in plan.blocks if block.file not in skipped], parts):
            raise PairscoreError(
                f"output {output.url!r} is marked as whole and lacks parts: score it again with --overwrite"
            )
    return Summary(
        output=output.url,
        whole=True,
        figures=Figures(),
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


def _settings(options: JobOptions, bundle: Bundle, before: RunSettings) -> RunSettings:
    """The settings that this command asks for. Those that it leaves to the machine are taken from the earlier run."""
    precision = before.precision if options.precision == AUTO else options.precision
    own = bundle.manifest.activation
    chosen: dict[str, Any] = {"engine": options.engine, "tuning": None}
    if options.engine == AUTO:
        chosen = {"engine": before.engine, "tuning": before.tuning if options.tuning else None}
    return RunSettings.of(
        options,
        bundle=bundle.digest(precision),
        precision=precision,
        device=options.device.partition(":")[0],
        max_length=options.max_length or bundle.manifest.max_length,
        activation=choose_activation(options.activation, own, bundle.variant(precision).scaling).unless(own),
        **chosen,
    )
