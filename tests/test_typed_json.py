"""JSON read into dataclasses: whatever does not fit is refused by its place and its value."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscore.runtime.typed_json import from_json


@dataclass(frozen=True)
class Inner:
    size: int
    share: float | None = None

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"size is {self.size}, not at least 0")


@dataclass(frozen=True)
class Outer:
    name: str
    side: Literal["left", "right"]
    whole: bool
    inner: Inner
    by_name: Mapping[str, Inner]
    numbers: tuple[float, ...] = ()
    format: int = 1


WHOLE = {
    "name": "a\n\u2028é",
    "side": "left",
    "whole": True,
    "inner": {"size": 3, "share": 0.5},
    "by_name": {"x": {"size": 1}, "": {"size": 2, "share": None}},
    "numbers": [1, 2.5],
}


def test_what_fits_becomes_the_object():
    read = from_json(Outer, json.dumps(WHOLE))
    assert read == Outer("a\n\u2028é", "left", True, Inner(3, 0.5), {"x": Inner(1), "": Inner(2)}, (1, 2.5))
    assert from_json(Outer, json.dumps(asdict(read)), 1) == read


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("name", 7, "name is 7, not text"),
        ("name", "\ud800", r'name is "\\ud800", not text'),
        ("side", "top", 'side is "top", not left or right'),
        ("whole", 1, "whole is 1, not true or false"),
        ("inner", [], r"inner is \[\], not an object"),
        ("inner.size", True, "inner.size is true, not an integer"),
        ("inner.size", 1.0, "inner.size is 1.0, not an integer"),
        ("inner.size", -4, "inner.size is -4, not at least 0"),
        ("inner.share", "x", 'inner.share is "x", not a finite number'),
        ("inner.share", float("nan"), "inner.share is NaN, not a finite number"),
        ("inner.share", float("-inf"), "inner.share is -Infinity, not a finite number"),
        ("inner.share", 10**400, "inner.share is 1000000+, not a finite number"),
        ("by_name.x", None, "by_name.x is null, not an object"),
        ("by_name.x.extra", 1, "by_name.x.extra is no field that this release knows"),
        ("numbers", {"0": 1}, r'numbers is \{"0": 1\}, not a list'),
        ("numbers", [1, None], r"numbers\[1\] is null, not a finite number"),
        ("format", 2, "format is 2, and this release reads format 1"),
    ],
)
def test_what_does_not_fit_is_named_with_its_value(path, value, message):
    raw = json.loads(json.dumps({**WHOLE, "format": 1}))
    *holders, last = path.split(".")
    place = raw
    for each in holders:
        place = place[each]
    place[last] = value
    with pytest.raises(ValueError, match=message):
        from_json(Outer, json.dumps(raw), 1)


@pytest.mark.parametrize("missing", [name for name in WHOLE if name != "numbers"])
def test_a_missing_field_is_named(missing):
    with pytest.raises(ValueError, match=f"{missing} is missing"):
        from_json(Outer, json.dumps({name: value for name, value in WHOLE.items() if name != missing}))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, b"\xff", "null", "1" * 10_000])
def test_text_that_is_no_object(text):
    with pytest.raises(ValueError, match=r"."):
        from_json(Outer, text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*WHOLE, "size"]), inner, max_size=5),
    max_leaves=12,
)


@given(JSON)
def test_anything_else_is_a_value_error(raw):
    with pytest.raises(ValueError, match=r"."):
        from_json(Outer, json.dumps(raw))
