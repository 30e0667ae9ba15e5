"""Folders that are tables: Delta tables by the log's list of files, Iceberg and Hudi refused with a way out.

The files in such a folder are not the table: rows that it has removed lie there too.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa

from pairscore.runtime.errors import PairscoreError, one_line
from pairscore.runtime.machine import import_extra
from pairscore.runtime.storage.local import Storage

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_DELTA_LOG = "_delta_log/"


# A file's path, its path below the table, and its folder and partitions as of `Found`.
Place = tuple[str, str, str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Snapshot:
    """A version of a Delta table. `url`: as the user gave it. `schema`: of the table, keys of its folders included.

    A file that was written before a column was added lacks it, and holds nulls in it.
    """

    url: str
    version: int
    schema: pa.Schema


def snapshot(
    storage: Storage, path: str, url: str, names: Sequence[str], versions: Iterator[int]
) -> tuple[Snapshot, list[Place]] | None:
    """The table that a folder is, and its files; None for a plain folder. names: of the files below it.

    versions: to read, of the tables to come; the newest where there are no more.
    Raises PairscoreError for a table that cannot be read from its files alone.
    """
    if any(name.startswith(_DELTA_LOG) for name in names):
        return _delta(storage, path, url, next(versions, None))
    if any(name.startswith("metadata/") and name.endswith(".metadata.json") for name in names):
        newest = max(name for name in names if name.startswith("metadata/") and name.endswith(".metadata.json"))
        raise PairscoreError(
            f"{url!r} is an Iceberg table, whose folder holds removed rows too. Write its rows to a file with "
            f'`pip install pyiceberg`, then: python -c "import pyarrow.parquet as pq; from pyiceberg.table import '
            f"StaticTable; pq.write_table(StaticTable.from_metadata('{storage.display(path)}/{newest}').scan()"
            ".to_arrow(), 'rows.parquet')\""
        )
    if any(name.startswith(".hoodie/") for name in names):
        raise PairscoreError(
            f"{url!r} is a Hudi table, whose folder holds older versions of rows too. Write its rows to a file with "
            '`pip install hudi`, then: python -c "import pyarrow as pa, pyarrow.parquet as pq; from hudi import '
            f"HudiTableBuilder; pq.write_table(pa.Table.from_batches(HudiTableBuilder.from_base_uri('"
            f"{storage.display(path)}').build().read()), 'rows.parquet')\""
        )
    return None


def _delta(storage: Storage, path: str, url: str, version: int | None) -> tuple[Snapshot, list[Place]]:
    deltalake = import_extra("deltalake", "delta", f"Delta table {url!r}")
    try:
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")  # which deltalake takes only on request
        more = {"storage_options": {"AWS_ALLOW_HTTP": "true"}} if plain and storage.scheme == "s3" else {}
        table = deltalake.DeltaTable(storage.display(path), version=version, **more)
        mode = table.metadata().configuration.get("delta.columnMapping.mode", "none")
        deleted = sum(batch.num_rows for batch in pa.RecordBatchReader.from_stream(table.deletion_vectors()))
        actions = pa.table(table.get_add_actions(flatten=True))
        uris = list(table.file_uris())
        schema = pa.schema(table.schema().to_arrow())
    except Exception as error:  # a class of its own for each layer below
        raise PairscoreError(
            f"{url!r} cannot be read as a Delta table ({one_line(error)}): write its rows to Parquet"
        ) from error
    if mode != "none":
        raise PairscoreError(
            f"Delta table {url!r} maps its columns to other names in its files (delta.columnMapping.mode = {mode}): "
            "write it to a table without column mapping, or to Parquet"
        )
    if deleted:
        raise PairscoreError(
            f"Delta table {url!r} has deletion vectors, which take rows out of its files: run REORG TABLE … APPLY "
            "(PURGE) on it, or write it to Parquet"
        )
    keys = table.metadata().partition_columns
    found = sorted(zip(_in_order(uris, actions), _values(actions, keys), strict=True))
    files = list[Place]()
    for uri, values in found:
        # Where the files lie follows from the table's own path, which `url` may write otherwise.
        name = _name(table, uri)
        folder = "/".join(f"{quote(key)}={quote(value)}" for key, value in zip(keys, values, strict=True))
        files.append((f"{path.rstrip('/')}/{name}", name, folder, tuple(zip(keys, values, strict=True))))
    if not files:
        raise PairscoreError(f"Delta table {url!r} holds no row at version {table.version()}: nothing to score")
    return Snapshot(url, table.version(), schema), files


def _in_order(uris: Sequence[str], actions: pa.Table) -> list[str]:
    """The files' addresses in the order of the actions, which write them otherwise."""
    by_end = {unquote(PurePosixPath(uri).name): uri for uri in uris}
    return [by_end[unquote(unquote(PurePosixPath(path).name))] for path in actions["path"].to_pylist()]


def _values(actions: pa.Table, keys: Sequence[str]) -> list[tuple[str, ...]]:
    """The files' values of the keys, as a folder's name writes them."""
    columns = [actions[f"partition.{key}"].to_pylist() for key in keys]
    rows: list[tuple[Any, ...]] = list(zip(*columns, strict=True)) if keys else [()] * actions.num_rows
    return [tuple(NO_VALUE if value is None else _text(value) for value in row) for row in rows]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _name(table: Any, uri: str) -> str:
    root = table.table_uri.rstrip("/")
    for prefix in (root, root.removeprefix("file://"), unquote(root.removeprefix("file://"))):
        if uri.startswith(f"{prefix}/"):
            return uri[len(prefix) + 1 :]
    raise PairscoreError(f"Delta table {root!r} has a file outside its folder ({uri!r}): write it to Parquet")
