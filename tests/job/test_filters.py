"""The text of --filter against plain Python over the same rows; everything else is refused."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.input.filters import check_filter, parse_filter

ROWS = [
    {"id": number, "label": label, "relevant": relevant, "odd name": number / 2}
    for number, (label, relevant) in enumerate(
        [("SUPPORTS", True), ("REFUTES", False), ("it's", True), ("", False), ("SUPPORTS", False), ("é", True)]
    )
]
TABLE = pa.Table.from_pylist([*ROWS, {"id": None, "label": None, "relevant": None, "odd name": None}])


def selected(text):
    expression, _ = parse_filter(text)
    check_filter(text, expression, TABLE.schema)
    return [row["id"] for row in TABLE.filter(expression).to_pylist()]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("id < 2", [0, 1]),
        ("1 <= id < 4", [1, 2, 3]),
        ("id == -1 or id >= 5", [5]),
        ("relevant", [0, 2, 5]),
        ("relevant == true and id != 0", [2, 5]),
        ("not relevant", [1, 3, 4]),
        ("not (relevant or id > 2)", [1]),
        ("label in ('SUPPORTS', \"it's\")", [0, 2, 4]),
        ("label not in ['SUPPORTS']", [1, 2, 3, 5, None]),
        ("label == 'é'", [5]),
        ("label is null", [None]),
        ("label is not null and relevant is not None", [0, 1, 2, 3, 4, 5]),
        ('field("odd name") >= 1.5', [3, 4, 5]),
    ],
)
def test_conditions(text, ids):
    assert selected(text) == ids


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id <",
        "1 == 1",
        "id + 1 == 2",
        "__import__('os').system('true')",
        "id.__class__",
        "field(id) == 1",
        "field('id', 'x') == 1",
        "[row for row in id]",
        "lambda: id",
        "id if relevant else id",
        "id == b'x'",
        "id in other",
        "(x := id) == 1",
        "label == f'{id}'",
        "id == " + "(" * 300 + "1" + ")" * 300,
    ],
)
def test_everything_else_is_refused_in_one_line(text):
    with pytest.raises(PairscoreError) as refused:
        parse_filter(text)
    assert "--filter" in str(refused.value)


@pytest.mark.parametrize("text", ["label == 1", "id", "missing == 1", "relevant < 'x'"])
def test_conditions_that_do_not_fit_the_columns(text):
    expression, _ = parse_filter(text)
    with pytest.raises(PairscoreError, match=r"--filter .* does not fit"):
        check_filter(text, expression, TABLE.schema)


def test_the_columns_read_are_known():
    assert parse_filter('a == 1 and field("b c") in (1, 2) or not d')[1] == {"a", "b c", "d"}


@st.composite
def conditions(draw, depth=3):
    """(text, the same over one row in Python)."""
    if depth == 0 or draw(st.booleans()):
        name = draw(st.sampled_from(["id", "odd name"]))
        sign, number = draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!="])), draw(st.integers(-1, 6))
        column = name if name == "id" else 'field("odd name")'
        return f"{column} {sign} {number}", f"row[{name!r}] {sign} {number}"
    left, right = draw(conditions(depth=depth - 1)), draw(conditions(depth=depth - 1))
    word = draw(st.sampled_from(["and", "or"]))
    prefix = draw(st.sampled_from(["", "not "]))
    return f"{prefix}({left[0]} {word} {right[0]})", f"{prefix}({left[1]} {word} {right[1]})"


@given(conditions())
def test_conditions_mean_what_python_means(case):
    text, python = case
    rows = pa.Table.from_pylist(ROWS)
    expression, _ = parse_filter(text)
    expected = [row["id"] for row in ROWS if eval(python, {"row": row})]
    assert rows.filter(expression)["id"].to_pylist() == expected
