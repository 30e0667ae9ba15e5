"""The plan of a job: its files, columns and blocks, from footers alone. Planning writes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pairscore.runtime.bundle.manifest import Manifest
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.input.filters import parse_filter
from pairscore.runtime.job.input.find import Found, find_files
from pairscore.runtime.job.input.footers import FooterReading, InputFile, check_same_schema, needed_columns, open_files
from pairscore.runtime.job.input.partitions import partition_fields
from pairscore.runtime.job.input.read import Reading, check_no_nulls
from pairscore.runtime.job.options import JobOptions
from pairscore.runtime.job.parts import Block, plan_blocks, shard_of
from pairscore.runtime.job.ranking import Best, check_best
from pairscore.runtime.job.record import InputRecord
from pairscore.runtime.stream.columns import check_text_columns
from pairscore.runtime.stream.score_columns import ScoreColumns


@dataclass(frozen=True)
class Plan:
    """`files`: in order, None for one left out (then in `skipped`, by place, with the reason). `keep`: input columns
    of the output. `columns`: the new ones. `blocks`: of the whole run. `mine`: of this shard. `best`: the rows to
    keep; None for all.
    """

    found: tuple[Found, ...]
    files: tuple[InputFile | None, ...]
    skipped: dict[int, str]
    reading: Reading
    keep: tuple[str, ...]
    columns: ScoreColumns
    blocks: tuple[Block, ...]
    mine: tuple[Block, ...]
    best: Best | None

    @property
    def rows(self) -> int:
        """Rows of this shard, before the filter."""
        return sum(block.stop - block.start for block in self.mine)

    def file(self, place: int) -> InputFile:
        """A file that was not left out."""
        file = self.files[place]
        if file is None:
            raise LookupError(f"input file {place} was left out")
        return file

    def named(self, skipped: Mapping[int, str]) -> tuple[tuple[str, str], ...]:
        """(name, reason) of the files that were left out, in order. skipped: place -> the reason."""
        return tuple((self.found[place].name, reason) for place, reason in sorted(skipped.items()))

    def input_records(self) -> tuple[InputRecord, ...]:
        """The fingerprints of all files."""
        return tuple(
            InputRecord(found.name, file.size, file.digest) if file else InputRecord(found.name, None, None)
            for found, file in zip(self.found, self.files, strict=True)
        )


def make_plan(options: JobOptions, manifest: Manifest, footers: FooterReading | None = None) -> Plan:
    """Check everything that can be checked before scoring. Raises PairscoreError for input that does not fit."""
    condition = parse_filter(options.filter) if options.filter else None
    text_columns = (options.claim_column, options.evidence_column)
    new = options.score_columns(manifest.labels)
    best = _best(options, new)
    found = find_files(options.inputs, options.output)
    accepted: list[InputFile] = []
    left = options.limit

    def check(file: InputFile) -> None:
        nonlocal left
        _check_duplicate_names(file)
        try:
            check_text_columns(file.schema, *text_columns)
        except PairscoreError as error:
            raise PairscoreError(f"{file.found.display!r}: {error}") from error
        needed_columns(file.schema, options.keep)
        if accepted:
            check_same_schema(accepted[0], file, options.keep)
        else:
            kept = [file.schema.field(name) for name in needed_columns(file.schema, options.keep)]
            new.check(pa.schema(kept))
        if options.on_null == "error" and condition is None:
            check_no_nulls(file, text_columns, left)
        accepted.append(file)
        left = None if left is None else max(0, left - file.rows)

    skipped: dict[int, str] = {}

    def skip(place: int, error: PairscoreError) -> None:
        skipped[place] = str(error)

    files = open_files(
        found, text_columns, check, skip if options.on_error == "skip-file" else None, footers or FooterReading()
    )
    if not accepted:
        raise every_file_left_out(skipped)
    partitions = tuple(partition_fields(accepted))
    schema = accepted[0].schema
    keep = needed_columns(schema, options.keep)
    expression, filtered = condition.bind(_with_fields(schema, partitions)) if condition else (None, frozenset[str]())
    in_files = filtered - {field.name for field in partitions if field.name not in schema.names}
    columns = needed_columns(schema, keep, text_columns, in_files)
    if best is not None:
        check_best(best, schema, keep)
    reading = Reading(tuple(columns), text_columns, expression, partitions, options.window_bytes)
    blocks = plan_blocks(_limited([file.rows if file else None for file in files], options.limit), options.part_rows)
    mine = shard_of(blocks, *options.shard) if options.shard else blocks
    return Plan(
        found=tuple(found),
        files=tuple(files),
        skipped=skipped,
        reading=reading,
        keep=tuple(keep),
        columns=new,
        blocks=tuple(blocks),
        mine=tuple(mine),
        best=best,
    )


def every_file_left_out(skipped: Mapping[int, str]) -> PairscoreError:
    """The error for an input of which nothing is left. skipped: place of a file -> the reason."""
    return PairscoreError(f"every input file was left out, the first because: {next(iter(skipped.values()))}")


def _best(options: JobOptions, new: ScoreColumns) -> Best | None:
    """What --top-k, --by and --rank-by ask for. new: the columns that scoring adds."""
    if options.top_k is None or options.ranked_by is None:
        return None
    if len(new.labels) != 1 and new.rank_by is None:
        raise PairscoreError(
            f"--top-k ranks by one score, and this model has {len(new.labels)} labels: name one of "
            f"{', '.join(new.labels)} with --rank-by"
        )
    return Best(options.ranked_by, new.score_fields[new.rank_by or 0].name, options.top_k)


def _check_duplicate_names(file: InputFile) -> None:
    names = file.schema.names
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise PairscoreError(f"{file.found.display!r} has several columns named {double[0]!r}: rename them")


def _limited(rows: Sequence[int | None], limit: int | None) -> list[int | None]:
    """Rows to take of each file so that together they are the first `limit`; files past it are left out."""
    if limit is None:
        return list(rows)
    left = limit
    taken: list[int | None] = []
    for count in rows:
        taken.append(None if count is None or (left == 0 and count > 0) else min(count, left))
        left -= taken[-1] or 0
    return taken


def _with_fields(schema: pa.Schema, fields: Sequence[pa.Field]) -> pa.Schema:
    for field in fields:
        if field.name not in schema.names:
            schema = schema.append(field)
    return schema
