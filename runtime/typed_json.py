"""JSON to frozen dataclasses, with every field checked: an error names the field and its value.

    from_json(Manifest, text)     # ValueError: variants.int8.parity.pairs is "x", not an integer

A field's type is a dataclass, str, int, float, bool, a Literal of texts, one of these or None, tuple[T, ...] or
Mapping[str, T].
"""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

_WORDS = {str: "text", int: "an integer", float: "a finite number", bool: "true or false"}
_LONE_SURROGATE = re.compile("[\\ud800-\\udfff]")


def from_json(kind: type[T], text: str | bytes, format: int | None = None) -> T:
    """The object that `text` describes. kind: a dataclass. format: what its field `format` must say.

    Raises ValueError for text that is not JSON, for a field that is missing, unknown or of another type, and what the
    dataclass itself raises for a value, with the field's place in front.
    """
    try:
        raw = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if format is not None and isinstance(raw, dict) and raw.get("format") != format:
        raise ValueError(f"format is {_shown(raw.get('format'))}, and this release reads format {format}")
    result: T = from_plain(kind, raw)
    return result


def from_plain(kind: Any, raw: Any, place: str = "") -> Any:
    """The object of type `kind` that lists, dictionaries and plain values describe. place: where they stand."""
    if isinstance(kind, UnionType):  # of a type and None
        (given,) = (each for each in get_args(kind) if each is not NoneType)
        return None if raw is None else from_plain(given, raw, place)
    if is_dataclass(kind) and isinstance(raw, dict):
        return _object(kind, raw, place)
    if get_origin(kind) is tuple and isinstance(raw, list):
        item = get_args(kind)[0]
        return tuple(from_plain(item, each, f"{place}[{index}]") for index, each in enumerate(raw))
    if get_origin(kind) is Mapping and isinstance(raw, dict):
        item = get_args(kind)[1]
        return {
            from_plain(str, name, place): from_plain(item, each, _inside(place, name)) for name, each in raw.items()
        }
    if not _fits(kind, raw):
        raise ValueError(f"{place or 'all of it'} is {_shown(raw)}, not {_described(kind)}")
    return raw


def _fits(kind: Any, raw: Any) -> bool:
    """Whether `raw` is a plain value of this type."""
    if kind is float:
        return type(raw) in (int, float) and abs(raw) <= sys.float_info.max  # neither infinite nor no number
    if get_origin(kind) is Literal:
        return type(raw) is str and raw in get_args(kind)
    if kind is str:
        return type(raw) is str and not _LONE_SURROGATE.search(raw)  # nothing could print one
    return kind in (int, bool) and type(raw) is kind


def _object(kind: Any, raw: dict[str, Any], place: str) -> Any:
    types = get_type_hints(kind)
    known = {each.name: each for each in fields(kind)}
    for name in raw:
        if name not in known:
            raise ValueError(f"{_inside(place, name)} is no field that this release knows")
    values = {}
    for name, field in known.items():
        if name in raw:
            values[name] = from_plain(types[name], raw[name], _inside(place, name))
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{_inside(place, name)} is missing")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(_inside(place, str(error))) from error


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    return _WORDS.get(kind) or ("a list" if get_origin(kind) is tuple else "an object")


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _shown(raw: Any) -> str:
    return json.dumps(raw)[:80]
