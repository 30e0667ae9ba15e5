"""Types of Parquet columns: what a footer says of them, what the writer would lose of it, and one type for many files.

Arrow reads most of what a file can hold and writes it again. What it would write as something else (an interval, a
variant) is found here from footers alone, before anything is scored.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

# Arrow reads INT96, the timestamps of Spark and Hive, in nanoseconds by default, which end in the year 2262.
INT96_UNIT = "us"
_STORED, _HIDDEN = b"ARROW:schema", b"hidden:arrow"  # of equal length
# Keys of a field that say what its values mean: of Arrow's extension types, and of Polars' own.
_MEANING = (b"ARROW:extension:name", b"_PL_")
_FIELD_ID = b"PARQUET:field_id"
_GROUP = re.compile(r" {2}(?:optional|required|repeated) group field_id=-?\d+ .*\((\w+)(?:\(.*\))?\) \{")
_INNER_GROUP = re.compile(r" {4,}(?:optional|required|repeated) group field_id=-?\d+ .* \((\w+)(?:\(.*\))?\) \{")
_KEPT_GROUPS = ("List", "Map")


@dataclass(frozen=True)
class FileSchema:
    """The columns of a file. `arrow`: as they are read, with the footer's keys. `int96`: those that hold INT96.

    `utc_times`, `local_times`: those with a time of the day in UTC, and with one without a zone, which Arrow's types do
    not tell apart. `lost`: column -> the type that Arrow would not write again. `stored`: whether the file's own Arrow
    schema was read; False where Arrow does not know a type in it. `has_arrow`: whether it holds one.
    """

    arrow: pa.Schema
    int96: frozenset[str] = frozenset()
    utc_times: frozenset[str] = frozenset()
    local_times: frozenset[str] = frozenset()
    lost: Mapping[str, str] = field(default_factory=dict)
    stored: bool = True
    has_arrow: bool = True


def file_schema(footer: bytes) -> FileSchema:
    """What a footer says. Raises ArrowException for what is no footer."""
    metadata, stored = open_footer(footer)
    with pq.ParquetFile(pa.BufferReader(footer), metadata=metadata, coerce_int96_timestamp_unit=INT96_UNIT) as parquet:
        arrow = parquet.schema_arrow
    keys = {key: value for key, value in (arrow.metadata or {}).items() if key != _HIDDEN}
    arrow = pa.schema([_without_field_id(each) for each in arrow], keys)
    leaves = _leaves(metadata.schema, arrow)
    int96 = {name for name, leaf in leaves if leaf.physical_type == "INT96"}
    times = [(name, "isAdjustedToUTC=true" in str(leaf.logical_type)) for name, leaf in leaves if _is_time(leaf)]
    utc_times, local_times = (frozenset(name for name, in_utc in times if in_utc is wanted) for wanted in (True, False))
    return FileSchema(
        arrow,
        frozenset(int96),
        utc_times,
        local_times,
        _lost(metadata.schema, arrow, leaves, stored),
        stored,
        _STORED in footer,
    )


def open_footer(footer: bytes) -> tuple[pq.FileMetaData, bool]:
    """The metadata to read a file with, and whether the file's own Arrow schema is in it.

    A schema with a type that Arrow does not know is hidden from it: columns then have the types that Parquet names.
    """
    try:
        return pq.read_metadata(pa.BufferReader(footer)), True
    except pa.ArrowNotImplementedError:
        if _STORED not in footer:
            raise
        return pq.read_metadata(pa.BufferReader(footer.replace(_STORED, _HIDDEN))), False


def unified(one: pa.Field, other: pa.Field) -> pa.Field | None:
    """A field that holds the values of both unchanged; None where there is none.

    Encodings of text and bytes, dictionaries, nulls alone, and who says that there are no nulls may differ.
    """
    first, second = one.metadata or {}, other.metadata or {}
    meaning = [{key: value for key, value in each.items() if key.startswith(_MEANING)} for each in (first, second)]
    # An Enum of Polars names its values beside the type: no file has more of them.
    fixed = one.type == other.type and meaning[0] == meaning[1] != {}
    kind = one.type if fixed else _unified_type(one.type, other.type)
    if kind is None:
        return None
    if not pa.types.is_null(one.type) and not pa.types.is_null(other.type):
        if meaning[0] != meaning[1]:
            return None
        shared = {key: value for key, value in first.items() if second.get(key) == value}
    else:
        shared = second if pa.types.is_null(one.type) else first
    return pa.field(one.name, kind, one.nullable or other.nullable, shared or None)


def _unified_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    test = pa.types
    if one == other and not test.is_dictionary(one):
        # Arrow's `==` passes over what the fields of nested types say of nulls.
        return _unified_children(one, other) if test.is_nested(one) else one
    if test.is_null(one) or test.is_null(other):
        return other if test.is_null(one) else one
    if test.is_dictionary(one) or test.is_dictionary(other):
        values = _unified_type(_values(one), _values(other))
        if values is None or not (test.is_dictionary(one) and test.is_dictionary(other)):
            return values
        # Files with 100 values each may hold more together than an index of 8 bits tells apart.
        indices = max(one.index_type, other.index_type, pa.int32(), key=lambda kind: kind.bit_width)
        return pa.dictionary(indices, values, one.ordered and other.ordered)
    for kinds, large in ((_TEXTS, pa.large_string()), (_BYTES, pa.large_binary())):
        if one in kinds and other in kinds:
            return large
    return _unified_children(one, other)


def _unified_children(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:  # noqa: PLR0911 (a return a kind)
    test = pa.types
    if any(isinstance(kind, pa.BaseExtensionType) for kind in (one, other)):
        return one if one == other else None
    if test.is_struct(one) and test.is_struct(other):
        if [each.name for each in one] != [each.name for each in other]:
            return None
        children = [unified(first, second) for first, second in zip(one, other, strict=True)]
        return None if any(child is None for child in children) else pa.struct(children)
    if test.is_map(one) and test.is_map(other):
        key, item = unified(one.key_field, other.key_field), unified(one.item_field, other.item_field)
        return None if key is None or item is None else pa.map_(key, item, one.keys_sorted and other.keys_sorted)
    lists = (test.is_list, test.is_large_list)
    if any(is_list(one) for is_list in lists) and any(is_list(other) for is_list in lists):
        child = unified(one.value_field, other.value_field)
        if child is None:
            return None
        return pa.list_(child) if test.is_list(one) and test.is_list(other) else pa.large_list(child)
    if test.is_fixed_size_list(one) and test.is_fixed_size_list(other) and one.list_size == other.list_size:
        child = unified(one.value_field, other.value_field)
        return None if child is None else pa.list_(child, one.list_size)
    return None


_TEXTS = (pa.string(), pa.large_string(), pa.string_view())
_BYTES = (pa.binary(), pa.large_binary(), pa.binary_view())


def _values(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _without_field_id(column: pa.Field) -> pa.Field:
    """Without the number that Iceberg and others find a column by: the new columns have none."""
    kept = {key: value for key, value in (column.metadata or {}).items() if key != _FIELD_ID}
    return pa.field(column.name, _type_without_ids(column.type), column.nullable, kept or None)


def _type_without_ids(kind: pa.DataType) -> pa.DataType:
    test = pa.types
    if test.is_struct(kind) and kind.num_fields:
        return pa.struct([_without_field_id(each) for each in kind])
    if test.is_map(kind):
        return pa.map_(_without_field_id(kind.key_field), _without_field_id(kind.item_field), kind.keys_sorted)
    if test.is_list(kind):
        return pa.list_(_without_field_id(kind.value_field))
    if test.is_large_list(kind):
        return pa.large_list(_without_field_id(kind.value_field))
    if test.is_fixed_size_list(kind):
        return pa.list_(_without_field_id(kind.value_field), kind.list_size)
    return kind


def _leaves(schema: pq.ParquetSchema, arrow: pa.Schema) -> list[tuple[str, pq.ColumnSchema]]:
    """The leaves of a file, each with the name of its column."""
    names = [each.name for each in arrow for _ in range(_leaf_count(each.type))]
    return list(zip(names, [schema.column(place) for place in range(len(schema))], strict=False))


def _leaf_count(kind: pa.DataType) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        return _leaf_count(kind.storage_type)
    if pa.types.is_map(kind):
        return _leaf_count(kind.key_type) + _leaf_count(kind.item_type)
    if pa.types.is_nested(kind):
        return sum(_leaf_count(kind.field(place).type) for place in range(kind.num_fields))
    return 1


def _is_time(leaf: pq.ColumnSchema) -> bool:
    return bool(leaf.logical_type.type == "TIME")


def _lost(
    schema: pq.ParquetSchema, arrow: pa.Schema, leaves: Sequence[tuple[str, pq.ColumnSchema]], stored: bool
) -> dict[str, str]:
    lost: dict[str, str] = {}
    column = -1
    for line in str(schema).split("\n")[2:]:
        outer = re.match(r" {2}\S", line)
        column += outer is not None and line != "  }"
        group = (_GROUP if outer else _INNER_GROUP).match(line)
        if group and group[1] not in _KEPT_GROUPS and column < len(arrow):
            lost[arrow.names[column]] = group[1].lower()
    by_name: dict[str, list[pq.ColumnSchema]] = {}
    for name, leaf in leaves:
        by_name.setdefault(name, []).append(leaf)
        if not stored and leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" and leaf.logical_type.type == "NONE":
            lost[name] = "of a type that Arrow does not know"
    for each in arrow:
        try:
            written = _rewritten(each.type)
        except (pa.ArrowException, NotImplementedError) as error:
            lost[each.name] = f"{each.type}, which cannot be written ({error})"[:200]
            continue
        for before, after in zip(by_name.get(each.name, []), written, strict=False):
            if _meaning(before) != _meaning(after):
                logical = before.logical_type.type
                lost.setdefault(each.name, (before.converted_type if logical == "UNKNOWN" else logical).lower())
    return lost


@lru_cache(maxsize=1024)
def _rewritten(kind: pa.DataType) -> list[pq.ColumnSchema]:
    """The leaves of a column of this type as the writer would write them."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, pa.schema([pa.field("column", kind)])):
        pass
    schema = pq.read_metadata(pa.BufferReader(sink.getvalue())).schema
    return [schema.column(place) for place in range(len(schema))]


def _meaning(leaf: pq.ColumnSchema) -> str:
    """What a leaf's values mean to a reader, whatever bytes stand for them."""
    kind, text = leaf.logical_type.type, str(leaf.logical_type)
    if leaf.physical_type == "INT96":
        return "timestamp microseconds false"
    if kind in ("TIMESTAMP", "TIME"):
        unit, in_utc = re.findall(r"timeUnit=(\w+)", text), re.findall(r"isAdjustedToUTC=(\w+)", text)
        return " ".join([kind.lower(), *unit, *(in_utc if kind == "TIMESTAMP" else [])])
    if kind in ("STRING", "ENUM"):
        return "text"
    if kind == "NONE":
        plain = {"INT32": pa.int32(), "INT64": pa.int64(), "FIXED_LEN_BYTE_ARRAY": f"bytes {leaf.length}"}
        return str(plain.get(leaf.physical_type, leaf.physical_type))
    if kind == "INT":
        (bits,) = re.findall(r"bitWidth=(\d+)", text)
        return f"int{bits}" if "isSigned=true" in text else f"uint{bits}"
    return text
