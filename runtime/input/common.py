"""One schema for all files of an input and every file of the output; where there is none, an error that names both."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.input.footers import InputFile
from pairscore.runtime.storage.footer_keys import common_keys, contradiction, describing_keys, user_keys
from pairscore.runtime.storage.schema import unified

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Common:
    """What all files so far agree on. `first`: of them. `fields`: column -> its field in every file.

    `keys`: of the footers. `conflicts`: column that nobody keeps -> why it has no field. `files`: how many there are.
    """

    first: InputFile
    fields: Mapping[str, pa.Field]
    keys: Mapping[bytes, bytes]
    conflicts: Mapping[str, PairscoreError] = field(default_factory=dict)
    files: int = 1

    def schema(self) -> pa.Schema:
        """The columns that have one type in all files, in the first file's order."""
        return pa.schema(list(self.fields.values()))

    def columns(self) -> pa.Schema:
        """All columns, also those of which files disagree, in the first file's order."""
        ours = self.first.schema
        new = [each for name, each in self.fields.items() if name not in ours.names]
        return pa.schema([*(self.fields.get(each.name, each) for each in ours), *new])


@dataclass(frozen=True)
class OutputSchema:
    """`part`: of every part. `merged`: of the one file, partition columns included. Score columns stand at the end.

    `writing`: keywords of the Parquet writer, by which readers see the types that they saw in the input.
    """

    part: pa.Schema
    merged: pa.Schema
    writing: Mapping[str, Any]

    def part_table(self, table: pa.Table, file: InputFile) -> pa.Table:
        """A part's columns in the schema that every part has, with the keys that users gave to its input file."""
        keys = {**user_keys(file.schema.metadata), **(self.part.metadata or {})}
        columns = [table.column(name) for name in self.part.names]
        return pa.table(columns, schema=self.part).replace_schema_metadata(keys)


def extended(common: Common | None, file: InputFile, keep: Sequence[str] | None) -> Common:
    """`common` with one more file. keep: names of the columns to keep; None for all.

    Raises PairscoreError for a column to keep that the writer would change, and for one whose values no single type
    holds unchanged.
    """
    kept = set(file.schema.names if keep is None else keep)
    for name in file.schema.names:
        if name in kept and name in file.columns.lost:
            raise PairscoreError(
                f"{file.found.display!r}: column {name!r} is {file.columns.lost[name]}, which cannot be written as it "
                "is: convert it, or name the columns that you need with --keep"
            )
    if not file.columns.stored:
        _log.warning("%s: Arrow does not know all of its types; the others are those of Parquet", file.found.display)
    if common is None:
        fields = {each.name: each for each in [*file.schema, *_added_later(file)]}
        return Common(file, fields, dict(file.schema.metadata or {}))
    if common.files > 1 and file.schema.equals(common.first.schema, check_metadata=True):
        return replace(common, files=common.files + 1)
    fields, conflicts = dict(common.fields), dict(common.conflicts)
    names = list(dict.fromkeys([*common.first.schema.names, *file.schema.names]))
    for name in names:
        if name in conflicts:
            continue
        both = _unified(common, file, name)
        if isinstance(both, pa.Field):
            fields[name] = both
        elif keep is None or name in keep:
            raise both
        else:
            conflicts[name] = both
            fields.pop(name, None)
    opposed = contradiction(common.keys, file.schema.metadata, [name for name in names if keep is None or name in keep])
    if opposed is not None:
        name, before, now = opposed
        raise _differing(common, file, name, before, now)
    keys = common_keys(common.keys, file.schema.metadata)
    for key in user_keys(common.keys).keys() - keys.keys():
        _log.info(
            "A single output file goes without the footer key %r: input files differ in it",
            key.decode(errors="replace"),
        )
    return replace(common, fields=fields, conflicts=conflicts, keys=keys, files=common.files + 1)


def output_schema(
    common: Common,
    files: Sequence[InputFile],
    keep: Sequence[str],
    partitions: Sequence[pa.Field],
    added: Sequence[pa.Field],
    *,
    compression: str,
) -> OutputSchema:
    """The schema of what is written. keep: columns of the files. partitions: that are columns of the merged file only.

    added: the score columns. Raises PairscoreError for times of the day that cannot be written beside each other.
    """
    utc, local = (
        [name for name in keep if any(name in getattr(file.columns, kind) for file in files)]
        for kind in ("utc_times", "local_times")
    )
    if utc and local:
        raise PairscoreError(
            f"column {utc[0]!r} holds times of the day in UTC and {local[0]!r} ones without a zone, which cannot be "
            "written beside each other: leave one out with --keep"
        )
    fields = [common.fields[name] for name in keep]

    def schema(more: Sequence[pa.Field]) -> pa.Schema:
        return pa.schema([*fields, *more], describing_keys(common.keys, keep, more))

    merged = schema([*partitions, *added])
    keys = {**user_keys(common.keys), **(merged.metadata or {})}
    # Some readers trust an Arrow schema more than Parquet's own types: it is written where the input has one.
    stores = any(file.columns.has_arrow for file in files)
    writing = {"compression": compression, "write_time_adjusted_to_utc": bool(utc), "store_schema": stores}
    return OutputSchema(schema(added), merged.with_metadata(keys), writing)


def _added_later(file: InputFile) -> list[pa.Field]:
    """The columns that a Delta table got after this file was written: it holds nulls in them."""
    if file.found.table is None:
        return []
    there = {*file.schema.names, *dict(file.found.partitions)}
    return [each.with_nullable(True) for each in file.found.table.schema if each.name not in there]


def _unified(common: Common, file: InputFile, name: str) -> pa.Field | PairscoreError:
    """The column's field in all files, or why it has none."""
    before = common.fields.get(name)
    now = file.schema.field(name) if name in file.schema.names else None
    if now is None:
        now = next((each for each in _added_later(file) if each.name == name), None)
    if before is None or now is None:
        return _differing(common, file, name, before.type if before else "missing", now.type if now else "missing")
    both = unified(before, now)
    if both is None:
        return _differing(common, file, name, before.type, now.type)
    return both


def _differing(common: Common, file: InputFile, name: str, before: object, now: object) -> PairscoreError:
    return PairscoreError(
        f"column {name!r} is {now!s:.120} in {file.found.display!r} and {before!s:.120} in "
        f"{common.first.found.display!r}: score them separately, or name columns that agree with --keep"
    )
