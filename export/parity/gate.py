"""The gate: of several ways to run in one precision, the fastest that keeps the promise, or none."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pairscore.export.errors import ParityError
from pairscore.export.parity.measure import ParitySet, logits_of, measure, open_unproven
from pairscore.export.reference import Reference
from pairscore.runtime.bundle.manifest import Variant
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.types import FloatArray, Pair

# Pairs that are scored once more one by one, to see whether their neighbours matter.
_ALONE = 32
# Pairs and rounds of the comparison of speed. The pairs scored before each fill the caches.
_TIMED_PAIRS, _ROUNDS, _LEAD_IN_PAIRS = 200, 8, 16
# Candidates within this share of the fastest are called equally fast, and the most exact of them is taken.
_EQUALLY_FAST = 0.05
FP32 = "fp32"


@dataclass(frozen=True)
class Trial:
    """A candidate that was measured. `broken`: promises that it does not keep. `ratio_to_fp32`: of its speed to that of
    the bundle's fp32 variant, in the same run.
    """

    name: str
    variant: Variant
    pairs_per_second: float
    ratio_to_fp32: float
    broken: tuple[str, ...]

    def __str__(self) -> str:
        report = self.variant.parity
        rank = "not defined" if report.spearman is None else f"{report.spearman:.6f}"
        verdict = f"fails: {'; '.join(self.broken)}" if self.broken else "passes"
        return (
            f"{self.name}: {self.pairs_per_second:.0f} pairs/s, {self.ratio_to_fp32:.2f} x fp32, "
            f"scores differ by at most {report.max_score_difference:.2g}, logits by "
            f"{report.mean_logit_difference:.2g} in the mean, Spearman {rank}; {verdict}"
        )


def try_out(
    folder: Path,
    candidates: Sequence[tuple[str, Variant]],
    reference: Reference,
    parity_set: ParitySet,
) -> list[Trial]:
    """Measure each candidate, a name and a variant whose files are in `folder`, and the bundle's fp32 beside them.
    parity_set: none of its pairs was used to calibrate. A candidate whose engine cannot open it fails with that reason.
    """
    reference.release()  # its logits are known
    pairs = parity_set.pairs
    scorers: dict[str, Scorer] = {}
    trials: dict[str, Trial] = {}
    for name, variant in candidates:
        try:
            scorer = open_unproven(folder, variant.precision, variant.engines[0], variant=variant)
            report, logits = measure(scorer, reference, parity_set)
        except PairscoreError as error:
            trials[name] = Trial(name, variant, 0.0, 0.0, (str(error),))
            continue
        report = replace(report, batch_difference=batch_difference(scorer, pairs, logits))
        scorers[name] = scorer
        measured = replace(variant, parity=report)
        trials[name] = Trial(name, measured, 0.0, 0.0, tuple(report.violations(variant.tier)))
    # Last, since a candidate takes more memory while it is opened than later.
    scorers[FP32] = open_unproven(folder, "fp32")
    timed = list(pairs[-_TIMED_PAIRS:])
    seconds = _seconds(scorers, timed)
    for name in trials.keys() & seconds.keys():
        ratio = seconds[FP32] / seconds[name]
        trials[name] = replace(trials[name], pairs_per_second=len(timed) / seconds[name], ratio_to_fp32=ratio)
    return list(trials.values())


def choose(trials: Sequence[Trial], precision: str) -> Trial:
    """The fastest trial that passed; of those equally fast, the one whose logits differ least in the mean. Raises
    ParityError, naming the most exact one, when none passed.
    """
    passed = [trial for trial in trials if not trial.broken]
    if not passed:
        measured = [trial for trial in trials if trial.variant.parity.pairs]
        if not measured:
            raise PairscoreError(
                f"no {precision} candidate runs here: {'; '.join(map(str, trials)) or 'none was made'}"
            )
        best = min(measured, key=lambda trial: trial.variant.parity.max_score_difference)
        raise ParityError(
            f"no {precision} variant keeps the promise; the most exact is {best}; no variant was written: "
            "loosen --max-difference or --min-spearman, or use another precision"
        )
    fastest = max(trial.pairs_per_second for trial in passed)
    equal = [trial for trial in passed if trial.pairs_per_second >= fastest * (1 - _EQUALLY_FAST)]
    return min(equal, key=lambda trial: trial.variant.parity.mean_logit_difference)


def batch_difference(scorer: Scorer, pairs: Sequence[Pair], together: FloatArray) -> float:
    """How far a pair's logits move when it is scored alone instead of among `pairs`: the largest of some. together: the
    scorer's logits of all pairs, Shape (pairs, labels).
    """
    rows = np.unique(np.linspace(0, len(pairs) - 1, min(_ALONE, len(pairs))).astype(int))
    alone = np.concatenate([logits_of(scorer, [pairs[row]]) for row in rows])
    return float(np.abs(alone - together[rows]).max(initial=0.0))


def _seconds(scorers: dict[str, Scorer], pairs: Sequence[Pair]) -> dict[str, float]:
    """What each scorer takes for `pairs`. They take turns, forwards and backwards."""
    seconds = np.zeros((_ROUNDS, len(scorers)))
    order = list(enumerate(scorers.values()))
    for turn in seconds:
        for place, scorer in order:
            scorer.predict(list(pairs[:_LEAD_IN_PAIRS]))
            started = time.perf_counter()
            scorer.predict(list(pairs))
            turn[place] = time.perf_counter() - started
        order.reverse()
    return dict(zip(scorers, undisturbed(seconds).tolist(), strict=True))


def undisturbed(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The median share that each has in the time of a round, in seconds of the fastest round. So a slow moment of the
    machine is to nobody's disadvantage. seconds: Shape (rounds, systems).
    """
    rounds = seconds.sum(axis=1, keepdims=True)
    typical: npt.NDArray[np.float64] = rounds.min() * np.median(seconds / rounds, axis=0)
    return typical
