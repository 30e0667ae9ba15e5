"""Ragged arrays against lists of lists."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pairscore.runtime.text.ragged import Ragged

rows = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=8), max_size=12)


def as_lists(ragged: Ragged) -> list[list[int]]:
    return [ragged[row].tolist() for row in range(len(ragged))]


@given(rows)
def test_round_trip(lists: list[list[int]]) -> None:
    ragged = Ragged.from_lists(lists)
    assert as_lists(ragged) == lists
    assert ragged.lengths.tolist() == [len(row) for row in lists]
    assert ragged.values.dtype == np.int32


@given(st.lists(rows, max_size=4))
def test_concatenation(parts: list[list[list[int]]]) -> None:
    joined = Ragged.concatenate(Ragged.from_lists(part) for part in parts)
    assert as_lists(joined) == [row for part in parts for row in part]


@given(rows, st.data())
def test_rows_can_be_taken_in_any_order(lists: list[list[int]], data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.sampled_from(range(len(lists))))) if lists else []
    taken = Ragged.from_lists(lists).take(np.array(wanted, dtype=np.int64))
    assert as_lists(taken) == [lists[row] for row in wanted]
