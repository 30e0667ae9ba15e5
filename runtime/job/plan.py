"""The plan of a job: its files, columns and blocks, from footers alone. Planning writes nothing."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pairscore.runtime.bundle.manifest import Manifest
from pairscore.runtime.errors import PairscoreError, may_pass
from pairscore.runtime.input.common import Common, OutputSchema, extended, output_schema
from pairscore.runtime.input.find import Found, find_files
from pairscore.runtime.input.footers import FooterReader, InputFile, needed_columns, read_here
from pairscore.runtime.input.partitions import partition_fields
from pairscore.runtime.input.read import Reading, check_no_nulls
from pairscore.runtime.job.blocks import plan_blocks, shard_of
from pairscore.runtime.job.options import JobOptions
from pairscore.runtime.job.record import InputRecord
from pairscore.runtime.job.settings import RunSettings
from pairscore.runtime.spill.ranking import RANK_FIELD, Best, check_best
from pairscore.runtime.storage.parts import Block
from pairscore.runtime.stream.columns import check_text_columns
from pairscore.runtime.stream.score_columns import ScoreColumns

if TYPE_CHECKING:
    from pairscore.runtime.input.filters import Condition


@dataclass(frozen=True)
class JobPlan:
    """`hidden`: Parquet files that folders and patterns leave out by their names.

    `files`: in order, None for one left out (then in `skipped`, by place, with the reason). `keep`: input columns
    of the output. `columns`: the new ones. `output`: the schema of what is written. `blocks`: of the whole run. `mine`:
    of this shard. `best`: the rows to keep; None for all.
    """

    found: tuple[Found, ...]
    hidden: tuple[str, ...]
    files: tuple[InputFile | None, ...]
    skipped: dict[int, str]
    reading: Reading
    keep: tuple[str, ...]
    columns: ScoreColumns
    output: OutputSchema
    blocks: tuple[Block, ...]
    mine: tuple[Block, ...]
    best: Best | None

    @property
    def delta_versions(self) -> tuple[int, ...] | None:
        """The versions of the Delta tables among the inputs, in order; None without one."""
        return tuple({file.table.url: file.table.version for file in self.found if file.table}.values()) or None

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


def make_plan(
    options: JobOptions, manifest: Manifest, read: FooterReader = read_here, earlier: RunSettings | None = None
) -> JobPlan:
    """Check everything that can be checked before scoring. Raises PairscoreError for input that does not fit.

    read: the footers of files, given those and the text columns. earlier: the settings of a run to continue.
    """
    condition = _parsed(options.filter) if options.filter else None
    text_columns = (options.claim_column, options.evidence_column)
    new = options.score_columns(manifest.labels)
    best = _best(options, new)
    left_out: list[str] = []
    versions = (earlier and earlier.delta_versions) or ()
    found = find_files(options.inputs, options.output, left_out.append, versions)
    files: list[InputFile | None] = []
    skipped: dict[int, str] = {}
    common: Common | None = None
    left = options.limit
    with closing(read(found, text_columns)) as footers:
        for place, file in zip(range(len(found)), footers, strict=True):
            try:
                if isinstance(file, PairscoreError):
                    raise file
                together = _with_file(common, file, options, new)
                if options.on_null == "error" and condition is None:
                    check_no_nulls(file, text_columns, left)
            except PairscoreError as error:
                if options.on_error != "skip-file" or may_pass(error):
                    raise
                skipped[place] = str(error)
                files.append(None)
                continue
            files.append(file)
            common = together
            left = None if left is None else max(0, left - file.rows)
    if common is None:
        raise every_file_left_out(skipped)
    accepted = [file for file in files if file is not None]
    inputs = common.columns()
    partitions = tuple(each for each in partition_fields(accepted) if each.name not in inputs.names)
    keys = {each.name for each in partitions}
    keep = needed_columns(inputs, None if options.keep is None else [name for name in options.keep if name not in keys])
    kept_partitions = [each for each in partitions if _is_kept(options.keep, each.name)]
    expression, filtered = _bound(condition, common, partitions)
    columns = needed_columns(inputs, keep, text_columns, filtered - keys)
    if best is not None:
        check_best(best, pa.schema([*common.schema(), *partitions]), [*keep, *(each.name for each in kept_partitions)])
    reading = Reading(tuple(columns), text_columns, expression, partitions, common.schema(), options.window_bytes)
    added = new.fields if best is None else [*new.fields, RANK_FIELD]
    blocks = plan_blocks(_limited([file.rows if file else None for file in files], options.limit), options.part_rows)
    mine = shard_of(blocks, *options.shard) if options.shard else blocks
    return JobPlan(
        found=tuple(found),
        hidden=tuple(left_out),
        files=tuple(files),
        skipped=skipped,
        reading=reading,
        keep=tuple(keep),
        columns=new,
        output=output_schema(common, accepted, keep, kept_partitions, added, compression=options.compression),
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


def _with_file(common: Common | None, file: InputFile, options: JobOptions, new: ScoreColumns) -> Common:
    """What all files agree on, with one more. Raises PairscoreError where it fits the options or the others not."""
    names = file.schema.names
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise PairscoreError(f"{file.found.display!r} has several columns named {double[0]!r}: rename them")
    try:
        check_text_columns(file.schema, options.claim_column, options.evidence_column)
    except PairscoreError as error:
        raise PairscoreError(f"{file.found.display!r}: {error}") from error
    # Not of the file itself: keys of its folders, and columns that its table got later.
    table = file.found.table
    others = {*dict(file.found.partitions), *(table.schema.names if table else ())} - set(names)
    keep = None if options.keep is None else [name for name in options.keep if name not in others]
    keys = [pa.field(key, pa.string()) for key, _ in file.found.partitions if _is_kept(options.keep, key)]
    new.check(pa.schema([*(file.schema.field(name) for name in needed_columns(file.schema, keep)), *keys]))
    return extended(common, file, keep)


def _limited(rows: Sequence[int | None], limit: int | None) -> list[int | None]:
    """Rows to take of each file so that together they are the first `limit`; files past it are left out."""
    if limit is None:
        return list(rows)
    left = limit
    taken: list[int | None] = []
    for count in rows:
        # The first file is taken even for no row: its schema is the output's.
        past = left == 0 and count != 0 and any(each is not None for each in taken)
        taken.append(None if count is None or past else min(count, left))
        left -= taken[-1] or 0
    return taken


def _is_kept(keep: Sequence[str] | None, name: str) -> bool:
    return keep is None or name in keep


def _parsed(condition: str) -> "Condition":
    from pairscore.runtime.input.filters import parse_filter  # and with it sqlglot, which is slow to import

    return parse_filter(condition)


def _bound(
    condition: "Condition | None", common: Common, partitions: Sequence[pa.Field]
) -> tuple[Any | None, frozenset[str]]:
    """The condition over the columns that all files have in one type, and the names of those that it reads."""
    if condition is None:
        return None, frozenset()
    schema = pa.schema([*common.columns(), *partitions])
    expression, filtered = condition.bind(schema)
    for name in filtered & common.conflicts.keys():
        raise common.conflicts[name]
    return expression, filtered
