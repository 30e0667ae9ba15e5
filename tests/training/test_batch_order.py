"""A plan sees every row once an epoch, in batches that are worth their padding."""

import numpy as np
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from pairscore.training.batch_order import PlannedBatches, plan_epoch


@given(st.lists(st.integers(5, 200), min_size=1, max_size=300), st.integers(1, 9), st.booleans(), st.integers(0, 9))
def test_every_row_is_seen_once(lengths, batch_size, group_by_length, seed):
    rows = np.asarray(lengths, dtype=np.int64)
    plan = plan_epoch(rows, batch_size, np.random.default_rng(seed), group_by_length)
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))
    assert max(map(len, plan)) <= batch_size
    assert len(plan) == -(-len(lengths) // batch_size)
    again = plan_epoch(rows, batch_size, np.random.default_rng(seed), group_by_length)
    assert all((one == other).all() for one, other in zip(plan, again, strict=True))


def test_grouping_by_length_spares_padding_and_stays_random():
    lengths = np.random.default_rng(0).integers(10, 200, 4000)

    def padding(plan: list[np.ndarray]) -> int:
        return sum(int(lengths[rows].max()) * len(rows) - int(lengths[rows].sum()) for rows in plan)

    grouped = plan_epoch(lengths, 16, np.random.default_rng(1), True)
    assert padding(grouped) < 0.1 * padding(plan_epoch(lengths, 16, np.random.default_rng(1), False))
    means = [lengths[rows].mean() for rows in grouped]
    assert means != sorted(means)


def test_sampler_follows_the_plan():
    plan = [np.array([4, 1]), np.array([0, 2]), np.array([3])]
    sampler = PlannedBatches(Dataset.from_dict({"claim": list("abcde")}), plan, batch_size=2)
    assert len(sampler) == 3
    assert list(sampler) == list(sampler) == [[4, 1], [0, 2], [3]]
