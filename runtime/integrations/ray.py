"""Scoring as a step of a Ray Data pipeline.

    scored = score(ray.data.read_parquet("s3://bucket/pairs"), "/mnt/bundle", num_cpus=4)
    scored.write_parquet("s3://bucket/scored")

Every actor opens the bundle once. Its path must exist on every node: on shared storage, in an image, or in the
`working_dir` of Ray's runtime environment. Ray restarts an actor that dies and repeats its batch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import pyarrow as pa

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.integrations.options import StepOptions, split
from pairscore.runtime.scorer import Scorer

if TYPE_CHECKING:
    from ray.data import Dataset

# Rows of a batch: enough pairs of each length to fill a CPU's batches, and no more than
# a dead actor can repeat in a minute or so.
BATCH_SIZE = 4096


def score(
    dataset: "Dataset",
    bundle: str | Path,
    *,
    actors: int | None = None,
    num_cpus: float = 1,
    num_gpus: float | None = None,
    batch_size: int = BATCH_SIZE,
    **options: Unpack[StepOptions],
) -> "Dataset":
    """`dataset` with its scores appended. Ray computes them when it needs them, and may change the order of blocks.

    actors: their number; by default as many as fit. Leave cores for reading. num_cpus, num_gpus: of one actor.
    batch_size: rows of a batch; Ray cuts or joins blocks to this size. options: as for `ScorePairs`.
    """
    from ray.data import ActorPoolStrategy

    return dataset.repartition(target_num_rows_per_block=batch_size).map_batches(
        ScorePairs,
        fn_constructor_args=[str(bundle)],
        fn_constructor_kwargs=dict(options),
        batch_format="pyarrow",
        batch_size=batch_size,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        compute=ActorPoolStrategy(size=actors) if actors else ActorPoolStrategy(min_size=1),
        udf_modifying_row_count=False,
    )


class ScorePairs:
    """A callable class for `Dataset.map_batches`: Arrow batches in, the same with scores appended out.

    options: those of `Scorer.from_pretrained` and of `Scorer.score_batches`. By default an actor
    computes on as many cores as its `num_cpus`, or on a GPU if it has `num_gpus`.
    """

    def __init__(self, bundle: str | Path, **options: Unpack[StepOptions]) -> None:
        import ray

        scorer, self._columns = split(options)
        resources: dict[str, float] = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
        scorer.setdefault("threads", max(1, int(resources.get("CPU", 1))))
        scorer.setdefault("device", "cuda" if resources.get("GPU") else "cpu")
        self._scorer = Scorer.from_pretrained(bundle, **scorer)

    def __call__(self, batch: Any) -> pa.Table:
        """Raises PairscoreError, which Ray carries to the driver, for a batch that cannot be scored."""
        if not isinstance(batch, pa.Table):
            kind = type(batch).__name__
            raise PairscoreError(f"Ray gave a batch as {kind}: pass batch_format='pyarrow' to map_batches")
        return self._scorer.score_table(batch, **self._columns)
