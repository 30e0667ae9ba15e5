"""The figures of a run: for people, for machines, and for the metadata of its output."""

from dataclasses import asdict, dataclass, field
from typing import Any

from pairscore.runtime.job.progress.meter import duration
from pairscore.runtime.job.refine import Refined
from pairscore.runtime.machine import peak_memory_bytes
from pairscore.runtime.spill.ranking import Best
from pairscore.runtime.stream.pipeline import Statistics

# Share of pairs that may be cut before a run warns.
MANY_CUT = 0.01


@dataclass
class JobFigures:
    """Counts and times of one run. `rows`: input rows covered, of which `nulls` have no score and `reused` an old one.

    Seconds: `read`, `write` and `tokenize` are wall time of the one thread that does it; `engine` is summed over the
    threads that call the engine, `engine_callers` of them.
    """

    rows: int = 0
    nulls: int = 0
    reused: int = 0
    parts: int = 0
    statistics: Statistics = field(default_factory=Statistics)
    seconds: float = 0.0
    read_seconds: float = 0.0
    write_seconds: float = 0.0
    engine_callers: int = 1

    def add(self, statistics: Statistics, rows: int, nulls: int, reused: int, write_seconds: float) -> None:
        """Count one more part."""
        self.statistics.add(statistics)
        self.rows += rows
        self.nulls += nulls
        self.reused += reused
        self.write_seconds += write_seconds
        self.parts += 1

    def as_dict(self) -> dict[str, Any]:
        """Everything measured and derived, JSON-serialisable."""
        measured = self.statistics
        seconds = max(self.seconds, 1e-9)
        return {
            "rows": self.rows,
            "pairs": measured.pairs,
            "nulls": self.nulls,
            "reused": self.reused,
            "parts": self.parts,
            "tokens": measured.tokens,
            "truncated": measured.truncated,
            "passages": measured.passages,
            "seconds": round(self.seconds, 3),
            "pairs_per_second": round(measured.pairs / seconds, 2),
            "tokens_per_second": round(measured.tokens / seconds, 1),
            "share_outside_engine": self.share_outside_engine,
            "engine_idle_share": self.engine_idle_share,
            "seconds_by_stage": {
                "read": round(self.read_seconds, 3),
                "tokenize": round(measured.tokenize_seconds, 3),
                "engine": round(measured.engine_seconds / self.engine_callers, 3),
                "write": round(self.write_seconds, 3),
            },
        }

    @property
    def share_outside_engine(self) -> float:
        """Share of the run that the threads which call the engine spent outside it; their mean."""
        if not self.seconds:
            return 0.0
        return round(max(0.0, 1 - self.statistics.engine_seconds / (self.engine_callers * self.seconds)), 4)

    @property
    def engine_idle_share(self) -> float:
        """Share of the run in which no thread was in the engine, so that its device had nothing to do."""
        if not self.seconds:
            return 0.0
        return round(max(0.0, 1 - self.statistics.engine_busy_seconds / self.seconds), 4)


