"""Find the fastest engine, batch size and use of cores for a variant on this machine.

The candidates compete in rounds (successive halving, Jamieson and Talwalkar 2016, arXiv 1502.07943): each gets an equal
share of a round's time, and the faster half goes on. They take turns, so that a slower moment of the machine meets
them all, and the defaults stay in to the end: a choice has to beat them by a margin.

What is timed are full batches of a few lengths that are typical of the pairs, as a large window gives them: in a small
sample hardly a batch would be full, and every batch size would look alike.
"""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from pairscore.runtime.arguments import python_call
from pairscore.runtime.bundle.hub import find_bundle
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.devices import split_devices
from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.engines.registry import ENGINES, EngineSpec, is_installed
from pairscore.runtime.engines.tuning_cache import Setting, TunedSetting, delete_tuned, save_tuned
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.machine import available_cores
from pairscore.runtime.pairs_file import Pairs, given_pairs
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.types import Pair

TOKEN_BUDGETS = {"cpu": (256, 512, 1024, 2048, 4096), "cuda": (8192, 16_384, 32_768, 65_536, 131_072)}
_STREAMS = (1, 2, 3, 4)
# A choice that is not this much faster than the defaults is not made: less is noise.
MARGIN = 0.03
_FINALISTS = 3
# Pairs of the user's file that lengths are taken from.
_SAMPLED_PAIRS = 4096
_TURNS = 3
# Quantiles of the pairs' lengths whose batches are timed.
_QUANTILES = (0.125, 0.375, 0.625, 0.875)

# (candidate, seconds to spend at least) -> (pairs scored, seconds spent).
Measure = Callable[[Setting, float], tuple[int, float]]


@dataclass(frozen=True)
class MeasuredSetting:
    """A candidate's best rate in the last round that it was in. `rounds`: how many it was in."""

    setting: Setting
    pairs_per_second: float
    rounds: int


@dataclass(frozen=True)
class Tuning:
    """`results`: of every setting, those that went furthest and fastest first. `default`: what scoring does untuned.

    `choice`: the fastest; None where the defaults are as good.
    """

    results: tuple[MeasuredSetting, ...]
    default: Setting
    choice: TunedSetting | None


@python_call(threads=1, seconds=0)
def tune(
    bundle: str | Path,
    *,
    revision: str | None = None,
    precision: str = "fp32",
    pairs: Pairs = (),
    claim_column: str = "claim",
    evidence_column: str = "evidence",
    device: str = "cpu",
    threads: int | None = None,
    seconds: float = 60.0,
) -> Tuning:
    """Measure engines, batch sizes and threads or streams for a bundle on this machine, and remember the fastest.

    `score_files` and `Scorer.from_pretrained` use the choice from then on, on this machine and with these library
    releases only. Run it while the machine does nothing else.

    `pairs`: your own, a Parquet file with `claim_column` and `evidence_column` or a list of pairs; without them, the
    bundle's golden rows. `seconds`: of measuring, and each setting is measured once at least; opening the engines comes
    on top. `device`: cpu, cuda or cuda:N.
    `threads`: cores to compute on, by default all; what is found is used by whoever asks for as many.

    Raises PairscoreError for a precision that the bundle lacks, and where the defaults do not run.
    """
    folder = find_bundle(bundle, revision, (precision,))
    digest = Bundle.open(folder).digest(precision)
    sample = given_pairs(pairs, claim_column, evidence_column, _SAMPLED_PAIRS)
    found = compare_settings(folder, precision, sample, seconds, device, threads=threads)
    if found.choice is None:
        delete_tuned(digest, found.default.device, threads)
    else:
        save_tuned(digest, found.choice, threads)
    return found


