"""`--dry-run`: the time that a job would take, estimated from footers and a small sample of rows."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from pairscore.runtime.input.read import read_pieces
from pairscore.runtime.job.options import JobOptions
from pairscore.runtime.job.plan import JobPlan
from pairscore.runtime.job.prepare import Work, find_work, prepare
from pairscore.runtime.job.progress.meter import duration
from pairscore.runtime.job.reuse import read_old_scores
from pairscore.runtime.job.summary import counted
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.storage.parts import Block
from pairscore.runtime.stream.columns import pair_arrays
from pairscore.runtime.stream.passages import LongEvidence
from pairscore.runtime.types import Pair

# Rows are sampled in runs from the beginnings of blocks spread over the input.
_SAMPLED_BLOCKS = 8
_SAMPLED_ROWS = 512
_TIMED_SECONDS = 3.0
_TIMED_PAIRS = 64


@dataclass(frozen=True)
class Estimate:
    """What is left of a job. `rows`, `parts`: still to do; `earlier_parts`: done already.

    `pairs`: rows that have both texts and pass the filter, and `reused`: those of them that have an old score; both
    extrapolated from the sample. `seconds`: without loading; None where the sample held no pair to compute.
    """

    files: int
    rows: int
    parts: int
    earlier_parts: int
    sampled_rows: int
    sampled_pairs: int
    pairs: int
    reused: int
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
        earlier = f" ({counted(self.earlier_parts, 'part')} done already)" if self.earlier_parts else ""
        reused = f", {self.reused:,} of them with an old score" if self.reused else ""
        return [
            f"{counted(self.rows, 'row')} in {counted(self.files, 'file')}, {counted(self.parts, 'part')}{earlier}; "
            f"about {counted(self.pairs, 'pair')} to score{reused}",
            f"{self.mean_tokens:.1f} tokens a pair, {self.truncated_share:.1%} of pairs truncated "
            f"(from {self.sampled_pairs:,} sampled pairs)",
            f"{self.pairs_per_second:,.0f} pairs/s here: {time_expected}; nothing was written",
            *(f"Would leave out {name}: {reason}" for name, reason in self.skipped),
            *([f"Not counted: {self.hidden:,} Parquet files whose names start with . or _"] if self.hidden else []),
        ]


def estimate_job(options: JobOptions) -> Estimate:
    """Prepare a job as a run would, sample the rows that are left, and time a few batches. Writes nothing."""
    prepared = prepare(options)
    plan = prepared.plan
    files = sum(file is not None for file in plan.files)
    if prepared.whole is not None:
        done = prepared.whole.earlier_parts
        skipped = prepared.whole.skipped
        return Estimate(files, 0, 0, done, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, skipped, nothing_to_do=True)
    work = find_work(prepared)
    scorer, left = work.opened.scorer, work.left
    step = max(1, len(left) // _SAMPLED_BLOCKS)
    pairs: list[Pair] = []
    sampled_rows = 0
    for block in left[::step][:_SAMPLED_BLOCKS]:
        rows = Block(block.file, block.start, min(block.stop, block.start + _SAMPLED_ROWS))
        for piece in read_pieces(plan.file(block.file), [rows], plan.reading):
            claims, evidence, _ = piece.texts(plan.reading.text_columns, "null", "null")
            pairs.extend(zip(claims.to_pylist(), evidence.to_pylist(), strict=True))
        sampled_rows += rows.stop - rows.start
    new = _without_score(pairs, work, plan)
    tokenized = scorer.tokenize(pairs, plan.columns.long)
    rows_left = sum(block.stop - block.start for block in left)
    expected, computed = (round(rows_left * len(each) / sampled_rows) if sampled_rows else 0 for each in (pairs, new))
    rate = _rate(scorer, new, plan.columns.long) if new else 0.0
    return Estimate(
        files=files,
        rows=rows_left,
        parts=len(left),
        earlier_parts=len(work.done),
        sampled_rows=sampled_rows,
        sampled_pairs=len(pairs),
        pairs=expected,
        reused=expected - computed,
        mean_tokens=float(tokenized.lengths.mean()) if pairs else 0.0,
        truncated_share=float(tokenized.truncated[tokenized.pair_of].mean()) if pairs else 0.0,
        pairs_per_second=rate,
        seconds=computed / rate if rate else None,
        skipped=plan.named(work.skipped),
        hidden=len(plan.hidden),
    )


def _without_score(pairs: list[Pair], work: Work, plan: JobPlan) -> list[Pair]:
    """Those of the pairs that no earlier output holds the score of."""
    if not work.old_files or not pairs:
        return pairs
    with closing(read_old_scores(work.old_files, work.opened.scorer, plan.columns)) as old:
        known = old.lookup(*pair_arrays(pairs))[0]
    return [pair for pair, is_known in zip(pairs, known, strict=True) if not is_known]


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
