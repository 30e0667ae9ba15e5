"""Pairs read from Parquet for a comparison."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore import PairscoreError
from pairscore.runtime.pairs_file import read_pairs


@pytest.fixture
def file(tmp_path):
    table = pa.table(
        {
            "evidence": ["e0", "", "e2", "e3 🌍"],
            "claim": pa.array(["c0", "c0", "c2", "c2"]).dictionary_encode(),
            "year": [1, 2, 3, 4],
            "gap": ["x", None, "y", None],
        }
    )
    pq.write_table(table, tmp_path / "pairs.parquet", row_group_size=2)
    return tmp_path / "pairs.parquet"


@pytest.mark.parametrize("limit", [None, 1, 2, 3, 4, 100])
def test_the_first_rows_in_order(file, limit):
    every = [("c0", "e0"), ("c0", ""), ("c2", "e2"), ("c2", "e3 🌍")]
    assert read_pairs(file, "claim", "evidence", limit) == every[:limit]


def test_one_column_may_serve_as_both(file):
    assert read_pairs(file, "claim", "claim", 1) == [("c0", "c0")]


def test_what_is_refused(file, tmp_path):
    with pytest.raises(PairscoreError, match=r"no column 'text': the input has .*--claim-column"):
        read_pairs(file, "text", "evidence")
    with pytest.raises(PairscoreError, match=r"column 'year' is of type int64.*--evidence-column"):
        read_pairs(file, "claim", "year")
    with pytest.raises(PairscoreError, match=r"row 1 of .* has a null"):
        read_pairs(file, "claim", "gap")
    with pytest.raises(PairscoreError, match=r"no file .*missing\.parquet"):
        read_pairs(tmp_path / "missing.parquet", "claim", "evidence")
    (tmp_path / "text.csv").write_text("claim,evidence\n")
    with pytest.raises(PairscoreError, match="cannot be read as Parquet"):
        read_pairs(tmp_path / "text.csv", "claim", "evidence")
    pq.write_table(pa.table({"claim": pa.array([], pa.string()), "evidence": pa.array([], pa.string())}), file)
    with pytest.raises(PairscoreError, match="holds no rows"):
        read_pairs(file, "claim", "evidence")
