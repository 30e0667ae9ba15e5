"""Spark on two local workers: schema, rows, partitions, nulls, killed workers, errors."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark import TaskContext
from pyspark.errors import PythonException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import FloatType, StructField, StructType

from pairscore import PairscoreError, Scorer
from pairscore.integrations.spark import score
from tests.code_blocks import code_blocks
from tests.conftest import SmallBundle
from tests.pairs_files import pairs_table
from tests.pipelines import ROOT, assert_same, by_the_command, example, rich_table

PARTITIONS = 4


def words(process: psutil.Process | None) -> list[str]:
    """A process's command line; of one that has just ended, an empty word."""
    try:
        return (process.cmdline() if process else []) or [""]
    except psutil.Error:
        return [""]


@pytest.fixture(scope="module")
def bundle(small_bundle: SmallBundle) -> Path:
    return small_bundle()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    pq.write_table(rich_table(), path)
    return path


@pytest.fixture(scope="module")
def frame(session: SparkSession, pairs: Path) -> DataFrame:
    return session.read.parquet(str(pairs)).repartition(PARTITIONS).cache()


@pytest.fixture(scope="module")
def expected(bundle: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return by_the_command(bundle, pairs, tmp_path_factory.mktemp("out") / "scored.parquet")


def test_scores_are_the_command_s(frame: DataFrame, bundle: Path, expected: pa.Table) -> None:
    scored = score(frame, bundle, on_null="null")
    assert scored.schema == StructType([*frame.schema.fields, StructField("score", FloatType())])
    assert scored.rdd.getNumPartitions() == PARTITIONS
    assert_same(scored.toArrow(), expected)


def test_partitions_and_their_order_stay(frame: DataFrame, bundle: Path) -> None:
    def ids(given: DataFrame) -> list[list[int]]:
        return given.select("id").rdd.map(lambda row: row.id).glom().collect()

    assert ids(score(frame, bundle, on_null="null")) == ids(frame)


def test_the_schema_keeps_what_may_not_be_null(session: SparkSession, bundle: Path) -> None:
    rows = [("a", "b", 1), ("c", "d", 2)]
    frame = session.createDataFrame(rows, "claim string not null, evidence string not null, id int not null")
    scored = score(frame, bundle)
    assert scored.schema.fields[:3] == frame.schema.fields
    assert [row.id for row in scored.collect()] == [1, 2]
    assert score(frame.limit(0), bundle).collect() == []


def test_the_bundle_is_opened_once_a_worker_from_what_spark_shipped(
    session: SparkSession, frame: DataFrame, small_bundle: SmallBundle, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(small_bundle(seed=7), bundle)
    before = len(session.sparkContext.listArchives)
    scored = score(frame.repartition(10), bundle, on_null="null")  # five tasks a worker
    score(frame, bundle, on_null="null", precision="fp32")
    assert len(session.sparkContext.listArchives) == before + 1  # shipped once
    shutil.rmtree(bundle)
    assert scored.count() == frame.count()

    def opened(_: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from pairscore.runtime.integrations.spark import open_once

        yield pa.record_batch({"pid": [os.getpid()], "misses": [open_once.cache_info().misses]})

    counts = frame.mapInArrow(opened, "pid long, misses long").distinct().collect()
    assert all(row.misses <= 2 for row in counts)  # this bundle and the other tests', however many tasks


def test_killed_workers_change_nothing(
    session: SparkSession, frame: DataFrame, bundle: Path, expected: pa.Table, tmp_path: Path
) -> None:
    waiting, killed = tmp_path / "waiting", tmp_path / "killed"

    def hold(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Pass on one batch of the last partition, then none until the workers were killed."""
        context = TaskContext.get()
        assert context is not None
        for place, batch in enumerate(batches):
            if context.partitionId() == PARTITIONS - 1:
                (tmp_path / f"attempt-{context.attemptNumber()}").touch()
                deadline = time.monotonic() + 60
                while place == 1 and not killed.exists() and time.monotonic() < deadline:
                    waiting.touch()
                    time.sleep(0.05)
            yield batch

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not waiting.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        daemons = [each for each in psutil.Process().children(recursive=True) if "pyspark.daemon" in words(each)]
        workers = [each for each in daemons if "pyspark.daemon" in words(each.parent())]
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
        killed.write_text(str(len(workers)))

    killer = threading.Thread(target=kill)
    killer.start()
    table = score(frame.mapInArrow(hold, frame.schema), bundle, on_null="null").toArrow()
    killer.join()
    assert int(killed.read_text()) >= 2  # the one that passed rows on and the one that scored
    assert (tmp_path / "attempt-1").exists()
    assert_same(table, expected)


def test_errors_before_any_task(session: SparkSession, frame: DataFrame, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(PairscoreError, match=r"no bundle at .*nowhere"):
        score(frame, tmp_path / "nowhere")
    with pytest.raises(PairscoreError, match="no column 'title': the input has 'id', 'claim'"):
        score(frame, bundle, claim_column="title")
    with pytest.raises(PairscoreError, match="column 'id' is of type bigint, not text: cast it to string"):
        score(frame, bundle, evidence_column="id")
    with pytest.raises(PairscoreError, match="already has a column 'score'"):
        score(frame.withColumnRenamed("bytes", "SCORE"), bundle)
    with pytest.raises(PairscoreError, match="already has a column 'claim'"):
        score(frame, bundle, score_column="claim")
    with pytest.raises(PairscoreError, match="has no int7 variant"):
        score(frame, bundle, precision="int7")


def test_spark_s_error_carries_our_line(frame: DataFrame, bundle: Path) -> None:
    with pytest.raises(PythonException, match=r"partition \d: row \d+ has a null in column 'evidence': fill it, or"):
        score(frame, bundle).collect()


def test_text_that_is_not_utf8(session: SparkSession, bundle: Path) -> None:
    frame = session.sql("SELECT 'a claim' AS claim, CAST(X'66FF' AS STRING) AS evidence")
    with pytest.raises(PythonException, match="row 0 has bytes in column 'evidence' that are not UTF-8"):
        score(frame, bundle).collect()
    assert score(frame, bundle, on_invalid_utf8="null").toArrow()["score"].to_pylist() == [None]


def test_the_code_of_the_guide_runs(session: SparkSession, bundle: Path, tmp_path: Path) -> None:
    """With folders of this machine in place of a store's."""
    (tmp_path / "pairs").mkdir()
    pq.write_table(pairs_table(40), tmp_path / "pairs" / "0.parquet")
    ((_, code),) = code_blocks("docs/pipelines.md", "integrations.spark")
    for named, here in (
        ("s3://bucket", str(tmp_path)),
        ('"/mnt/bundle"', repr(str(bundle))),
        ('"bundle"', repr(str(bundle))),
    ):
        code = code.replace(named, here)
    exec(code.replace("num_cpus=4", "num_cpus=1"), {})
    assert pq.read_table(tmp_path / "scored").num_rows == 40


def test_the_example(session: SparkSession, bundle: Path, tmp_path: Path) -> None:
    claims = ROOT / "examples" / "claims.parquet"
    example("with_spark.py")(str(bundle), str(claims), str(tmp_path / "out"))
    table = pq.read_table(tmp_path / "out")
    wanted = by_the_command(bundle, claims, tmp_path / "scored.parquet")
    numbered = [each.append_column("id", pa.array(range(len(each)))) for each in (table, wanted)]
    assert_same(*numbered)


def test_every_new_column(session: SparkSession, small_bundle: SmallBundle) -> None:
    """Long evidence in passages, the prediction and what was cut, as `Scorer.score_table` gives them."""
    bundle = small_bundle(3)
    table = pa.table({"claim": ["Sea level rises."] * 3, "evidence": ["Ice melts. " * 100, "Ice.", "Warm seas. " * 60]})
    options = {"long_evidence": "split", "overlap": 8, "rank_by": "LABEL_1", "passage_columns": True}
    options |= {"prediction_column": "label", "truncated_column": "cut", "activation": "softmax"}
    frame = score(session.createDataFrame(table), bundle, **options)
    opened = Scorer.from_pretrained(bundle, activation=options.pop("activation"))
    expected = opened.score_table(table, **options).to_pylist()
    found = [row.asDict() for row in frame.collect()]
    assert sorted(found, key=str) == sorted(expected, key=str)
    with pytest.raises(PairscoreError, match="already has a column 'claim': use truncated_column NAME"):
        score(session.createDataFrame(table), bundle, truncated_column="CLAIM")
