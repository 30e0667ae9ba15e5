"""The last step of a job: when every part is there, the parts become the output."""

import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.runtime.input.common import OutputSchema
from pairscore.runtime.job.output.layout import Output, remove_leftovers
from pairscore.runtime.spill.ranking import Best, Ranking
from pairscore.runtime.storage.parquet import open_writer
from pairscore.runtime.storage.parts import RECORD, SUCCESS_NAME, Part
from pairscore.runtime.storage.sealing import as_metadata, part_bytes, part_figures
from pairscore.runtime.stream.columns import WINDOW_BYTES, WINDOW_PAIRS


def finish(
    output: Output,
    metadata: dict[str, Any],
    schema: OutputSchema,
    widen: Callable[[pa.Table, Part], pa.Table],
    best: Best | None = None,
) -> None:
    """Turn whole parts into the output: put the marker into the folder, or merge them into the one file.

    `widen`: adds the partition columns, which in a folder are the folders' names. `best`: the rows to keep, chosen over
    all parts; None for all.
    """
    with output.used():
        with ExitStack() as stack:
            ranking = stack.enter_context(closing(_ranking(output, best, widen))) if best is not None else None
            if output.file is None:
                if ranking is not None:
                    _rank_parts(output, ranking, schema)
                output.write(SUCCESS_NAME, b"")
            else:

                def edited(table: pa.Table, part: Part) -> pa.Table:
                    return widen(table if ranking is None else ranking.apply(table, part), part)

                _merge(output, output.file, metadata, schema, edited)
        # The record is removed first: as long as it is there, every part is there too.
        output.remove(RECORD)
        remove_leftovers(output)


def _ranking(output: Output, best: Best, widen: Callable[[pa.Table, Part], pa.Table]) -> Ranking:
    def columns(part: Part, names: list[str]) -> pa.Table:
        # A name that is no column of the part is a key of its folders.
        return widen(_read(output, part, names)[0], part).select(names)

    return Ranking(output.parts(), columns, best, _temporary_folder(output))


def _rank_parts(output: Output, ranking: Ranking, schema: OutputSchema) -> None:
    """Write every part anew in which rows go or get another rank. It may be stopped and repeated at any moment."""
    for part in output.parts():
        table, metadata = _read(output, part)
        ranked = ranking.apply(table, part)
        if ranked is not table:
            output.write(part.name, part_bytes(ranked, metadata, **schema.writing))


def _read(output: Output, part: Part, columns: list[str] | None = None) -> tuple[pa.Table, dict[str, Any]]:
    """A part's table and its figures."""
    with output.read_part(part) as parquet:
        return parquet.read(columns), part_figures(parquet.metadata)


def _temporary_folder(output: Output) -> Path:
    """Where large temporary files belong: on the output's own disk if it has one here."""
    local = output.storage.scheme == "file"
    folder = Path(output.control) / "tmp" if local else Path(tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _merge(
    output: Output,
    target: str,
    metadata: dict[str, Any],
    schema: OutputSchema,
    edited: Callable[[pa.Table, Part], pa.Table],
) -> None:
    """Write part after part into a temporary file, then give that file the target's name.

    Small parts share a row group, so that thousands of tiny inputs do not become thousands of groups. The metadata gets
    the sums of the parts' figures, whichever run wrote them.
    """
    storage, parts = output.storage, output.parts()
    temporary = _temporary_folder(output) / f"pairscore-{secrets.token_hex(4)}.partial"
    try:
        totals: dict[str, Any] = {"nulls": 0, "reused": 0, "statistics": {}}
        with open_writer(temporary, schema.merged, **schema.writing) as writer:
            waiting: list[pa.Table] = []
            for part in parts:
                table, of_part = _read(output, part)
                add_figures(totals, of_part)
                table = _in_schema(edited(table, part), schema.merged)
                waiting += [table] if table.num_rows else []
                rows, size = (sum(getattr(each, of) for each in waiting) for of in ("num_rows", "nbytes"))
                if rows >= WINDOW_PAIRS or size >= WINDOW_BYTES:
                    _write_group(writer, waiting)
                    waiting = []
            _write_group(writer, waiting)
            writer.add_key_value_metadata(as_metadata({**metadata, **totals}))
        storage.publish(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _in_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table's columns of `schema`, in its types."""
    columns = [table.column(each.name) for each in schema]
    kinds = schema.types
    columns = [each if each.type == kind else each.cast(kind) for each, kind in zip(columns, kinds, strict=True)]
    return pa.Table.from_arrays(columns, schema=schema)


def _write_group(writer: pq.ParquetWriter, tables: Sequence[pa.Table]) -> None:
    """Write tables as one row group, if there are any."""
    if tables:
        table = pa.concat_tables(tables)
        writer.write_table(table, row_group_size=table.num_rows)


def add_figures(totals: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add one part's figures to those of others: {"nulls": ..., "reused": ..., "statistics": {...}}."""
    for name in ("nulls", "reused"):
        totals[name] += more[name]
    for name, value in more["statistics"].items():
        totals["statistics"][name] = totals["statistics"].get(name, 0) + value
