"""The keys of a Parquet footer: which of them describe the columns, and what they have to say of other columns.

Users' keys stay as they are. Keys by which Spark, pandas, Hugging Face datasets and GeoParquet describe columns are
written anew for the columns of the output; a reader that trusts them would not see the scores otherwise. Descriptions
that cannot be written anew (of Avro, Thrift, Iceberg, Hudi) are left out: their readers then take Parquet's own.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

Keys = Mapping[bytes, bytes]
Json = dict[str, Any]

_LEFT_OUT = (
    b"ARROW:schema",  # the writer writes it
    b"pairscore",  # ours, of an earlier run
    b"avro.schema",
    b"parquet.avro.schema",
    b"parquet.proto.class",
    b"parquet.proto.descriptor",
    b"thrift.class",
    b"thrift.descriptor",
    b"writer.model.name",
)
_LEFT_OUT_BELOW = (b"iceberg.", b"hoodie", b"org.apache.hudi.", b"duckdb.interval")


@dataclass(frozen=True)
class _Describer:
    """How one key describes columns. `columns`: column -> description. `rewritten`: the key's value for other columns.

    `fixed`: the part of a description that says what values mean, which has to agree between files.
    """

    columns: Callable[[Json], Json]
    rewritten: Callable[[Json, Json, Sequence[pa.Field]], Json | None]
    fixed: Callable[[Any], Any]
    # Whether readers see no column that is not described: then a column without a description leaves the key out.
    complete: bool = True


def user_keys(keys: Keys | None) -> dict[bytes, bytes]:
    """The keys that say nothing of columns."""
    return {
        key: value
        for key, value in (keys or {}).items()
        if key not in _DESCRIBERS and key not in _LEFT_OUT and not key.startswith(_LEFT_OUT_BELOW)
    }


def describing_keys(keys: Keys | None, kept: Sequence[str], added: Sequence[pa.Field]) -> dict[bytes, bytes]:
    """The keys that describe columns, for the columns `kept` of the input and those `added` behind them."""
    written = {}
    for key, describer in _DESCRIBERS.items():
        metadata = _parsed(keys, key)
        if metadata is not None:
            columns = describer.columns(metadata)
            if describer.complete and not all(name in columns for name in kept):
                continue
            value = describer.rewritten(metadata, {name: columns[name] for name in kept if name in columns}, added)
            if value is not None:
                written[key] = json.dumps(value, ensure_ascii=False).encode()
    return written


def contradiction(one: Keys | None, other: Keys | None, names: Iterable[str]) -> tuple[str, str, str] | None:
    """A column of `names` that two files' keys describe differently, and both descriptions; None without one."""
    for key, describer in _DESCRIBERS.items():
        first, second = _parsed(one, key), _parsed(other, key)
        if first is None or second is None:
            continue
        ours, theirs = describer.columns(first), describer.columns(second)
        for name in names:
            if name in ours and name in theirs:
                before, now = describer.fixed(ours[name]), describer.fixed(theirs[name])
                if before != now:
                    return name, json.dumps(before, ensure_ascii=False), json.dumps(now, ensure_ascii=False)
    return None


def common_keys(one: Keys, other: Keys | None) -> dict[bytes, bytes]:
    """What the keys of two files, taken together, say: users' keys on which they agree, and every description."""
    users = user_keys(other)
    shared = {key: value for key, value in user_keys(one).items() if users.get(key) == value}
    described = {key: value for keys in (other or {}, one) for key, value in keys.items() if key in _DESCRIBERS}
    if b"geo" in one and b"geo" in (other or {}):
        described[b"geo"] = _without_extent(one[b"geo"])
    return {**shared, **described}


def _parsed(keys: Keys | None, key: bytes) -> Json | None:
    try:
        metadata = json.loads((keys or {})[key])
    except (KeyError, ValueError):
        return None
    return metadata if isinstance(metadata, dict) else None


# Spark: {"type": "struct", "fields": [{"name": ..., "type": ..., "nullable": ..., "metadata": ...}]}

_SPARK_TYPES = {
    "float": "float",
    "double": "double",
    "bool": "boolean",
    "int8": "byte",
    "int16": "short",
    "int32": "integer",
    "int64": "long",
    "string": "string",
    "binary": "binary",
    "date32[day]": "date",
    "timestamp[us, tz=UTC]": "timestamp",
    "timestamp[us]": "timestamp_ntz",
}


