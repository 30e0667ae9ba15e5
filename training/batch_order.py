"""The order in which a run sees its samples, planned in full before the first step.

The plan depends on the seed alone, so a resumed run continues where the interrupted one was.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from sentence_transformers.base.sampler import DefaultBatchSampler

# Batches of like length are cut from this many shuffled batches at a time: little padding, still random.
SHUFFLED_BATCHES = 64


def plan_epoch(
    lengths: npt.NDArray[np.int64], batch_size: int, generator: np.random.Generator, group_by_length: bool
) -> list[npt.NDArray[np.int64]]:
    """The batches of one epoch: every row once, in random order.

    lengths: Shape (rows,), tokens of each row. With `group_by_length` a batch holds rows of like length.
    """
    order = generator.permutation(len(lengths))
    if group_by_length:
        span = batch_size * SHUFFLED_BATCHES
        spans = [order[start : start + span] for start in range(0, len(order), span)]
        order = np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in spans])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if group_by_length:
        batches = [batches[place] for place in generator.permutation(len(batches))]
    return batches


class PlannedBatches(DefaultBatchSampler):
    """A batch sampler that follows a plan, whatever the trainer's own samplers would draw."""

    def __init__(self, dataset: Dataset, plan: Sequence[npt.NDArray[np.int64]], batch_size: int) -> None:
        super().__init__(dataset, batch_size=batch_size, drop_last=False)
        self._plan = plan

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in self._plan)

    def __len__(self) -> int:
        return len(self._plan)
