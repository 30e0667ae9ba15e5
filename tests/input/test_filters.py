"""The text of --filter: the same rows as DuckDB's, Python's spelling where it means one thing, and clear refusals."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.input.filters import parse_filter
from tests.robustness.filters import differing

ROWS = [
    {"id": number, "label": label, "relevant": relevant, "odd name": number / 2}
    for number, (label, relevant) in enumerate(
        [("SUPPORTS", True), ("REFUTES", False), ("it's", True), ("", False), ("SUPPORTS", False), ("é", True)]
    )
]
TABLE = pa.Table.from_pylist([*ROWS, {"id": None, "label": None, "relevant": None, "odd name": None}])


def selected(text, table=TABLE):
    expression, _ = parse_filter(text).bind(table.schema)
    return table.filter(expression)["id"].to_pylist()


def test_the_same_rows_as_duckdb():
    assert differing(400, seed=7) == []


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("id < 2", [0, 1]),
        ("1 <= id < 4", [1, 2, 3]),
        ("id == -1 or id >= 5", [5]),
        ("relevant", [0, 2, 5]),
        ("Relevant = TRUE AND ID <> 0", [2, 5]),
        ("relevant == true and id != 0", [2, 5]),
        ("not relevant", [1, 3, 4]),
        ("not (relevant or id > 2)", [1]),
        ("label in ('SUPPORTS', \"it's\")", [0, 2, 4]),
        ("label in ('SUPPORTS', 'it''s',)", [0, 2, 4]),
        ("label not in ['SUPPORTS']", [1, 2, 3, 5]),
        ("label != 'SUPPORTS'", [1, 2, 3, 5]),
        ("label not in ('SUPPORTS', NULL)", []),
        ("label == 'é'", [5]),
        ("label is null", [None]),
        ("label is not null and relevant is not None", [0, 1, 2, 3, 4, 5]),
        ('field("odd name") >= 1.5', [3, 4, 5]),
        ('"odd name" BETWEEN 1 AND 1.5', [2, 3]),
        ("label LIKE '%U%' AND label NOT LIKE 'R%'", [0, 4]),
        ("id > 3.5", [4, 5]),
        ("id = 3.5", []),
        ("id < 99999999999999999999999", [0, 1, 2, 3, 4, 5]),
        ("id = '3'", [3]),
        ("relevant IS NOT TRUE", [1, 3, 4, None]),
        (" OR ".join(f"id = {number}" for number in range(2000)), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_conditions(text, ids):
    assert selected(text) == ids


DAYS = [dt.datetime(2024, 1, 1 + day, day) for day in range(6)]
TYPED = pa.table(
    {
        "id": range(6),
        "day": pa.array(DAYS).cast(pa.date32(), safe=False),
        "at": pa.array(DAYS, pa.timestamp("us")),
        "utc": pa.array(DAYS, pa.timestamp("ns", "Europe/Berlin")),
        "price": pa.array([Decimal(number) / 2 for number in range(6)], pa.decimal128(10, 2)),
        "half": pa.array(np.arange(6, dtype=np.float16)),
        "hash": pa.array([2**64 - 6 + number for number in range(6)], pa.uint64()),
        "view": pa.array([str(number) for number in range(6)]),
        "page": [{"number": number, "odd name": None} for number in range(6)],
    }
)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("day >= '2024-01-05'", [4, 5]),
        ("day in ('2024-01-05', DATE '2024-01-06')", [4, 5]),
        ("at >= '2024-01-05'", [4, 5]),
        ("at >= '2024-01-05 05:00'", [5]),
        ("at = TIMESTAMP '2024-01-03T02:00:00'", [2]),
        ("utc = '2024-01-03T03:00:00+01:00'", [2]),
        ("utc < '2024-01-02'", [0]),
        ("day < at", [1, 2, 3, 4, 5]),
        ("price > 1", [3, 4, 5]),
        ("price in (0.5, 0.505, 2)", [1, 4]),
        ("half > 3.5", [4, 5]),
        (f"hash in ({2**64 - 1}, {2**64 - 6}, -1)", [0, 5]),
        (f"hash > {2**64 - 3}", [4, 5]),
        ("page.number = 3", [3]),
        ('page."odd name" is null', [0, 1, 2, 3, 4, 5]),
    ],
)
def test_literals_take_the_type_of_their_column(text, ids):
    assert selected(text, TYPED) == ids


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id <",
        "id = 1; drop table x",
        "lambda: id",
        "label == f'{id}'",
        "id = b'x'",
    ],
)
def test_what_is_not_sql_is_refused_in_one_line(text):
    with pytest.raises(PairscoreError, match=r"--filter .* cannot be read") as refused:
        parse_filter(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 = 1", "1 and 1 are two values"),
        ("id + 1 = 2", "'id \\+ 1' is not understood: use columns, numbers"),
        ("field(id) = 1", "is not understood"),
        ("field('id', 'x') = 1", "is not understood"),
        ("id in (SELECT 1)", "is not understood"),
        ("id in other", "is not understood"),
        ("id = 1 = 2", "is not understood"),
        ("__import__('os').system('true')", "is not understood"),
        ("abs(id) = 1", "is not understood"),
        ("(x := id) = 1", "is not understood"),
        ("TRUE", "it names no column"),
        ("lable = 'x'", "no column 'lable': the input has 'label', 'id'"),
        ("\"lable\" = 'x'", "no column 'lable'"),
        ("label = 1", "column 'label' is of type string, and 1 is not: write a text in quotes: '1'"),
        ("id = 'x'", "column 'id' is of type int64, and 'x' is not: write a number"),
        ("id in (1, 'a')", "column 'id' is of type int64, and 'a' is not"),
        ("id", "column 'id' is of type int64, not true or false"),
        ("relevant < 'x'", "column 'relevant' is of type bool"),
        ("id = label", "columns 'id' and 'label' are of types int64 and string, which do not compare"),
        ("id LIKE '1'", "LIKE needs text"),
        ("id.page = 1", "has no field 'page'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(text, message):
    with pytest.raises(PairscoreError, match=message) as refused:
        parse_filter(text).bind(TABLE.schema)
    assert str(refused.value).startswith("--filter ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("day = '2024-02-30'", "write a date of the calendar"),
        ("day = '2024-01-05 12:00'", "write a date alone, or TIMESTAMP"),
        ("day = 5", "write a date in quotes like '2024-01-31'"),
        ("at = '2024-01-05 12:00Z'", "as the column has none"),
        ("at = 'yesterday'", "write a date like"),
        ("at = utc", "do not compare"),
        ("page = 'x'", "can only be tested with IS NULL"),
    ],
)
def test_a_date_that_is_none_is_refused(text, message):
    with pytest.raises(PairscoreError, match=message):
        parse_filter(text).bind(TYPED.schema)


def test_the_columns_read_are_known():
    schema = pa.schema([("a", pa.int64()), ("b c", pa.int64()), ("d", pa.bool_()), ("e", pa.int64())])
    assert parse_filter('A == 1 and field("b c") in (1, 2) or not d').bind(schema)[1] == {"a", "b c", "d"}