def _spark_columns(metadata: Json) -> Json:
    return {each["name"]: each for each in metadata.get("fields", []) if isinstance(each, dict) and "name" in each}


def _spark(metadata: Json, columns: Json, added: Sequence[pa.Field]) -> Json | None:
    kinds = [_spark_type(each.type) for each in added]
    if None in kinds:
        return None
    new = [
        {"name": each.name, "type": kind, "nullable": True, "metadata": {}}
        for each, kind in zip(added, kinds, strict=True)
    ]
    return {**metadata, "fields": [*columns.values(), *new]}


def _spark_type(kind: pa.DataType) -> str | None:
    if pa.types.is_decimal128(kind):
        return f"decimal({kind.precision},{kind.scale})"
    return _SPARK_TYPES.get(str(kind))


# pandas: {"index_columns": [name or range, ...], "columns": [{"name": ..., "field_name": ...}], ...}


def _pandas_columns(metadata: Json) -> Json:
    return {
        each["field_name"]: each
        for each in metadata.get("columns", [])
        if isinstance(each, dict) and "field_name" in each
    }


def _pandas(metadata: Json, columns: Json, added: Sequence[pa.Field]) -> Json | None:
    # A range of labels stays: pandas passes over one that does not have as many labels as there are rows.
    index = [each for each in metadata.get("index_columns", []) if isinstance(each, dict) or each in columns]
    new = [_pandas_column(each) for each in added]
    return {**metadata, "index_columns": index, "columns": [*columns.values(), *new]}


def _pandas_column(field: pa.Field) -> Json:
    plain = pa.types.is_integer(field.type) or pa.types.is_boolean(field.type)
    numpy_type = "float32" if pa.types.is_float32(field.type) else str(field.type) if plain else "object"
    pandas_type = {"object": "unicode" if pa.types.is_string(field.type) else "object"}.get(numpy_type, numpy_type)
    return {
        "name": field.name,
        "field_name": field.name,
        "pandas_type": pandas_type,
        "numpy_type": numpy_type,
        "metadata": None,
    }


# Hugging Face datasets: {"info": {"features": {name: {...}}}}


def _features(metadata: Json) -> Json:
    features = (metadata.get("info") or {}).get("features") or {}
    return features if isinstance(features, dict) else {}


def _hugging_face(metadata: Json, columns: Json, added: Sequence[pa.Field]) -> Json | None:
    kinds = {"float": "float32", "double": "float64", "date32[day]": "date32"}
    names = {each.name: kinds.get(str(each.type), str(each.type)) for each in added}
    new = {name: {"dtype": dtype, "_type": "Value"} for name, dtype in names.items()}
    # Not its fingerprint, which stands for other rows.
    return {"info": {**(metadata.get("info") or {}), "features": {**columns, **new}}}


# GeoParquet: {"primary_column": name, "columns": {name: {"encoding": ..., "bbox": ..., ...}}}

_EXTENT = ("bbox", "geometry_types")


def _geo_columns(metadata: Json) -> Json:
    columns = metadata.get("columns")
    return columns if isinstance(columns, dict) else {}


def _geo(metadata: Json, columns: Json, added: Sequence[pa.Field]) -> Json | None:
    if not columns:
        return None
    # Where a column of boxes went, nobody may look for it.
    kept = {name: {k: v for k, v in each.items() if k != "covering"} for name, each in columns.items()}
    primary = metadata.get("primary_column")
    return {**metadata, "primary_column": primary if primary in kept else next(iter(kept)), "columns": kept}


def _without_extent(value: bytes) -> bytes:
    """What one file says of its geometries need not hold for those of the others."""
    metadata = json.loads(value)
    for column in _geo_columns(metadata).values():
        column.pop("bbox", None)
        column["geometry_types"] = []  # "unknown", by the specification
    return json.dumps(metadata).encode()


_DESCRIBERS = {
    b"org.apache.spark.sql.parquet.row.metadata": _Describer(
        _spark_columns, _spark, lambda column: [column.get("type"), column.get("metadata")]
    ),
    b"pandas": _Describer(_pandas_columns, _pandas, lambda column: None, complete=False),
    b"huggingface": _Describer(_features, _hugging_face, lambda column: column),
    b"geo": _Describer(
        _geo_columns,
        _geo,
        lambda column: {k: v for k, v in column.items() if k not in (*_EXTENT, "covering")},
        complete=False,
    ),
}
