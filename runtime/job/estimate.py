"""`--dry-run`: the time that a job would take, estimated from footers and a small sample of rows."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.job.crash import culprits
from pairscore.runtime.job.finished import already_whole
from pairscore.runtime.job.input.footers import FooterReading
from pairscore.runtime.job.input.read import read_pieces
from pairscore.runtime.job.opening import open_scorer, settings_of
from pairscore.runtime.job.options import JobOptions
from pairscore.runtime.job.output import layout as out
from pairscore.runtime.job.parts import Block
from pairscore.runtime.job.plan import Plan, make_plan
from pairscore.runtime.job.progress.meter import duration
from pairscore.runtime.job.reuse import check_not_own, find_old_files, recorded_settings
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.stream.passages import LongEvidence
from pairscore.runtime.types import Pair

# Rows are sampled in runs from the beginnings of blocks spread over the input.
_SAMPLED_BLOCKS = 8
_SAMPLED_ROWS = 512
_TIMED_SECONDS = 3.0
_TIMED_PAIRS = 64


@dataclass(frozen=True)
class Estimate:
    """`pairs`: rows that have both texts and pass the filter, extrapolated from the sample. `seconds`:
    without loading; None where the sample held no pair.
    """

    files: int
    rows: int
    parts: int
    sampled_rows: int
    sampled_pairs: int
    pairs: int
    mean_tokens: float
    truncated_share: float
    pairs_per_second: float
    seconds: float | None
    skipped: tuple[tuple[str, str], ...]
    nothing_to_do: bool = False
    hidden: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        if self.nothing_to_do:
            return ["Nothing to do: the output is whole, from the same input and settings"]
        time_expected = "unknown" if self.seconds is None else f"about {duration(self.seconds)}"
        return [
            f"{self.rows:,} rows in {self.files} files, {self.parts} parts; about {self.pairs:,} pairs to score",
            f"{self.mean_tokens:.1f} tokens a pair, {self.truncated_share:.1%} of pairs truncated "
            f"(from {self.sampled_pairs:,} sampled pairs)",
            f"{self.pairs_per_second:,.0f} pairs/s here: {time_expected}; nothing was written",
            *(f"Would leave out {name}: {reason}" for name, reason in self.skipped),
            *([f"Not counted: {self.hidden:,} Parquet files whose names start with . or _"] if self.hidden else []),
        ]


def estimate_job(options: JobOptions) -> Estimate:
    """Check a job as a run would, sample its rows, and time a few batches. Writes nothing."""
    bundle = Bundle.open(options.bundle)
    output = out.open_output(options.output) if options.output is not None else None
    if output is not None:
        out.check_output(output)
        check_not_own(options.reuse, output)
    # A dry run leaves no note, so files that would end this process are looked for at once, in another.
    plan = make_plan(options, bundle.manifest, FooterReading(culprits(options, bundle.manifest).footers))
    if output is not None and not options.overwrite and out.is_whole(output):
        already_whole(options, plan, bundle, output)
        return _nothing(plan)
    earlier = out.recorded_settings(output) if output is not None and not options.overwrite else None
    scorer = open_scorer(options, earlier or recorded_settings(options.reuse)).scorer
    find_old_files(options.reuse, settings_of(options, scorer), scorer, plan.columns)
    step = max(1, len(plan.mine) // _SAMPLED_BLOCKS)
    pairs: list[Pair] = []
    sampled_rows = 0
    for block in plan.mine[::step][:_SAMPLED_BLOCKS]:
        rows = Block(block.file, block.start, min(block.stop, block.start + _SAMPLED_ROWS))
        for piece in read_pieces(plan.file(block.file), [rows], plan.reading):
            claims, evidence, _ = piece.texts(plan.reading.text_columns, "null", "null")
            pairs.extend(zip(claims.to_pylist(), evidence.to_pylist(), strict=True))
        sampled_rows += rows.stop - rows.start
    count = len(pairs)
    tokenized = scorer.tokenize(pairs, plan.columns.long)
    expected = round(plan.rows * count / sampled_rows) if sampled_rows else 0
    rate = _rate(scorer, pairs, plan.columns.long) if count else 0.0
    return Estimate(
        files=sum(file is not None for file in plan.files),
        rows=plan.rows,
        parts=len(plan.mine),
        sampled_rows=sampled_rows,
        sampled_pairs=count,
        pairs=expected,
        mean_tokens=float(tokenized.lengths.mean()) if count else 0.0,
        truncated_share=float(tokenized.truncated[tokenized.pair_of].mean()) if count else 0.0,
        pairs_per_second=rate,
        seconds=expected / rate if rate else None,
        skipped=plan.named(plan.skipped),
        hidden=len(plan.hidden),
    )


def _nothing(plan: Plan) -> Estimate:
    """For an output that is whole."""
    files = sum(file is not None for file in plan.files)
    return Estimate(files, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, plan.named(plan.skipped), nothing_to_do=True)


def _rate(scorer: Scorer, pairs: Sequence[Pair], long: LongEvidence | None) -> float:
    """Pairs a second over rows taken evenly from the sample, after a first few to warm up."""
    step = max(1, len(pairs) // _TIMED_PAIRS)
    pairs = [pair for first in range(step) for pair in pairs[first::step]]
    list(scorer.stream_pairs(pairs[:_TIMED_PAIRS], long=long))
    done, started, size = 0, time.perf_counter(), _TIMED_PAIRS
    while time.perf_counter() - started < _TIMED_SECONDS and done < len(pairs):
        list(scorer.stream_pairs(pairs[done : done + size], long=long))
        done += min(size, len(pairs) - done)
        size *= 2
    return done / (time.perf_counter() - started)
