"""The columns that scoring adds: their names and types, the rows they land on, and names that are taken."""

import numpy as np
import pyarrow as pa
import pytest

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.stream.passages import LongEvidence
from pairscore.runtime.stream.score_columns import Outcome, ScoreColumns, score_columns


def test_values_land_on_the_rows_that_have_a_pair():
    table = pa.table({"a": [1, 2, 3]})
    columns = ScoreColumns(("yes", "no"), "p", "label", "cut", True)
    scores = np.array([[0.5, 1], [0.25, 0]], dtype=np.float32)
    outcome = Outcome(scores, np.array([True, False]), np.array([[0, 5], [7, 9]]))
    result = columns.append(table, outcome, pa.array([True, False, True]))
    assert result.schema == pa.schema([*table.schema, *columns.fields])
    assert result.drop_columns("a").to_pydict() == {
        "p_yes": [0.5, None, 0.25],
        "p_no": [1, None, 0],
        "label": ["no", None, "yes"],
        "cut": [True, None, False],
        "passage_begin": [0, None, 7],
        "passage_end": [5, None, 9],
    }
    assert (
        columns.append(
            table.slice(0, 0), Outcome(scores[:0], np.zeros(0, bool), np.zeros((0, 2))), pa.array([], pa.bool_())
        ).num_rows
        == 0
    )


def test_whole_numbers_give_an_outcome_back():
    columns = ScoreColumns(("score",), truncated="cut", passages=True)
    assert [field.name for field in columns.number_fields] == ["cut", "passage_begin", "passage_end"]
    outcome = columns.from_numbers(np.ones((2, 1), np.float32), np.array([[1, 2, 3], [0, 4, 5]], np.int32))
    outcome.fill(np.array([False, True]), Outcome(np.zeros((1, 1), np.float32), np.array([True]), np.array([[6, 7]])))
    assert outcome.scores.tolist() == [[1], [0]]
    assert outcome.truncated.tolist() == [True, True]
    assert outcome.passages is not None
    assert outcome.passages.tolist() == [[2, 3], [6, 7]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("p_no", "already has a column 'p_no': use --score-column NAME"),
        ("label", "already has a column 'label': use --prediction-column NAME"),
        ("passage_end", "already has a column 'passage_end': rename it, or leave out --passage-columns"),
    ],
)
def test_names_that_are_taken(name, message):
    columns = ScoreColumns(("yes", "no"), "p", "label", None, True)
    columns.check(pa.schema([("P_no", pa.int64())]))
    with pytest.raises(PairscoreError, match=message):
        columns.check(pa.schema([(name, pa.int64())]))
    with pytest.raises(PairscoreError, match="already has a column"):
        ScoreColumns(("yes", "no"), "p", "p_yes").check(pa.schema([]))


def test_options_that_do_not_go_together():
    with pytest.raises(PairscoreError, match="this model has one label: compare its score with a threshold"):
        score_columns(["score"], prediction_column="label")
    with pytest.raises(PairscoreError, match="'maybe' is no label of this model: it has yes, no"):
        score_columns(["yes", "no"], rank_by="maybe")
    found = score_columns(["yes", "no"], long_evidence="split", overlap=3, rank_by="no")
    assert (found.long, found.rank_by) == (LongEvidence(3, "max", 1), 1)
    assert [field.name for field in score_columns(["score"]).fields] == ["score"]
