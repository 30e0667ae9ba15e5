"""Pairs in every form that callers have them in."""

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.stream.pairs import pair_rows

PAIRS = [("a", "b"), ("c", "d")]
FRAME = pd.DataFrame({"evidence": ["b", "d"], "claim": ["a", "c"], "id": [1, 2]}, index=[5, 6])


@pytest.mark.parametrize(
    "given",
    [
        PAIRS,
        tuple(PAIRS),
        [list(pair) for pair in PAIRS],
        iter(PAIRS),
        zip(FRAME.claim, FRAME.evidence, strict=True),
        np.array(PAIRS),
        np.array(PAIRS, dtype=object),
        pd.Series(PAIRS, index=[7, 8]),
        FRAME,
        FRAME[["claim", "evidence"]].set_axis(["text", "passage"], axis=1),
        pl.DataFrame(PAIRS, schema=["x", "y"], orient="row"),
        pa.Table.from_pandas(FRAME),
        dict(PAIRS).items(),
    ],
    ids=lambda given: type(given).__name__,
)
def test_every_form_gives_the_same_rows(given):
    rows, single = pair_rows(given)
    assert ([tuple(row) for row in rows], single) == (PAIRS, False)


def test_a_relation_of_duckdb():
    with duckdb.connect() as database:
        given = database.sql("SELECT * FROM (VALUES ('a', 'b'), ('c', 'd')) AS t(claim, evidence)")
        assert pair_rows(given) == (PAIRS, False)


def test_one_pair_alone():
    for given in (("a", "b"), ["a", "b"], np.array(["a", "b"])):
        assert pair_rows(given) == ([("a", "b")], True)
    assert pair_rows([]) == ([], False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("ab", "'ab' is no list of pairs"),
        (5, "5 is no list of pairs"),
        ({"claim": ["a"], "evidence": ["b"]}, "is no list of pairs"),
        ([("a", "b", "c")], "pair 0 is .* two strings"),
        ([("a", "b"), "ab"], "pair 1 is 'ab'"),
        ([("a", None)], "pair 0 is .* two strings"),
        (FRAME[["claim"]], "a DataFrame of the columns 'claim': give one with the columns claim and evidence"),
        (FRAME.set_axis(["x", "y", "z"], axis=1), "of the columns 'x', 'y', 'z'"),
        (FRAME.assign(evidence=["b", None]), r"pair 1 is \('c', None\)"),
        (FRAME.assign(mixed=[1, "a"]), "does not become Arrow columns"),
    ],
)
def test_everything_else_is_refused_in_one_line(given, message):
    with pytest.raises(PairscoreError, match=message) as refused:
        pair_rows(given)
    assert "\n" not in str(refused.value)
