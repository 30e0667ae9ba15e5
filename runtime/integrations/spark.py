"""Scoring as a step of a Spark job.

    scored = score(spark.read.parquet("pairs"), "bundle")
    scored.write.parquet("scored")

Columns, partitions and the order of their rows are kept. Each Python worker opens the bundle once and keeps it for
its later tasks; a task computes on as many cores as `spark.task.cpus` gives it. Executors need pairscore installed.
"""

import atexit
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, cast

import pyarrow as pa

from pairscore.runtime.arguments import argument_types, python_names
from pairscore.runtime.bundle.hub import find_bundle
from pairscore.runtime.bundle.manifest import MANIFEST_NAME, Bundle
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.integrations.options import ScorerOptions, StepOptions, split
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.stream.columns import ColumnOptions, NewColumnOptions, check_text_column
from pairscore.runtime.stream.score_columns import score_columns

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import DataFrame


def score(frame: "DataFrame", bundle: str | Path, *, ship: bool = True, **options: Unpack[StepOptions]) -> "DataFrame":
    """`frame` with its scores appended. Like everything in Spark, they are computed when an action needs them.

    bundle: a folder on the driver. ship: send it to the executors as a Spark archive. With `ship=False` the executors
    open the same path themselves, on shared storage or in an image. options: those of `Scorer.from_pretrained` and of
    `Scorer.score_batches`. Raises PairscoreError for a bundle or a column that does not fit, before any task starts.
    """
    from pyspark.sql.pandas.types import from_arrow_type
    from pyspark.sql.types import StructField, StructType

    scorer, columns = split(options)
    precision = scorer.get("precision", "fp32")
    bundle = find_bundle(bundle, scorer.pop("revision", None), (precision,))
    opened = Bundle.open(bundle)
    opened.variant(precision)
    with python_names(argument_types(Scorer.score_batches)):
        fields = _new_fields(frame, opened, columns)
    new = [StructField(field.name, from_arrow_type(field.type)) for field in fields]
    schema = StructType([*frame.schema.fields, *new])
    place = _shipped(frame.sparkSession.sparkContext, opened, precision) if ship else str(Path(bundle).absolute())
    return frame.mapInArrow(partial(_score_partition, place, ship, scorer, columns), schema)


def _new_fields(frame: "DataFrame", bundle: Bundle, columns: ColumnOptions) -> list[pa.Field]:
    """The new columns. Raises PairscoreError, in Spark's names of types, for a frame that does not fit."""
    from pyspark.sql.types import BinaryType, NullType, StringType

    schema = pa.schema([(name, pa.string()) for name in frame.columns])
    texts = {"claim": columns.get("claim_column", "claim"), "evidence": columns.get("evidence_column", "evidence")}
    for side, name in texts.items():
        check_text_column(schema, name, f"--{side}-column")
        kind = frame.schema[name].dataType
        if not isinstance(kind, StringType | BinaryType | NullType):
            raise PairscoreError(f"column {name!r} is of type {kind.simpleString()}, not text: cast it to string")
    asked = {name: value for name, value in columns.items() if name in NewColumnOptions.__annotations__}
    new = score_columns(bundle.manifest.labels, **cast(NewColumnOptions, asked))
    new.check(schema)
    if frame.sparkSession.conf.get("spark.sql.caseSensitive") != "true":  # then `Score` and `score` are one name
        new.check(pa.schema([(name.lower(), pa.string()) for name in frame.columns]), str.lower)
    return new.fields


def _shipped(context: "SparkContext", bundle: Bundle, precision: str) -> str:
    """Add the variant's files as an archive, once for a context, and return the archive's name on the executors."""
    name = f"pairscore-{bundle.digest(precision)[:32]}"
    if not any(url.endswith(f"#{name}") for url in context.listArchives):
        folder = tempfile.mkdtemp(prefix="pairscore-")  # Spark serves the archive from here
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        archive = Path(folder) / f"{name}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.write(bundle.folder / MANIFEST_NAME, MANIFEST_NAME)
            for each in bundle.files_of(precision):
                file.write(bundle.path(each), each)
        context.addArchive(f"{archive}#{name}")
    return name


def _score_partition(
    place: str, shipped: bool, options: ScorerOptions, columns: ColumnOptions, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """What a Python worker runs: one partition, in windows that span Spark's small batches."""
    from pyspark import SparkFiles, TaskContext

    first = next(batches, None)
    if first is None:
        return
    task = TaskContext.get()
    gpu = task.resources().get("gpu") if task else None
    if gpu:
        options.setdefault("device", f"cuda:{gpu.addresses[0]}")
    options.setdefault("threads", task.cpus() if task else None)
    scorer = open_once(SparkFiles.get(place) if shipped else place, tuple(options.items()))
    reader = pa.RecordBatchReader.from_batches(first.schema, chain([first], batches))
    try:
        with scorer.score_batches(reader, **columns) as scored:
            yield from scored
    except PairscoreError as error:
        raise PairscoreError(f"partition {task.partitionId() if task else '?'}: {error}") from error


@lru_cache(maxsize=2)
def open_once(bundle: str, options: tuple[tuple[str, object], ...]) -> Scorer:
    """The scorer of this Python worker, which keeps it from task to task."""
    return Scorer.from_pretrained(bundle, **dict(options))  # type: ignore[arg-type]
