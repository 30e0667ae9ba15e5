"""A job: read, score and write, overlapped; stopped at any moment, it goes on where whole parts end."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import pyarrow as pa

from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.engines.registry import ENGINES
from pairscore.runtime.engines.tuned import Choice
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.input.partitions import partition_array
from pairscore.runtime.job.input.read import Piece, read_pieces
from pairscore.runtime.job.output import layout as out
from pairscore.runtime.job.output.locks import Held, hold
from pairscore.runtime.job.output.merge import finish
from pairscore.runtime.job.parts import Block, Part, missing, part_bytes
from pairscore.runtime.job.plan import JobOptions, Plan, make_plan, null_error, settings
from pairscore.runtime.job.progress import Display, EventLog, Meter, Silent, shown
from pairscore.runtime.job.record import RunRecord
from pairscore.runtime.job.signals import Stopped
from pairscore.runtime.job.summary import Figures, Summary, counted, padding_share
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.stream.background import ahead, behind
from pairscore.runtime.stream.columns import append_scores, text_pair
from pairscore.runtime.stream.pipeline import Scored, Window


@dataclass(frozen=True)
class _Payload:
    """What a window carries past the engine. `kept`: the columns to keep. `valid`: the rows that have a pair."""

    part: Part
    kept: pa.Table
    valid: pa.BooleanArray


@dataclass
class _Run:
    """A run that holds its output's lock. `skipped`: places of input files left out, with the reason."""

    options: JobOptions
    plan: Plan
    scorer: Scorer
    output: out.Output
    record: RunRecord
    held: Held
    log: EventLog
    skipped: dict[int, str]
    figures: Figures
    meter: Meter = field(default_factory=Meter)


def run_job(
    options: JobOptions,
    display: Display | None = None,
    log: EventLog | None = None,
    *,
    scorer: Scorer | None = None,
) -> Summary:
    """Score the input into the output and return what was done.

    scorer: of the options' bundle, open already; by default the one that the options ask for is opened.
    Raises PairscoreError for bad input before anything is written, and for what shows only on the way. After
    that, and when the process is stopped or killed, the same call continues behind the last whole part.
    """
    display, log = display or Silent(), log or EventLog(None)
    if options.output is None:
        raise PairscoreError("no output: name one with --output")
    bundle = Bundle.open(options.bundle)
    output = out.open_output(options.output)
    out.check_output(output, options.overwrite)
    plan = make_plan(options, bundle.manifest)
    started = time.perf_counter()
    scorer = scorer or open_scorer(options, {} if options.overwrite else out.recorded_settings(output))
    scorer.tokenizer.prepare(plan.rows)
    load_seconds = time.perf_counter() - started
    record = RunRecord(settings(options, scorer), plan.input_records())
    with _locked(output, options.shard) as held:
        try:
            continues = out.begin(output, record, options.overwrite)
            skipped = {**plan.skipped, **out.skipped_files(output)}
            figures = Figures(engine_callers=scorer.engine.callers)
            run = _Run(options, plan, scorer, output, record, held, log, skipped, figures)
            done = out.whole_parts(output, record.digest, plan.mine) if continues else []
            if done:
                display.say(f"Continuing: {counted(len(done), 'part')} done already")
            log.write("start", run=record.digest, rows=plan.rows, earlier_parts=len(done), settings=record.settings)
            _score(run, _without(plan.mine, skipped), done, display)
            return _finish(run, len(done), load_seconds)
        except BaseException as error:
            name = "stopped" if isinstance(error, Stopped) else "error"
            log.write(name, message=str(error))
            if options.shard is None:
                with suppress(OSError):  # the storage may be what failed
                    out.abandon(output)
            raise


def open_scorer(options: JobOptions, earlier: dict[str, Any] | None = None) -> Scorer:
    """The scorer that the options ask for.

    earlier: the settings of a run to continue. What this machine's tuning decided then stays decided, whatever it says
    now and on whichever machine: another engine or batch size could move the last bits of a score.
    """
    engine, engine_options, tuning, tuned = options.engine, None, options.tuning, None
    kind = options.device.partition(":")[0]
    if earlier and tuning and engine == "auto" and earlier.get("device") == kind and earlier.get("engine") in ENGINES:
        engine, tuning = earlier["engine"], False
        tuned = Choice(**earlier["tuning"]) if earlier.get("tuning") else None
        engine_options = tuned.options() if tuned else None
    scorer = Scorer.from_pretrained(
        options.bundle,
        precision=options.precision,
        engine=engine,
        device=options.device,
        max_length=options.max_length,
        options=engine_options,
        tuning=tuning,
    )
    scorer.tuned = tuned or scorer.tuned
    return scorer


@contextmanager
def _locked(output: out.Output, shard: tuple[int, int] | None) -> Iterator[Held]:
    try:
        out.prepare_control(output)
        with hold(output.storage, output.control, shard, output.url) as held:
            yield held
    except OSError as error:
        raise out.cannot_write(output.url, error) from error


def _score(run: _Run, blocks: Sequence[Block], done: Sequence[Part], display: Display) -> None:
    """Score what `done` does not cover and write it, part by part."""
    rest = missing(blocks, done)
    total, left = (sum(block.stop - block.start for block in each) for each in (blocks, rest))
    run.meter.start(total, total - left)
    started = time.perf_counter()
    # Closed at once also on an error: what is read ahead, and the engine's threads, must not outlive the run.
    with (
        shown(run.meter, display),
        behind(partial(_write, run), "pairscore-write") as write,
        closing(ahead(_windows(run, rest, display), "pairscore-read")) as windows,
        closing(run.scorer.stream(windows, run.meter.add)) as stream,
    ):
        for scored in stream:
            write(scored)
    run.figures.seconds = time.perf_counter() - started