def compare_settings(
    folder: str | Path,
    precision: str = "fp32",
    pairs: Sequence[Pair] = (),
    seconds: float = 60.0,
    device: str = "cpu",
    *,
    threads: int | None = None,
) -> Tuning:
    """Measure every setting of a bundle's variant; nothing is remembered. Arguments and errors are those of `tune`."""
    bundle = Bundle.open(folder)
    golden = bundle.golden_rows()
    sample = list(pairs or [(claim, evidence) for claim in golden.claims for evidence in golden.evidence])
    (single,), kind = split_devices(device)[:1], device.partition(":")[0]
    fitting = [each for each in bundle.variant(precision).engines if each in ENGINES and kind in ENGINES[each].devices]
    installed = [each for each in fitting if is_installed(each)]
    if not installed:
        raise PairscoreError(
            f"no engine of the {precision} variant of {str(folder)!r} is installed that serves {device}: install its "
            "extra"
        )
    scorers: dict[Setting, Scorer] = {}
    for setting in (
        replace(each, engine=engine) for engine in installed for each in ways(kind, ENGINES[engine], threads)
    ):
        try:
            scorers[setting] = Scorer.from_pretrained(
                folder, precision=precision, engine=setting.engine, device=single, options=setting.options(threads)
            )
        except PairscoreError:
            if not scorers:  # this is what scoring would use untuned
                raise
    first = next(iter(scorers))
    default = replace(first, token_budget=scorers[first].engine.token_budget)
    settings = [replace(each, token_budget=budget) for each in scorers for budget in TOKEN_BUDGETS[kind]]

    budgets = {*TOKEN_BUDGETS[kind], default.token_budget}
    batches_of = {budget: typical_batches(scorers[first], sample, budget) for budget in budgets}

    def measure(setting: Setting, least: float) -> tuple[int, float]:
        scorer = scorers[replace(setting, token_budget=0)]
        batches = batches_of[setting.token_budget]
        # Every caller gets as many batches of each length.
        batches = batches * (scorer.engine.callers // math.gcd(scorer.engine.callers, len(batches)))
        done, started = 0, time.perf_counter()
        with ThreadPoolExecutor(scorer.engine.callers) as callers:
            while not done or time.perf_counter() - started < least:
                list(callers.map(scorer.engine.run, batches))
                done += sum(len(batch.rows) for batch in batches)
        return done, time.perf_counter() - started

    results = successive_halving(settings, default, measure, seconds)
    return Tuning(tuple(results), default, choose(results, default))


def ways(device: str, engine: EngineSpec, cores: int | None = None) -> list[Setting]:
    """Ways to use the machine with this engine. The first one is the default.

    device: cpu or cuda. cores: None for all. `engine` and `token_budget` are left open.
    """
    if device == "cpu":
        threads = {1, cores or available_cores()} if engine.shares_batches else {1}
        return [Setting("", each, 0) for each in sorted(threads)]
    streams = sorted(_STREAMS, key=lambda number: number != EngineOptions().streams)
    return [Setting("", 1, 0, device, streams=number) for number in streams]


def typical_batches(scorer: Scorer, pairs: Sequence[Pair], token_budget: int) -> list[Batch]:
    """One full batch at each of a few lengths of `pairs`, a single pair repeated in it."""
    tokenized = scorer.tokenize(pairs)
    order = np.argsort(tokenized.lengths, kind="stable")
    rows = [int(order[int(quantile * len(order))]) for quantile in _QUANTILES]
    return [
        tokenized.batch(np.full(max(1, token_budget // int(tokenized.lengths[row])), row, dtype=np.int64))
        for row in rows
    ]


def successive_halving(
    settings: Sequence[Setting], default: Setting, measure: Measure, seconds: float
) -> list[MeasuredSetting]:
    """Successive halving within about `seconds`: longer only where a single turn of everybody takes longer."""
    running = list(dict.fromkeys([default, *settings]))
    results: dict[Setting, MeasuredSetting] = {}
    rounds = max(1, (len(running) // _FINALISTS).bit_length() + 1)
    for number in range(1, rounds + 1):
        share = seconds / rounds / (len(running) * _TURNS)
        best = dict.fromkeys(running, 0.0)
        spent = 0.0
        for turn in range(_TURNS):
            if turn and spent * (turn + 1) / turn > 1.5 * seconds / rounds:
                break
            for setting in running:
                pairs, took = measure(setting, share)
                best[setting] = max(best[setting], pairs / took)
                spent += took
        for setting in running:
            results[setting] = MeasuredSetting(setting, best[setting], number)
        ranked = sorted(running, key=lambda setting: -best[setting])
        kept = ranked[: max(_FINALISTS, len(ranked) // 2)]
        running = kept if default in kept else [*kept, default]
    return sorted(results.values(), key=lambda result: (-result.rounds, -result.pairs_per_second))


def choose(results: Sequence[MeasuredSetting], default: Setting) -> TunedSetting | None:
    """The fastest of the last round; None unless it beats the defaults, measured beside it, by `MARGIN`."""
    standard = next(result for result in results if result.setting == default)
    last = [result for result in results if result.rounds == standard.rounds]
    winner = max(last, key=lambda result: result.pairs_per_second)
    gain = winner.pairs_per_second / standard.pairs_per_second
    if winner.setting == default or gain < 1 + MARGIN:
        return None
    return TunedSetting(**asdict(winner.setting), gain=round(gain, 3))
