"""The scorer of a job, from what the user asked for, what an earlier run chose, and what `--precision auto` chooses."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa

from pairscore.runtime.bundle.manifest import Bundle, Variant
from pairscore.runtime.bundle.parity import TIERS, Tier
from pairscore.runtime.engines.registry import ENGINES
from pairscore.runtime.engines.tuning_cache import TunedSetting
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.options import AUTO, JobOptions
from pairscore.runtime.job.settings import RunSettings
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.stream.pipeline import Window

# A less exact variant has to be faster by this factor: smaller differences are noise, and would make the choice differ
# from day to day.
_WORTHWHILE = 1.15
_TIMED_SECONDS = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """An open scorer. `chosen`: why `--precision auto` chose its precision, in words; None where it was not asked.

    `exact`: the scorer of `--refine`; None without it.
    """

    scorer: Scorer
    chosen: str | None = None
    exact: Scorer | None = None


def open_scorer(
    options: JobOptions, earlier: RunSettings | None = None, rate: Callable[[Scorer], float] | None = None
) -> Opened:
    """The scorer that the options ask for.

    earlier: the settings of a run to continue, or to take scores from. What this machine decided then (its tuning, the
    precision) stays decided, whatever it says now and on whichever machine. rate: pairs a second of a scorer, for
    `--precision auto`; by default `golden_rate`.
    """
    if options.precision != AUTO:
        if options.refine is None:
            return Opened(_open(options, options.precision, earlier))
        first = _open(options, options.precision, earlier if earlier and earlier.refine else None)
        return Opened(first, exact=_open_exact(options, first, earlier))
    bundle = Bundle.open(options.bundle)
    promise = TIERS[options.promise]
    if earlier is not None and keeps(bundle.variant(earlier.precision), promise):
        return Opened(_open(options, earlier.precision, earlier), "as an earlier run chose")
    return _fastest(options, bundle, promise, rate or golden_rate)


def keeps(variant: Variant, promise: Tier) -> bool:
    """Whether a variant's recorded promise is at least `promise`.

    A bound on logits holds scores and ranks as closely. A promise of equal scores in every batch is asked of int8
    alone: other arithmetic does not scale one row by another.
    """
    recorded, exact = variant.tier, TIERS["fp32"].max_logit_difference
    if recorded.max_logit_difference is not None and exact is not None and recorded.max_logit_difference <= exact:
        return True
    bounds = [(recorded.max_logit_difference, promise.max_logit_difference)]
    bounds.append((recorded.max_score_difference, promise.max_score_difference))
    if variant.precision == "int8":
        bounds.append((recorded.max_batch_difference, promise.max_batch_difference))
    if any(asked is not None and (given is None or given > asked) for given, asked in bounds):
        return False
    return promise.min_spearman is None or (recorded.min_spearman or 0.0) >= promise.min_spearman


def golden_rate(scorer: Scorer) -> float:
    """Golden rows scored a second, the best of the rounds that fit into a second; at least two after a first one."""
    golden = scorer.bundle.golden_rows()
    window = Window(pa.array(golden.claims, pa.string()), pa.array(golden.evidence, pa.string()), None)
    seconds: list[float] = []
    ended = time.perf_counter() + _TIMED_SECONDS
    while len(seconds) < 3 or time.perf_counter() < ended:
        started = time.perf_counter()
        for _ in scorer.stream([window]):
            pass
        seconds.append(time.perf_counter() - started)
    return len(golden.claims) / min(seconds[1:])


def _fastest(options: JobOptions, bundle: Bundle, promise: Tier, rate: Callable[[Scorer], float]) -> Opened:
    """The fastest variant that runs here and keeps the promise, measured on the bundle's golden rows.

    From the most exact variant on; a less exact one must be faster by a factor that is not noise.
    """
    variants = [variant for variant in bundle.manifest.variants.values() if keeps(variant, promise)]
    variants.sort(key=lambda variant: list(TIERS).index(variant.precision))
    best: tuple[Scorer, float] | None = None
    found = []
    for variant in variants:
        try:
            scorer = _open(options, variant.precision, None)
        except PairscoreError as error:
            _log.info("--precision auto passes over %s: %s", variant.precision, error)
            found.append(f"{variant.precision} does not run here")
            continue
        pairs_per_second = rate(scorer)
        found.append(f"{variant.precision} {pairs_per_second:,.0f} pairs/s")
        if best is None or pairs_per_second > _WORTHWHILE * best[1]:
            best = scorer, pairs_per_second
    if best is None:
        reason = "; ".join(found) or f"none promises as much as {options.promise}"
        raise PairscoreError(
            f"--precision auto finds no variant of bundle {options.bundle!r} for --promise {options.promise} "
            f"({reason}): `pairscore info` shows why, `pairscore export --precision` adds one"
        )
    return Opened(best[0], f"from {', '.join(found)} on the golden rows")


def _open(options: JobOptions, precision: str, earlier: RunSettings | None) -> Scorer:
    engine = options.engine
    tuning: bool | TunedSetting = options.tuning
    kind = options.device.partition(":")[0]
    if earlier and tuning and engine == AUTO and earlier.device == kind and earlier.engine in ENGINES:
        engine, tuning = earlier.engine, earlier.tuning or False
    return Scorer.from_pretrained(
        options.bundle,
        precision=precision,
        engine=engine,
        device=options.device,
        max_length=options.max_length,
        threads=options.threads,
        tuning=tuning,
        activation=options.activation,
    )


def _open_exact(options: JobOptions, first: Scorer, earlier: RunSettings | None) -> Scorer:
    """The scorer of `--refine`, with an engine's defaults: what a run of that precision alone has untuned."""
    before = earlier.of_scores if earlier else None
    known = before is not None and before.precision == options.refine and before.engine in ENGINES
    plain = replace(options, engine=before.engine if before is not None and known else AUTO, tuning=False)
    exact = _open(plain, str(options.refine), None)
    if str(exact.chosen_activation) != str(first.chosen_activation):
        raise PairscoreError(
            f"--refine {options.refine}: {first.precision} and {options.refine} were calibrated apart, so their scores "
            "cannot be compared; choose another --activation"
        )
    return exact
