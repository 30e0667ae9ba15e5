"""Every public call as a user writes it. Never run: the type checkers read it, so typing breaks are seen here first."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from duckdb import DuckDBPyConnection
from pyspark.sql import DataFrame
from ray.data import Dataset

from pairscore import (
    PairscoreError,
    ParityError,
    Progress,
    Scorer,
    Summary,
    __version__,
    calibrate,
    describe,
    export_bundle,
    score_files,
    survey,
    tune,
    verify,
)
from pairscore.integrations import duckdb as duckdb_function
from pairscore.integrations import ray as ray_data
from pairscore.integrations import spark


def calls(table: pa.Table, stream: object) -> None:
    """The calls of README.md, with the types that a user may rely on."""
    scorer: Scorer = Scorer.from_pretrained("bundle")
    scorer = Scorer.from_pretrained("bundle", precision="fp32", engine="auto", device="cpu", max_length=256, threads=2)
    many: np.ndarray = scorer.predict([("claim", "evidence")])
    logits: np.ndarray = scorer.predict([["claim", "evidence"]], activation="identity", apply_softmax=False)
    many = scorer.predict(sentences=[("claim", "evidence")], show_progress_bar=False)
    many = scorer.predict([("claim", "evidence")], 32)
    single: np.float32 = scorer.predict(("claim", "evidence"))
    hits: list[dict[str, object]] = scorer.rank("claim", ["evidence"], top_k=1, return_documents=True)
    hits = scorer.rank("claim", ["evidence"], 5)
    scored: pa.Table = scorer.score_table(
        table, claim_column="c", evidence_column="e", score_column="s", on_null="null", on_invalid_utf8="null"
    )
    scored = scorer.score_table(
        table, prediction_column="p", truncated_column="t", long_evidence="split", overlap=32, combine="mean"
    )
    whole: np.ndarray = scorer.predict([("claim", "evidence")], long_evidence="split", rank_by="SUPPORTS")
    hits = scorer.rank("claim", ["evidence"], rank_by="SUPPORTS", activation="softmax", long_evidence="split")
    with scorer.score_batches(stream) as reader:
        batches: list[pa.RecordBatch] = list(reader)
    table = pa.table(scorer.score_batches(stream))
    version: str = __version__
    error: ValueError = PairscoreError("one line")
    labels: tuple[str, ...] = scorer.labels
    length: int = scorer.max_length
    del whole, many, logits, single, hits, scored, batches, table, version, error, labels, length


def pipelines(frame: DataFrame, dataset: Dataset, connection: DuckDBPyConnection) -> None:
    """Scoring as a step of Spark, Ray Data and DuckDB."""
    frame = spark.score(
        frame, "bundle", claim_column="c", on_null="null", on_invalid_utf8="null", precision="fp32", ship=False
    )
    dataset = ray_data.score(dataset, Path("bundle"), actors=2, num_cpus=4, num_gpus=1, batch_size=4096, device="cuda")
    dataset = dataset.map_batches(ray_data.ScorePairs, fn_constructor_args=["bundle"], batch_format="pyarrow")
    duckdb_function.register(connection, "bundle", name="score", threads=2)


def jobs() -> None:
    """A whole job from Python."""

    def show(progress: Progress) -> None:
        del progress

    summary: Summary = score_files("bundle", "pairs/", "scored", top_k=5, by="claim", reuse="old", progress=show)
    summary = score_files(
        "bundle", ["a.parquet", Path("b.parquet")], Path("c.parquet"), precision="auto", promise="bf16"
    )
    whole: bool = summary.whole
    reused: int = summary.reused + summary.pairs + summary.nulls + summary.rows
    rate: float = summary.pairs_per_second
    told: dict[str, object] = summary.as_dict()
    del whole, reused, rate, told


def bundles() -> None:
    """What the other commands do."""
    try:
        variants = export_bundle("checkpoint", Path("bundle"), precision="int8", calibration="pairs.parquet").variants
    except ParityError as error:
        raise SystemExit(str(error)) from error
    broken: tuple[str, ...] = verify("bundle", "checkpoint", [("claim", "evidence")]).broken
    choice = tune("bundle", seconds=10).choice
    gain: float = choice.gain if choice else 1.0
    told: dict[str, object] = describe("bundle")
    rows: int = survey(Path("scored"), text="sea", claims=3).rows
    slope: float = calibrate("bundle", "labelled.parquet", precision="int8", want_precision=[0.9]).scaling.slope
    slope = calibrate("bundle", [("claim", "evidence")], [True]).scaling.slope
    del variants, broken, gain, told, rows, slope