def _windows(run: _Run, blocks: Sequence[Block], display: Display) -> Generator[Window[_Payload], None, None]:
    """The blocks' pairs, a window a part."""
    for place, group in groupby(blocks, key=lambda block: block.file):
        file = run.plan.file(place)
        try:
            started = time.perf_counter()
            with closing(read_pieces(file, list(group), run.plan.reading)) as pieces:
                for piece in pieces:
                    window = _window(run, piece)
                    run.figures.read_seconds += time.perf_counter() - started
                    yield window
                    started = time.perf_counter()
        except PairscoreError as error:
            if run.options.on_error != "skip-file":
                raise
            run.skipped[place] = str(error)
            run.log.write("skip", file=file.found.name, reason=str(error))
            display.say(f"Leaving out {file.found.display}: {error}")
            out.mark_skipped(run.output, place, str(error))


def _window(run: _Run, piece: Piece) -> Window[_Payload]:
    columns = run.plan.reading.text_columns
    claims, evidence, valid = text_pair(piece.table, columns, on_null="null")
    if run.options.on_null == "error" and len(claims) < piece.table.num_rows:
        place = int(valid.index(False).as_py())
        column = columns[0] if not piece.table.column(columns[0])[place].is_valid else columns[1]
        raise null_error(run.plan.file(piece.part.file), int(piece.rows[place]), column)
    return Window(claims, evidence, _Payload(piece.part, piece.table.select(list(run.plan.keep)), valid))


def _write(run: _Run, scored: Scored[_Payload]) -> None:
    """Append the scores and put the part in place; nothing for a file found bad since it was read."""
    started = time.perf_counter()
    payload, statistics, figures = scored.payload, scored.statistics, run.figures
    part = payload.part
    if part.file in run.skipped:
        return
    scores = run.scorer.scores(scored.logits)
    table = append_scores(payload.kept, run.plan.fields, scores, payload.valid)
    nulls = table.num_rows - statistics.pairs
    run.held.check()
    metadata = {
        **_origin(run),
        "input": asdict(run.record.inputs[part.file]),
        "rows": [part.start, part.stop],
        "nulls": nulls,
        "statistics": asdict(statistics),
    }
    run.output.write_part(part, part_bytes(table, metadata, run.options.compression))
    figures.write_seconds += time.perf_counter() - started
    figures.statistics.add(statistics)
    figures.rows += part.stop - part.start
    figures.nulls += nulls
    figures.parts += 1
    # Rows that the filter left out and rows with a null were never counted by a batch.
    run.meter.add(part.stop - part.start - statistics.pairs)
    run.meter.add_tokens(statistics.tokens, statistics.padded_tokens)
    run.log.write(
        "part",
        name=part.name,
        rows=part.stop - part.start,
        pairs=statistics.pairs,
        nulls=nulls,
        tokens=statistics.tokens,
        padding_share=padding_share(statistics),
        seconds_by_stage={
            "tokenize": round(statistics.tokenize_seconds, 4),
            "engine": round(statistics.engine_seconds / figures.engine_callers, 4),
            "write": round(time.perf_counter() - started, 4),
        },
        pairs_per_second=round(run.meter.rate, 2),
        done=run.meter.done,
        total=run.meter.total,
    )


def _finish(run: _Run, earlier_parts: int, load_seconds: float) -> Summary:
    """Make the output whole if nothing is missing any more, in this shard and in the others."""
    skipped = {**run.skipped, **out.skipped_files(run.output)}
    parts = run.output.parts()
    for part in parts:
        if part.file in skipped:
            run.output.remove_part(part)
    lacking = missing(_without(run.plan.blocks, skipped), parts)
    if len(skipped) == len(run.plan.files):
        raise PairscoreError(f"every input file was left out, the first because: {next(iter(skipped.values()))}")
    if not lacking:
        run.held.check()
        started = time.perf_counter()
        finish(run.output, _origin(run), run.options.compression, lambda table, part: _widen(run, table, part))
        run.figures.write_seconds += time.perf_counter() - started
        run.figures.seconds += time.perf_counter() - started
    summary = Summary(
        output=run.output.url,
        whole=not lacking,
        figures=run.figures,
        earlier_parts=earlier_parts,
        missing_blocks=len(lacking),
        skipped=tuple((run.plan.found[place].name, reason) for place, reason in sorted(skipped.items())),
        precision=run.scorer.precision,
        engine=run.scorer.engine.name,
        device=run.scorer.engine.device,
        tuning=str(run.scorer.tuned) if run.scorer.tuned else None,
        max_length=run.scorer.max_length,
        load_seconds=round(load_seconds, 3),
    )
    run.log.write("end", **summary.as_dict())
    return summary


def _widen(run: _Run, table: pa.Table, part: Part) -> pa.Table:
    """With the partition columns, which are folder names in a folder of parts."""
    for column in run.plan.reading.partitions:
        if column.name not in table.column_names:
            values = partition_array(run.plan.file(part.file).found, column, table.num_rows)
            table = table.append_column(column, values)
    return table


def _origin(run: _Run) -> dict[str, Any]:
    """Where scores come from, for the Parquet metadata."""
    source = asdict(run.scorer.bundle.manifest.source)
    return {"run": run.record.digest, "settings": run.record.settings, "source": source}


def _without(blocks: Sequence[Block], skipped: dict[int, str]) -> list[Block]:
    return [block for block in blocks if block.file not in skipped]
