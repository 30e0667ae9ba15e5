"""The SQL function of DuckDB: values, nulls, many vectors, several labels, errors."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore import PairscoreError, Scorer
from pairscore.integrations.duckdb import register
from tests.conftest import SmallBundle
from tests.pipelines import assert_same, by_the_command, example, rich_table


@pytest.fixture(scope="module")
def bundle(small_bundle: SmallBundle) -> Path:
    return small_bundle()


@pytest.fixture
def connection(bundle: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        register(connection, bundle, threads=2)
        yield connection


def table_of(connection: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    return pa.table(connection.sql(query))


def test_scores_are_the_command_s(connection: duckdb.DuckDBPyConnection, bundle: Path, tmp_path: Path) -> None:
    table, pairs = rich_table(2500), tmp_path / "pairs.parquet"  # more than one vector of 2,048 rows
    pq.write_table(table, pairs)
    scored = table_of(connection, f"SELECT *, score(claim, evidence) AS score FROM '{pairs}'")
    assert scored.schema.field("score").type == pa.float32()
    expected = by_the_command(bundle, pairs, tmp_path / "scored.parquet")
    assert_same(scored.select(["id", "score"]), expected.select(["id", "score"]))


def test_null_gives_null(connection: duckdb.DuckDBPyConnection) -> None:
    values = "(VALUES ('a', 'b'), (NULL, 'b'), ('a', NULL), (NULL, NULL)) t(claim, evidence)"
    rows = connection.sql(f"SELECT score(claim, evidence) FROM {values}").fetchall()
    assert [row[0] is None for row in rows] == [False, True, True, True]
    assert connection.sql("SELECT score(NULL, 'b')").fetchall() == [(None,)]
    assert connection.sql("SELECT score(x, 'b') FROM (SELECT 'a' AS x WHERE false)").fetchall() == []


def test_it_stands_anywhere_in_a_query(connection: duckdb.DuckDBPyConnection, bundle: Path) -> None:
    table = rich_table(60).drop_columns(["origin", "tags"])
    connection.register("pairs", table)
    scorer = Scorer.from_pretrained(bundle)
    scores = np.asarray(scorer.score_table(table, on_null="null")["score"].to_pylist(), dtype=float)
    middle = float(np.nanmedian(scores))
    ((count,),) = connection.sql(f"SELECT count(*) FROM pairs WHERE score(claim, evidence) > {middle!r}").fetchall()
    assert count == int((scores > middle).sum())
    best = connection.sql("SELECT id FROM pairs ORDER BY score(claim, evidence) DESC NULLS LAST LIMIT 1").fetchall()
    assert best == [(int(np.nanargmax(scores)),)]


def test_several_labels_are_a_struct(small_bundle: SmallBundle) -> None:
    bundle = small_bundle(3)
    scorer = Scorer.from_pretrained(bundle)
    with duckdb.connect() as connection:
        register(connection, bundle, name="entailment")
        values = "(VALUES ('The sea rises.', 'Ice melts.'), (NULL, 'x')) t(claim, evidence)"
        (first,), (second,) = connection.sql(f"SELECT entailment(claim, evidence) FROM {values}").fetchall()
    expected = scorer.predict(("The sea rises.", "Ice melts."))
    assert list(first) == list(scorer.labels)
    np.testing.assert_allclose(list(first.values()), expected, rtol=0, atol=1e-6)
    assert second is None


def test_errors_have_one_line(connection: duckdb.DuckDBPyConnection, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(PairscoreError, match=r"no bundle at .*nowhere"):
        register(connection, tmp_path / "nowhere", name="other")
    with pytest.raises(PairscoreError, match="has no int7 variant"):
        register(connection, bundle, name="other", precision="int7")
    with pytest.raises(PairscoreError, match=r"SQL function 'score' exists already: .*remove_function"):
        register(connection, bundle)
    with pytest.raises(duckdb.BinderException, match=r"score\(INTEGER(.|\n)*VARCHAR, .*VARCHAR"):
        connection.sql("SELECT score(1, 2)")
    connection.remove_function("score")
    register(connection, bundle)


def test_the_example(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = Path(__file__).parents[2] / "examples" / "claims.parquet"
    example("with_duckdb.py")(str(bundle), str(pairs), str(tmp_path / "duckdb.parquet"))
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert pq.read_table(tmp_path / "duckdb.parquet").equals(by_the_command(bundle, pairs, tmp_path / "out.parquet"))


def test_long_evidence_in_passages(bundle: Path) -> None:
    long = [("Sea level rises.", "Ice melts. " * 100), ("Sea level rises.", "Ice melts.")]
    expected = Scorer.from_pretrained(bundle).predict(long, long_evidence="split", overlap=8, combine="mean")
    with duckdb.connect() as connection:
        register(connection, bundle, name="whole", long_evidence="split", overlap=8, combine="mean")
        found = [connection.execute("SELECT whole(?, ?)", pair).fetchall()[0][0] for pair in long]
        assert found == expected.tolist()
        with pytest.raises(PairscoreError, match="cannot overlap by 64"):
            register(connection, bundle, name="other", long_evidence="split")
