"""The settings of a run: all that decides rows, columns and scores beside the input. A run records them."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from pairscore.runtime.bundle.activation import choose_activation
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.engines.tuning_cache import TunedSetting
from pairscore.runtime.job.options import AUTO, JobOptions, RowOptions, option_of, shown_options
from pairscore.runtime.scorer import Scorer


@dataclass(frozen=True)
class Refinement:
    """How the best rows are computed again. `bundle`: the exact variant's digest. `margin`: of logits."""

    precision: str
    bundle: str
    engine: str
    margin: float


@dataclass(frozen=True, kw_only=True)
class RunSettings(RowOptions):
    """All that decides rows, columns and scores beside the input.

    The names of the fields stand in run records and in the metadata of outputs: they stay. `bundle`: the variant's
    digest. `device`: cpu or cuda. `tuning`: what `pairscore tune` had chosen. `activation`: None for the bundle's own.
    `delta_versions`: of the input's Delta tables, in order.
    """

    bundle: str
    precision: str
    engine: str
    device: str
    max_length: int
    tuning: TunedSetting | None = None
    activation: str | None = None
    delta_versions: tuple[int, ...] | None = None
    refine: Refinement | None = None

    @property
    def of_scores(self) -> "RunSettings":
        """With the precision, bundle and engine that the output's scores are of."""
        if self.refine is None:
            return self
        return replace(self, precision=self.refine.precision, bundle=self.refine.bundle, engine=self.refine.engine)

    def as_dict(self) -> dict[str, Any]:
        """JSON-serialisable. Defaults are left out, so that a field added later changes no earlier run's digest."""
        values = asdict(self)
        always = {name for name, shown in shown_options().items() if shown.always_recorded}
        return {
            each.name: values[each.name]
            for each in fields(self)
            if each.name in always or values[each.name] != each.default
        }


# Settings that have to agree before scores are reused: name -> what a message calls it.
SCORE_SETTINGS = {
    "precision": "precision",
    "bundle": "the bundle of digest",
    "max_length": "a maximum length of",
    "engine": "engine",
    "device": "device",
    "long_evidence": "--long-evidence",
    "overlap": "--overlap",
    "combine": "--combine",
    "rank_by": "--rank-by",
}


def settings_of(options: JobOptions, scorer: Scorer, exact: Scorer | None) -> RunSettings:
    """The settings of a run with this scorer, and the one of `--refine`."""
    own = scorer.bundle.manifest.activation
    settings = _settings(
        options,
        scorer.bundle,
        precision=scorer.precision,
        engine=scorer.engine.name,
        tuning=scorer.tuned,
        exact_engine=exact.engine.name if exact else None,
    )
    device, activation = scorer.engine.device.partition(":")[0], scorer.chosen_activation.unless(own)
    return replace(settings, device=device, max_length=scorer.max_length, activation=activation)


def settings_like(options: JobOptions, bundle: Bundle, before: RunSettings) -> RunSettings:
    """The settings that the options ask for. Those that they leave to the machine are taken from the earlier run."""
    automatic = options.engine == AUTO
    return _settings(
        options,
        bundle,
        precision=before.precision if options.precision == AUTO else options.precision,
        engine=before.engine if automatic else options.engine,
        tuning=before.tuning if automatic and options.tuning else None,
        exact_engine=before.refine.engine if before.refine else None,
    )


def _settings(
    options: JobOptions,
    bundle: Bundle,
    *,
    precision: str,
    engine: str,
    tuning: TunedSetting | None,
    exact_engine: str | None,
) -> RunSettings:
    """exact_engine: of `--refine`; None for a run without it, whose settings are then no others' with it."""
    refine = None if options.refine is None else Refinement(options.refine, "", "", 0.0)
    if refine is not None and exact_engine is not None:
        margin = 2 * bundle.largest_difference(precision, refine.precision)
        refine = Refinement(refine.precision, bundle.digest(refine.precision), exact_engine, margin)
    own = bundle.manifest.activation
    return RunSettings(
        **{each.name: getattr(options, each.name) for each in fields(RowOptions) if each.name != "by"},
        by=options.ranked_by,
        bundle=bundle.digest(precision),
        precision=precision,
        engine=engine,
        device=options.device.partition(":")[0],
        max_length=options.max_length or bundle.manifest.max_length,
        tuning=tuning,
        activation=choose_activation(options.activation, own, bundle.variant(precision).scaling).unless(own),
        refine=refine,
    )


def changed_settings(old: RunSettings, new: RunSettings) -> list[str]:
    """What changed between two runs' settings, a phrase each."""
    before, now = vars(old), vars(new)
    return [
        f"{setting_name(name)} was {_shown(before[name])} and is now {_shown(now[name])}"
        for name in before
        if before[name] != now[name]
    ]


def _shown(value: Any) -> str:
    return "not given" if value is None else repr(str(value) if isinstance(value, TunedSetting) else value)


def setting_name(name: str) -> str:
    """What messages call a field of `RunSettings`: the option that sets it, where there is one."""
    shown = shown_options().get(name)
    return name if shown is None or shown.flag else option_of(name)
