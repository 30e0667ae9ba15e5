"""The best rows a claim, against sorting everything at once."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.spill.ranking import RANK_COLUMN, Best, Ranking, check_best

# Few different scores, so that ties are common; -0.0 and 0.0 tie.
ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from([0.5, -1.0, 0.0, -0.0, 2.5, None])), max_size=60
)


def reference(rows, top_k):
    """(place, rank) of the best rows of each claim, in order of place."""
    best = {}
    for claim in {claim for claim, _ in rows}:
        mine = [(-score, place) for place, (name, score) in enumerate(rows) if name == claim and score is not None]
        best.update({place: rank for rank, (_, place) in enumerate(sorted(mine)[:top_k], 1)})
    return sorted(best.items())


def table_of(rows, first):
    return pa.table(
        {
            "claim": pa.array([claim for claim, _ in rows], pa.string()),
            "place": pa.array(range(first, first + len(rows)), pa.int64()),
            "score": pa.array([score for _, score in rows], pa.float32()),
        }
    )


def ranked_in_parts(rows, cuts, top_k, stop_after=None):
    """Rank `rows`, cut into parts at `cuts`. stop_after: stop the first time when so many parts are replaced."""
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = {}
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        parts[number] = Best("claim", "score", top_k).within(table_of(rows[start:stop], start))
    for limit in (stop_after, None):
        ranking = Ranking(list(parts), lambda part, names: parts[part].select(names), Best("claim", "score", top_k))
        for part in list(parts)[:limit]:
            parts[part] = ranking.apply(parts[part], part)
        ranking.close()
    whole = pa.concat_tables(parts.values())
    return list(zip(whole["place"].to_pylist(), whole[RANK_COLUMN].to_pylist(), strict=True)), parts


@given(rows=ROWS, cuts=st.lists(st.integers(0, 60), max_size=5), top_k=st.integers(1, 4), stop=st.integers(0, 6))
@settings(max_examples=40)
def test_the_best_rows_are_those_of_sorting_everything(rows, cuts, top_k, stop):
    """Whatever the parts, and when the last step stops half way and starts again."""
    expected = reference(rows, top_k)
    assert ranked_in_parts(rows, cuts, top_k)[0] == expected
    assert ranked_in_parts(rows, cuts, top_k, stop)[0] == expected


def test_a_worked_example():
    """Two claims, the best two rows of each: a has 3.0 (row 4) and 2.0 (row 0, which ties with row 3 and is first)."""
    rows = [("a", 2.0), ("b", 9.0), ("a", 1.0), ("a", 2.0), ("a", 3.0)]
    assert ranked_in_parts(rows, [2], 2)[0] == [(0, 2), (1, 1), (4, 1)]


def test_parts_that_are_right_are_left_alone():
    """Where no claim crosses parts, the last step has nothing to write."""
    rows = [("a", 1.0), ("a", 2.0), ("b", 5.0), ("b", 4.0)]
    _, parts = ranked_in_parts(rows, [2], 1)
    ranking = Ranking(list(parts), lambda part, names: parts[part].select(names), Best("claim", "score", 1))
    assert all(ranking.apply(table, part) is table for part, table in parts.items())


@pytest.mark.parametrize(
    "values",
    [[3, 3, 7], [True, True, False], np.array(["2020-01-01", "2020-01-01", "2021-01-01"], "datetime64[D]")],
)
def test_claims_may_be_numbers_booleans_or_dates(values):
    table = pa.table({"by": pa.array(values), "score": pa.array([1.0, 2.0, 3.0], pa.float32())})
    check_best(Best("by", "score", 1), table.schema, ["by"])
    assert Best("by", "score", 1).within(table)["score"].to_pylist() == [2.0, 3.0]


def test_a_dictionary_groups_by_its_values():
    column = pa.chunked_array([pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", "a"]).dictionary_encode()])
    table = pa.table({"by": column.unify_dictionaries(), "score": pa.array([1, 2, 3, 4], pa.float32())})
    assert Best("by", "score", 1).within(table)["score"].to_pylist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("best", "message"),
    [
        (Best("vector", "score", 1), "of type list<.*--by takes a column of text"),
        (Best("x", "score", 1), "--by: no column 'x': the input has 'vector', 'claim', 'id'"),
        (Best("id", "score", 1), "'id' is not in the output.*--keep"),
    ],
)
def test_what_cannot_be_ranked_is_refused(best, message):
    schema = pa.schema([("vector", pa.list_(pa.float32())), ("claim", pa.string()), ("id", pa.int64())])
    with pytest.raises(PairscoreError, match=message):
        check_best(best, schema, ["vector", "claim"])
