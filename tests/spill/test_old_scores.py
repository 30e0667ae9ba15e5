"""Old scores by text: what a dictionary would find, whatever collides."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.spill.old_scores import OldScores, pair_keys

# Few texts, so that pairs repeat; texts that run together, swap or differ in a zero byte must stay apart.
TEXTS = st.sampled_from(["", "a", "b", "ab", "a\x00", "\x00a", "é", "e\u0301", "long " * 50])
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), max_size=60)


def arrays(pairs):
    return tuple(pa.array([pair[side] for pair in pairs], pa.string()) for side in (0, 1))


@given(old=st.lists(PAIRS, max_size=4), new=PAIRS, bits=st.sampled_from([1, 2, 8, 64]))
@settings(max_examples=40)
def test_it_finds_what_a_dictionary_finds(old, new, bits):
    """The first score of a pair counts. With few bits nearly every hash collides."""
    known: dict[tuple[str, str], list[float]] = {}
    scores = OldScores(2, hash_bits=bits, numbers=1)
    count = 0
    for pairs in old:
        values = np.arange(count, count + 2 * len(pairs), dtype=np.float32).reshape(-1, 2)
        count += 2 * len(pairs)
        scores.add(*arrays(pairs), values, values[:, 1:].astype(np.int32) + 2**24)
        for pair, value in zip(pairs, values.tolist(), strict=True):
            known.setdefault(pair, value)
    scores.seal()
    found, values, numbers = scores.lookup(*arrays(new))
    assert found.tolist() == [pair in known for pair in new]
    assert values.tolist() == [known.get(pair, [0.0, 0.0]) for pair in new]
    assert numbers.tolist() == [[int(known[pair][1]) + 2**24] if pair in known else [0] for pair in new]
    scores.close()


def test_scores_come_back_bit_for_bit():
    bits = np.array([0x80000000, 0x00000001, 0x7F7FFFFF, 0x3F800001], dtype=np.uint32)
    claims, evidence = pa.array(["a", "b", "c", "d"]), pa.array(["e"] * 4)
    scores = OldScores(1)
    scores.add(claims, evidence, bits.view(np.float32).reshape(-1, 1))
    scores.seal()
    _, found, numbers = scores.lookup(claims, evidence)
    assert numbers.shape == (4, 0)
    assert found.view(np.uint32).ravel().tolist() == bits.tolist()


def test_keys_are_the_texts_own_whatever_stands_beside_them():
    claims, evidence = pa.array(["x", "y", "x", "x"]), pa.array(["p", "p", "q", "p"])
    keys = pair_keys(claims, evidence)
    assert len({key.tobytes() for key in keys}) == 3
    assert (pair_keys(claims[2:], evidence[2:]) == keys[2:]).all()


def test_a_folder_that_takes_no_file_is_named(tmp_path):
    with pytest.raises(PairscoreError, match=r"temporary files to '.*nowhere'.*TMPDIR"):
        OldScores(1, folder=tmp_path / "nowhere")
