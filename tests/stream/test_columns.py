"""Text columns of every encoding, windows that depend on the rows alone, sizes of values."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.stream import columns
from pairscore.runtime.stream.columns import (
    check_text_column,
    decode,
    row_bytes,
    text_bytes,
    text_pair,
    windows,
)
from tests.pairs_files import claimed_text

TEXTS = ["a", "", None, "é😀", "b" * 300]
PLAIN = pa.array(TEXTS, pa.string())
ENCODINGS = {
    "string": PLAIN,
    "large_string": PLAIN.cast(pa.large_string()),
    "string_view": PLAIN.cast(pa.string_view()),
    "dictionary": PLAIN.dictionary_encode(),
    "dictionary of large_string": PLAIN.cast(pa.large_string()).dictionary_encode(),
    "binary": PLAIN.cast(pa.binary()),
    "large_binary": PLAIN.cast(pa.large_binary()),
    "binary_view": PLAIN.cast(pa.binary_view()),
    "chunks": pa.chunked_array([PLAIN[:2], PLAIN[2:]]),
    "chunks of dictionaries": pa.chunked_array([PLAIN[:2].dictionary_encode(), PLAIN[2:].dictionary_encode()]),
    "sliced": pa.array(["x", *TEXTS, "y"])[1:-1],
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_text_of_any_encoding_is_one_string_array(encoding):
    column = ENCODINGS[encoding]
    check_text_column(pa.schema([("t", column.type)]), "t", "--claim-column")
    texts, malformed = decode(text_bytes(column))
    assert texts.type == pa.string()
    assert texts.to_pylist() == TEXTS
    assert malformed is None


def test_nothing_but_nulls_and_nothing_at_all():
    assert text_bytes(pa.nulls(3)).to_pylist() == [None] * 3
    assert text_bytes(pa.chunked_array([], pa.string())).to_pylist() == []


def _decoded(value):
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


@given(st.lists(st.none() | st.binary(max_size=6) | st.text(max_size=4).map(str.encode), max_size=20))
@example(
    [b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xe0\x80\x80", b"\xf5\x80\x80\x80", b"a\xffb", b"a\n\xff"]
)
def test_bytes_are_text_where_python_decodes_them(values):
    texts, malformed = decode(pa.array(values, pa.binary()))
    expected = [None if value is None else _decoded(value) for value in values]
    assert texts.to_pylist() == expected
    broken = [value is not None and text is None for value, text in zip(values, expected, strict=True)]
    assert (malformed.to_pylist() if malformed is not None else [False] * len(values)) == broken


CONVERSIONS = {
    "string": lambda array: array,
    "binary": lambda array: array.cast(pa.binary()),
    "large_string": lambda array: array.cast(pa.large_string()),
    "string_view": lambda array: array.cast(pa.string_view()),
    "dictionary": lambda array: array.dictionary_encode(),
}


@pytest.mark.parametrize("kind", CONVERSIONS)
def test_text_that_is_not_utf8_is_an_error_or_left_out(kind):
    values = [b"fine", None, b"d\xe9j\xe0 vu", b"well", b"\xff"]
    table = pa.table({"c": CONVERSIONS[kind](claimed_text(values)), "e": ["a", "b", "c", None, "e"]})
    message = r"row 2 has bytes in column 'c' that are not UTF-8 \(byte 0xe9 at position 1\).*--on-invalid-utf8 null"
    for on_null in ("null", "error"):
        with pytest.raises(PairscoreError, match=message):
            text_pair(table, ("c", "e"), on_null)
    with pytest.raises(PairscoreError, match="row 1 has a null in column 'c'"):
        text_pair(table, ("c", "e"), on_invalid_utf8="null")
    claims, evidence, valid = text_pair(table, ("c", "e"), "null", "null")
    assert (claims.to_pylist(), evidence.to_pylist()) == (["fine"], ["a"])
    assert valid.to_pylist() == [True, False, False, False, False]


@pytest.mark.parametrize("kind", [pa.int64(), pa.list_(pa.string()), pa.bool_(), pa.dictionary(pa.int32(), pa.int64())])
def test_columns_that_are_no_text_are_refused_with_their_type(kind):
    with pytest.raises(PairscoreError, match=r"column 't' is of type .*--claim-column"):
        check_text_column(pa.schema([("t", kind)]), "t", "--claim-column")


def test_missing_and_double_columns_are_refused():
    schema = pa.schema([("a", pa.string()), ("b", pa.string()), ("b", pa.string())])
    with pytest.raises(PairscoreError, match="no column 'c': the input has 'a', 'b', 'b'; use --claim-column NAME"):
        check_text_column(schema, "c", "--claim-column")
    with pytest.raises(PairscoreError, match="2 columns are named 'b'"):
        check_text_column(schema, "b", "--claim-column")


def test_a_pair_needs_both_texts():
    table = pa.table({"c": ["a", None, "b", None], "e": ["x", "y", None, None]})
    claims, evidence, valid = text_pair(table, ("c", "e"), "null")
    assert (claims.to_pylist(), evidence.to_pylist()) == (["a"], ["x"])
    assert valid.to_pylist() == [True, False, False, False]
    with pytest.raises(PairscoreError, match=r"row 11 has a null in column 'c'.*--on-null null"):
        text_pair(table, ("c", "e"), row_name=lambda row: f"row {row + 10}")


ROWS = st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8), st.integers(0, 9)), max_size=40)


def _slow_windows(rows, max_pairs, max_bytes):
    """One row at a time: a window is full when the next row would exceed a limit."""
    found, current, size = [], [], 0
    for row in rows:
        more = len(row[0].encode()) + len(row[1].encode()) + 8
        if current and (len(current) == max_pairs or size + more > max_bytes):
            found.append(current)
            current, size = [], 0
        current.append(row)
        size += more
    return [*found, current] if current else found


@given(ROWS, st.integers(1, 9), st.integers(8, 60), st.lists(st.integers(1, 12), min_size=1), st.booleans())
def test_windows_equal_a_slow_cut_however_rows_arrive(rows, max_pairs, max_bytes, sizes, as_dictionary):
    columns = [
        pa.array([row[place] for row in rows], kind)
        for place, kind in enumerate([pa.string(), pa.string(), pa.int64()])
    ]
    if as_dictionary:
        columns[0] = columns[0].dictionary_encode()
    whole = pa.record_batch(columns, names=["c", "e", "n"])
    batches, start = [], 0
    while start < len(rows):
        size = sizes[len(batches) % len(sizes)]
        batches.append(whole.slice(start, size))
        start += size
    cut = [
        [tuple(row.values()) for row in table.to_pylist()]
        for table in windows(batches, ("c", "e"), max_pairs=max_pairs, max_bytes=max_bytes)
    ]
    assert cut == _slow_windows(rows, max_pairs, max_bytes)


def _slow_bytes(value, kind):
    if isinstance(value, str | bytes):
        return len(value.encode() if isinstance(value, str) else value)
    if isinstance(value, list):
        return sum(_slow_bytes(each, kind) for each in value)
    return 0 if value is None else kind.bit_width // 8


@pytest.mark.parametrize(
    "array",
    [
        *(
            each
            for name, each in ENCODINGS.items()
            if name in ("string", "large_string", "string_view", "binary_view", "sliced")
        ),
        pa.array([[1, 2], [], None, [3]], pa.list_(pa.int32())),
        pa.array([[0], [1, 2], [], [3, 4, 5]], pa.large_list(pa.int32()))[1:],
        pa.array([["a", "bcd"], None, [""]], pa.list_(pa.string())),
    ],
    ids=str,
)
def test_bytes_of_values(array):
    leaf = array.type.value_type if hasattr(array.type, "value_type") else array.type
    assert row_bytes(array).tolist() == [_slow_bytes(value, leaf) for value in array.to_pylist()]


def test_bytes_of_nested_values():
    struct = pa.array([{"x": 1, "y": "abc"}, {"x": 2, "y": ""}, {"x": 3, "y": "z"}])
    assert row_bytes(struct).tolist() == [11, 8, 9]
    assert row_bytes(struct[1:]).tolist() == [8, 9]
    fixed = pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32(), 2))
    assert row_bytes(fixed[1:]).tolist() == [8, 8]
    mapping = pa.array([[("k", 1)], [("kk", 2), ("", 3)]], pa.map_(pa.string(), pa.int64()))
    assert row_bytes(mapping).tolist() == [9, 18]
    assert row_bytes(pa.nulls(2)).tolist() == [0, 0]
    assert row_bytes(pa.array([1, None], pa.int16())).tolist() == [2, 2]


WORDS = [["a", "bcd"], ["e"]] * 500
NESTED = {
    "list": pa.array(WORDS, pa.list_(pa.string())),
    "large list": pa.array(WORDS, pa.large_list(pa.string())),
    "list of lists": pa.array([WORDS[:2]] * 1000, pa.list_(pa.list_(pa.string()))),
    "map": pa.array([[("a", 1), ("b", 2)]] * 1000, pa.map_(pa.string(), pa.int64())),
    "fixed-size list": pa.array([[1.0, 2.0]] * 1000, pa.list_(pa.float32(), 2)),
    "struct": pa.array([{"a": ["b", "c"]}] * 1000),
}


@pytest.mark.parametrize("kind", NESTED)
def test_a_cut_measures_each_value_once(monkeypatch, kind):
    """A slice of a nested column has all children of the column: a cut that measured them would take quadratic time."""
    measured, measure = [], columns.row_bytes

    def counted(array):
        measured.append(len(array))
        return measure(array)

    monkeypatch.setattr(columns, "row_bytes", counted)
    whole = pa.record_batch([NESTED[kind]], names=["n"])
    list(columns.windows([whole], (), max_pairs=1000))
    at_once = sum(measured)
    measured.clear()
    assert len(list(columns.windows([whole], (), max_pairs=10))) == 100
    assert sum(measured) == at_once <= 7 * 1000


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if not name.startswith("chunks")])
def test_a_parquet_file_gives_each_encoding_back(tmp_path, encoding):
    """What the reader hands over is what was written, so the tests above cover files as well."""
    table = pa.table({"t": ENCODINGS[encoding]})
    pq.write_table(table, tmp_path / "t.parquet")
    batches = list(pq.ParquetFile(tmp_path / "t.parquet").iter_batches(2))
    assert [text for batch in batches for text in decode(text_bytes(batch.column(0)))[0].to_pylist()] == TEXTS