@dataclass(frozen=True)
class Summary:
    """The end of a run. `whole`: whether the output is; other shards may be missing. `earlier_parts`: found done.

    `best`: the rows that were kept; None for all. `chosen`: why `--precision auto` chose this precision; None where it
    was not asked. `nothing_to_do`: the output was whole before, and nothing was done. `long_evidence`: cut or
    split. `refined`: what `--refine` computed again in this run; None without it.
    """

    output: str
    whole: bool
    figures: JobFigures
    earlier_parts: int
    missing_blocks: int
    skipped: tuple[tuple[str, str], ...]
    precision: str
    engine: str
    device: str
    tuning: str | None
    max_length: int
    load_seconds: float
    best: Best | None = None
    chosen: str | None = None
    nothing_to_do: bool = False
    long_evidence: str = "cut"
    refined: Refined | None = None

    def warnings(self) -> list[str]:
        """What is worth a line even where nobody reads the summary: that many pairs were cut."""
        pairs, cut = self.figures.statistics.pairs, self.figures.statistics.truncated
        if cut <= MANY_CUT * pairs:
            return []
        remedy = "read all of it with --long-evidence split, or mark such pairs with --truncated-column NAME"
        if self.long_evidence == "split":
            remedy = "their claims are too long for the model; mark them with --truncated-column NAME"
        return [f"{cut:,} of {pairs:,} pairs were cut to {self.max_length} tokens ({cut / pairs:.1%}): {remedy}"]

    @property
    def rows(self) -> int:
        """Rows of the input that this run covered."""
        return self.figures.rows

    @property
    def pairs(self) -> int:
        """Pairs that were computed; `reused` and `nulls` come on top."""
        return self.figures.statistics.pairs

    @property
    def tokens(self) -> int:
        """Tokens of these pairs."""
        return self.figures.statistics.tokens

    @property
    def reused(self) -> int:
        """Rows whose score an old output gave."""
        return self.figures.reused

    @property
    def nulls(self) -> int:
        """Rows without a score."""
        return self.figures.nulls

    @property
    def seconds(self) -> float:
        """Wall time of the run, without loading the model."""
        return self.figures.seconds

    @property
    def pairs_per_second(self) -> float:
        """`pairs` by `seconds`."""
        return self.pairs / max(self.seconds, 1e-9)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        plain = asdict(self)
        del plain["figures"]
        skipped = [{"file": name, "reason": reason} for name, reason in self.skipped]
        return {**plain, "skipped": skipped, **self.figures.as_dict(), "peak_memory_bytes": peak_memory_bytes()}

    def lines(self) -> list[str]:
        """For people."""
        if self.nothing_to_do:
            return [f"Nothing to do: {self.output} is whole, from the same input and settings ({self.precision})"]
        figures = self.figures.as_dict()
        stages, peak = figures["seconds_by_stage"], peak_memory_bytes()
        nulls = f", {figures['nulls']:,} without a score (null)" if figures["nulls"] else ""
        reused = f", {figures['reused']:,} reused" if figures["reused"] else ""
        earlier = f", {counted(self.earlier_parts, 'earlier part')} kept" if self.earlier_parts else ""
        lines = [
            f"{figures['pairs']:,} pairs scored{reused}{nulls} in {duration(self.figures.seconds)}: "
            f"{figures['pairs_per_second']:,.0f} pairs/s, {figures['tokens_per_second']:,.0f} tokens/s, "
            f"{counted(figures['parts'], 'part')}{earlier}",
            f"{self.precision} on {self.engine} ({self.device}), at most {self.max_length} tokens a pair; outside "
            f"the engine {figures['share_outside_engine']:.1%} "
            f"(read {stages['read']:.1f} s, tokenize {stages['tokenize']:.1f} s, write {stages['write']:.1f} s), "
            f"loading {self.load_seconds:.1f} s{'' if peak is None else f', peak memory {peak / 2**20:,.0f} MiB'}",
            *self._lengths(),
            *([str(self.refined)] if self.refined else []),
            *([f"--precision auto chose {self.precision}, {self.chosen}"] if self.chosen else []),
            *([f"Tuned for this machine: {self.tuning} (--no-tuning does without)"] if self.tuning else []),
            *(f"Left out: {name}: {reason}" for name, reason in self.skipped),
        ]
        best = f"the best {self.best.top_k} rows of each value of {self.best.by!r}" if self.best else ""
        if self.whole:
            lines.append(f"Wrote {f'{best} to ' if best else ''}{self.output}")
        else:
            lacking = counted(self.missing_blocks, "part")
            later = f"; the shard that ends last chooses {best} over all shards" if best else ""
            lines.append(f"Wrote the parts of this shard to {self.output}; other shards still lack {lacking}{later}")
        return lines

    def _lengths(self) -> list[str]:
        """What became of pairs that are too long; nothing where there was none."""
        found = self.figures.statistics
        if not found.truncated and not found.passages:
            return []
        split = f"{found.passages:,} further passages of long evidence scored; " if found.passages else ""
        return [f"{split}{found.truncated:,} of {found.pairs:,} pairs cut to {self.max_length} tokens"]


def counted(count: int, noun: str) -> str:
    """The number with its noun: "1 part", "2,000 parts"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
