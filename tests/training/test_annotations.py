"""Annotated pairs come in complete, or with one line that says what is wrong."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore import PairscoreError
from pairscore.training.annotations import Claim, read_annotations, read_evidence
from tests.climate import rows, write


def test_rows_of_a_claim_become_one_record(tmp_path):
    """Two files; a sentence that one row calls relevant is relevant, and each sentence stands once."""
    first = write(
        tmp_path / "first.parquet",
        [
            {"claim": "a", "evidence": "x", "relevant": False},
            {"claim": "a", "evidence": "y", "relevant": True},
            {"claim": "b", "evidence": "x", "relevant": True},
        ],
    )
    second = write(
        tmp_path / "second.parquet",
        [{"claim": "a", "evidence": "x", "relevant": True}, {"claim": "a", "evidence": "z", "relevant": False}],
    )
    annotations = read_annotations([first, second])
    assert annotations.claims == (Claim("a", ("x", "y"), ("z",)), Claim("b", ("x",), ()))
    assert annotations.evidence == ("x", "y", "z")
    assert annotations.relevant_pairs == 3
    assert annotations.claims[0].annotated == {"x", "y", "z"}
    assert read_evidence([second, first]) == ("x", "z", "y")


@pytest.mark.parametrize(("label", "relevant"), [(1, True), (0, False), (0.5, True), (0.49, False)])
def test_number_labels(tmp_path, label, relevant):
    table = [
        {"claim": "a", "evidence": "x", "relevant": 1.0},
        {"claim": "a", "evidence": "y", "relevant": float(label)},
    ]
    claim = read_annotations([write(tmp_path / "pairs.parquet", table)]).claims[0]
    assert ("y" in claim.relevant) is relevant


def test_texts_of_other_arrow_types_are_read(tmp_path):
    path = tmp_path / "pairs.parquet"
    claims = pa.array(["a", "a"]).dictionary_encode()
    pq.write_table(
        pa.table({"claim": claims, "evidence": pa.array(["x", "y"], pa.large_string()), "relevant": [1, 0]}), path
    )
    assert read_annotations([path]).claims == (Claim("a", ("x",), ("y",)),)


GOOD = {"claim": "a", "evidence": "x", "relevant": True}
BAD_TABLES = {
    "claim 'lonely' has no relevant evidence": [GOOD, {"claim": "lonely", "evidence": "x", "relevant": False}],
    "no column 'relevant'": [{"claim": "a", "evidence": "x"}],
    "no column 'evidence'": [{"claim": "a", "relevant": True}],
    "row 1 has the label 1.5, outside [0, 1]": [
        {"claim": "a", "evidence": "x", "relevant": 1.0},
        {"claim": "a", "evidence": "y", "relevant": 1.5},
    ],
    "row 0 has the label -1, outside [0, 1]": [{"claim": "a", "evidence": "x", "relevant": -1}],
    "row 0 has the label nan, outside [0, 1]": [{"claim": "a", "evidence": "x", "relevant": float("nan")}],
    "column 'relevant' is of type string": [{"claim": "a", "evidence": "x", "relevant": "yes"}],
    "row 1 has no 'evidence'": [GOOD, {"claim": "a", "evidence": None, "relevant": True}],
    "column 'claim' is of type int64, not text": [{"claim": 1, "evidence": "x", "relevant": True}],
}


@pytest.mark.parametrize("message", BAD_TABLES)
def test_bad_tables_are_one_clear_line(tmp_path, message):
    path = write(tmp_path / "bad.parquet", BAD_TABLES[message])
    with pytest.raises(PairscoreError) as error:
        read_annotations([path])
    assert message in str(error.value)
    assert "bad.parquet" in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    empty = tmp_path / "empty.parquet"
    pq.write_table(pa.Table.from_pylist(rows()).slice(0, 0), empty)
    text = tmp_path / "text.parquet"
    text.write_text("claim,evidence,relevant\n")
    for path, message in ((empty, "has no rows"), (text, "is not a Parquet file"), (tmp_path / "gone", "no file at")):
        for read in (read_annotations, read_evidence):
            with pytest.raises(PairscoreError, match=message):
                read([path])
