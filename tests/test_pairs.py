"""Batches: every pair in exactly one, one length each, longest first, within the token budget."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscore import PairscoreError
from pairscore.runtime.pairs import Batch, plan_batches


@given(st.lists(st.integers(2, 40), max_size=200), st.integers(1, 400))
def test_plan_is_a_partition_by_length_within_the_budget(lengths: list[int], budget: int) -> None:
    array = np.array(lengths, dtype=np.int64)
    batches = plan_batches(array, budget)
    assert sorted(int(row) for rows in batches for row in rows) == list(range(len(lengths)))
    widths = []
    for rows in batches:
        (width,) = set(array[rows].tolist())
        assert len(rows) * width <= budget or len(rows) == 1
        widths.append(width)
    assert widths == sorted(widths, reverse=True)


@given(st.lists(st.integers(2, 40), max_size=200), st.integers(1, 400))
def test_plan_wastes_no_batch(lengths: list[int], budget: int) -> None:
    """As few batches as the budget allows for each length, counted the slow way."""
    expected = 0
    for length in set(lengths):
        per_batch = max(1, budget // length)
        expected += -(-lengths.count(length) // per_batch)
    assert len(plan_batches(np.array(lengths, dtype=np.int64), budget)) == expected


def test_unknown_model_input_is_refused() -> None:
    ids = np.ones((1, 2), dtype=np.int64)
    with pytest.raises(PairscoreError, match="'bbox'"):
        Batch(np.array([0]), ids, ids).input("bbox")
