"""What a run does under its output's lock: windows of rows are read, scored and written as parts, side by side."""

import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pairscore.runtime.engines.limited_callers import limit_callers
from pairscore.runtime.errors import PairscoreError, may_pass
from pairscore.runtime.input.partitions import partition_array
from pairscore.runtime.input.read import Piece, read_pieces
from pairscore.runtime.job.blocks import missing
from pairscore.runtime.job.options import JobOptions
from pairscore.runtime.job.output import layout as out
from pairscore.runtime.job.output import merge
from pairscore.runtime.job.output.locks import Held
from pairscore.runtime.job.plan import JobPlan, every_file_left_out
from pairscore.runtime.job.prepare import Work
from pairscore.runtime.job.progress.events import EventLog
from pairscore.runtime.job.progress.meter import Meter, Progress, reported
from pairscore.runtime.job.refine import Refiner
from pairscore.runtime.job.summary import JobFigures, Summary, counted
from pairscore.runtime.spill.old_scores import OldScores
from pairscore.runtime.storage.parquet import filtered
from pairscore.runtime.storage.parts import Block, Part
from pairscore.runtime.storage.sealing import part_bytes
from pairscore.runtime.stream.background import ahead, behind
from pairscore.runtime.stream.pipeline import Scored, Window
from pairscore.runtime.stream.score_columns import Outcome

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Payload:
    """The data of a window that the engine does not need. `kept`: the columns to keep. `valid`: the rows that have a
    pair.

    `evidence`: of the window's pairs; `texts`: claims and evidence of all rows that have a pair. `known`: which of
    these have an old score, and `exact`: which have one of the variant that refines; Shape (pairs,). `old`: their
    outcome, to be filled with what is computed for the others; None where nothing is reused.
    """

    part: Part
    kept: pa.Table
    valid: pa.BooleanArray
    evidence: pa.StringArray
    texts: tuple[pa.StringArray, pa.StringArray]
    known: npt.NDArray[np.bool_]
    exact: npt.NDArray[np.bool_]
    old: Outcome | None = None


@dataclass
class Execution:
    """A run that holds its output's lock: `score` its parts, then `finish` the output.

    `_output`: begun for the record of `_work`. `_old`: scores to reuse; `_exact`: those of the variant that refines.
    """

    _options: JobOptions
    _plan: JobPlan
    _work: Work
    _output: out.Output
    _held: Held
    _progress: Callable[[Progress], None] | None
    _log: EventLog
    _old: OldScores | None
    _exact: OldScores | None

    def __post_init__(self) -> None:
        self._scorer, self._record = self._work.opened.scorer, self._work.record
        self._refiner: Refiner | None = None
        exact, refine, best = self._work.opened.exact, self._record.settings.refine, self._plan.best
        if exact is not None and refine is not None and best is not None:
            first_engine, exact_engine = limit_callers([self._scorer.engine, exact.engine])
            self._scorer, exact = replace(self._scorer, engine=first_engine), replace(exact, engine=exact_engine)
            columns = self._plan.columns
            label = [field.name for field in columns.score_fields].index(best.score)
            self._refiner = Refiner(exact, columns, refine.margin, label, best.top_k)
        self._earlier_parts = 0
        # Place of an input file that is left out -> the reason.
        self._skipped = {**self._plan.skipped, **out.skipped_files(self._output)}
        self._figures = JobFigures(engine_callers=self._scorer.engine.callers)
        self._meter = Meter()
        # Where scores come from, for the Parquet metadata.
        source = asdict(self._scorer.bundle.manifest.source)
        settings = self._record.settings.as_dict()
        self._origin = {"run": self._record.digest, "settings": settings, "source": source}

    def score(self, done: Sequence[Part]) -> None:
        """Score what `done` does not cover and write it, part by part."""
        self._earlier_parts = len(done)
        if done:
            _log.info("Continuing: %s done already", counted(len(done), "part"))
        self._log.write(
            "start",
            run=self._record.digest,
            rows=self._plan.rows,
            earlier_parts=len(done),
            hidden_files=len(self._plan.hidden),
            settings=self._record.settings.as_dict(),
        )
        blocks = self._without_skipped(self._plan.mine)
        rest = missing(blocks, done)
        total, left = (sum(block.stop - block.start for block in each) for each in (blocks, rest))
        self._meter.start(total, total - left)
        started = time.perf_counter()
        # Closed at once on an error too: neither the reading thread nor the engine's threads may outlive the run.
        with (
            reported(self._meter, self._progress),
            behind(self._write, "pairscore-write") as write,
            closing(ahead(self._windows(rest), "pairscore-read")) as windows,
            closing(
                self._scorer.stream(
                    windows,
                    on_tokenized=self._tokenized,
                    on_progress=self._meter.add,
                    long=self._plan.columns.long,
                )
            ) as stream,
        ):
            for scored in stream:
                write(scored)
        self._figures.seconds = time.perf_counter() - started

    def finish(self, load_seconds: float) -> Summary:
        """Make the output whole if nothing is missing any more, in this shard and in the others."""
        self._skipped |= out.skipped_files(self._output)
        parts = self._output.parts()
        for part in parts:
            if part.file in self._skipped:
                self._output.remove(part.name)
        lacking = missing(self._without_skipped(self._plan.blocks), parts)
        if len(self._skipped) == len(self._plan.files):
            raise every_file_left_out(self._skipped)
        if not lacking:
            self._held.check()
            started = time.perf_counter()
            merge.finish(self._output, self._origin, self._plan.output, self._widen, self._plan.best)
            self._figures.write_seconds += time.perf_counter() - started
            self._figures.seconds += time.perf_counter() - started
        scorer = self._scorer
        summary = Summary(
            output=self._output.url,
            whole=not lacking,
            figures=self._figures,
            earlier_parts=self._earlier_parts,
            missing_blocks=len(lacking),
            skipped=self._plan.named(self._skipped),
            precision=scorer.precision,
            engine=scorer.engine.name,
            device=scorer.engine.device,
            tuning=str(scorer.tuned) if scorer.tuned else None,
            max_length=scorer.max_length,
            load_seconds=round(load_seconds, 3),
            best=self._plan.best,
            chosen=self._work.opened.chosen,
            long_evidence=self._options.long_evidence,
            refined=self._refiner.total if self._refiner else None,
        )
        for line in summary.warnings():
            _log.warning("%s", line)
        return summary

    def _windows(self, blocks: Sequence[Block]) -> Generator[Window[_Payload], None, None]:
        """The blocks' pairs, a window a part."""
        for place, group in groupby(blocks, key=lambda block: block.file):
            file = self._plan.file(place)
            try:
                started = time.perf_counter()
                with closing(read_pieces(file, list(group), self._plan.reading)) as pieces:
                    for piece in pieces:
                        window = self._window(piece)
                        self._figures.read_seconds += time.perf_counter() - started
                        yield window
                        started = time.perf_counter()
            except PairscoreError as error:
                if self._options.on_error != "skip-file" or may_pass(error):
                    raise
                self._skipped[place] = str(error)
                self._log.write("skip", file=file.found.name, reason=str(error))
                _log.info("Leaving out %s: %s", file.found.display, error)
                out.record_skipped(self._output, place, str(error))

    def _window(self, piece: Piece) -> Window[_Payload]:
        options = self._options
        columns = self._plan.reading.text_columns
        claims, evidence, valid = piece.texts(columns, options.on_null, options.on_invalid_utf8)
        kept = piece.table.select(list(self._plan.keep))
        texts, rows = (claims, evidence), len(claims)
        known, exact = np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool)
        old: Outcome | None = None
        for scores in (self._old, self._exact):
            if scores is not None:
                there, old_scores, numbers = scores.lookup(*texts)
                found = self._plan.columns.from_numbers(old_scores, numbers)
                if old is not None:
                    old.fill(there, found.of(there))
                old = old or found
                known |= there
                exact = there if scores is self._exact else exact
        if old is not None:
            rest = pa.array(~known)
            claims, evidence = claims.filter(rest), evidence.filter(rest)
        return Window(claims, evidence, _Payload(piece.part, kept, valid, evidence, texts, known, exact, old))

    def _tokenized(self, payload: _Payload, tokens: int) -> None:
        self._meter.expect(payload.part.stop - payload.part.start, tokens)

    def _write(self, scored: Scored[_Payload]) -> None:
        """Append the scores and put the part in place; nothing for a file found bad since it was read."""
        started = time.perf_counter()
        payload, statistics, figures = scored.payload, scored.statistics, self._figures
        part = payload.part
        if part.file in self._skipped:
            return
        columns, scorer = self._plan.columns, self._scorer
        outcome = columns.outcome(scored, scorer.scores, payload.evidence, scorer.tokenizer)
        if payload.old is not None:
            payload.old.fill(~payload.known, outcome)
            outcome = payload.old
        nulls = payload.kept.num_rows - len(outcome.scores)
        reused = len(outcome.scores) - statistics.pairs
        exact = self._refined(scored, outcome) if self._refiner else None
        table = columns.append(payload.kept, outcome, payload.valid)
        if exact is not None:
            table = filtered(table, pa.array(exact))
        if self._plan.best is not None:
            table = self._plan.best.within(self._widen(table, part))
        table = self._plan.output.part_table(table, self._plan.file(part.file))
        rows = part.stop - part.start
        self._held.check()
        metadata = {
            **self._origin,
            "input": asdict(self._record.inputs[part.file]),
            "rows": [part.start, part.stop],
            "nulls": nulls,
            "reused": reused,
            "statistics": asdict(statistics),
        }
        data = part_bytes(table, metadata, **self._plan.output.writing)
        self._output.write(part.name, data)
        write_seconds = time.perf_counter() - started
        figures.add(statistics, rows, nulls, reused, write_seconds)
        # Rows that the filter left out, rows with a null and those with an old score were never counted by a batch.
        self._meter.add(rows - statistics.pairs)
        self._log.write(
            "part",
            name=part.name,
            rows=rows,
            pairs=statistics.pairs,
            nulls=nulls,
            reused=reused,
            tokens=statistics.tokens,
            truncated=statistics.truncated,
            seconds_by_stage={
                "tokenize": round(statistics.tokenize_seconds, 4),
                "engine": round(statistics.engine_seconds / figures.engine_callers, 4),
                "write": round(write_seconds, 4),
            },
            pairs_per_second=round(self._meter.progress().pairs_per_second, 2),
            done=self._meter.done,
            total=self._meter.total,
        )

    def _refined(self, scored: Scored[_Payload], outcome: Outcome) -> npt.NDArray[np.bool_]:
        """Put exact scores into `outcome` where they can matter; the rows of the part that have one."""
        payload, best = scored.payload, self._plan.best
        if self._refiner is None or best is None:
            raise LookupError("this run does not refine")
        rows = np.flatnonzero(payload.valid.to_numpy(zero_copy_only=False))
        groups = best.groups(self._widen(payload.kept, payload.part))[rows]
        seed = (payload.part.file, payload.part.start)
        known = self._refiner.refine(outcome, scored, ~payload.known, payload.exact, groups, payload.texts, seed)
        exact = np.zeros(payload.kept.num_rows, dtype=bool)
        exact[rows[known]] = True
        return exact

    def _widen(self, table: pa.Table, part: Part) -> pa.Table:
        """With the partition columns, which are folder names in a folder of parts."""
        for column in self._plan.reading.partitions:
            if column.name not in table.schema.names:
                values = partition_array(self._plan.file(part.file).found, column, table.num_rows)
                table = table.append_column(column, values)
        return table

    def _without_skipped(self, blocks: Sequence[Block]) -> list[Block]:
        return [block for block in blocks if block.file not in self._skipped]
