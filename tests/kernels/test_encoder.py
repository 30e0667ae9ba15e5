"""The whole encoder: right, and the same bytes on every instruction set, in every batch, on any number of threads."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.installed import every_fast_isa, every_isa, kernels, plan, reference
from tests.kernels.plans import (
    ARCHITECTURES,
    MODERN,
    RELATIVE,
    random_batch,
    random_modern_plan,
    random_plan,
    random_relative_plan,
    random_tensors,
)
from tests.kernels.plans import described as encoder_parts

every_architecture = pytest.mark.parametrize("architecture", [*ARCHITECTURES, *MODERN, *RELATIVE])


@every_isa
@every_architecture
@pytest.mark.parametrize(("pairs", "length"), [(1, 1), (1, 40), (5, 17)])
def test_logits_equal_the_reference(isa: str, architecture: str, pairs: int, length: int):
    """An activation, a weight of attention or a value on the edge between two steps may fall to either: some steps of
    1/255 in all.
    """
    described, tensors = encoder_parts(architecture)
    batch = random_batch(described, pairs, length)
    logits = kernels.Encoder(described, tensors, isa).run(*batch)
    assert logits.dtype == np.float32
    assert logits.shape == (pairs, described["labels"])
    expected = reference.encode(plan.parse_plan(described), tensors, *batch)
    np.testing.assert_allclose(logits, expected, atol=0.06)
    assert np.ptp(expected) > 0 or expected.size == 1


@every_fast_isa
@every_architecture
@settings(max_examples=12, deadline=None)
@given(pairs=st.integers(1, 60), length=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_every_instruction_set_gives_the_bytes_of_the_portable_code(
    isa: str, architecture: str, pairs: int, length: int, seed: int
):
    described, tensors = encoder_parts(architecture)
    batch = random_batch(described, pairs, length, seed)
    logits = kernels.Encoder(described, tensors, isa).run(*batch)
    assert logits.tobytes() == kernels.Encoder(described, tensors, "portable").run(*batch).tobytes()


@every_isa
@every_architecture
def test_a_pair_scores_the_same_alone_and_in_any_batch(isa: str, architecture: str):
    described, tensors = encoder_parts(architecture)
    encoder = kernels.Encoder(described, tensors, isa)
    ids, type_ids = random_batch(described, 67, 31)
    together = encoder.run(ids, type_ids)
    alone = [encoder.run(ids[i : i + 1], type_ids[i : i + 1]) for i in range(len(ids))]
    assert np.concatenate(alone).tobytes() == together.tobytes()
    backwards = encoder.run(ids[::-1], type_ids[::-1])
    assert backwards[::-1].tobytes() == together.tobytes()


@every_isa
def test_many_threads_on_one_encoder_give_the_bytes_of_one(isa: str):
    described, tensors = encoder_parts("smooth")
    encoder = kernels.Encoder(described, tensors, isa)
    batches = [random_batch(described, 1 + i % 7, 1 + (5 * i) % 40, i) for i in range(48)]
    expected = [encoder.run(*batch).tobytes() for batch in batches]
    found: list[bytes | None] = [None] * len(batches)

    def work(first: int) -> None:
        for i in range(first, len(batches), 6):
            found[i] = encoder.run(*batches[i]).tobytes()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


@every_fast_isa
@pytest.mark.parametrize("family", [random_plan, random_modern_plan, random_relative_plan])
def test_pairs_of_512_tokens(isa: str, family: Callable[..., dict[str, Any]]):
    described = family(positions=512, hidden=128, heads=4, intermediate=512)
    if "embedding_size" in described:
        described["embedding_size"] = 128
    tensors = random_tensors(described)
    batch = random_batch(described, 3, 512)
    logits = kernels.Encoder(described, tensors, isa).run(*batch)
    assert logits.tobytes() == kernels.Encoder(described, tensors, "portable").run(*batch).tobytes()
    expected = reference.encode(plan.parse_plan(described), tensors, *batch)
    np.testing.assert_allclose(logits, expected, atol=0.06)


def test_windows_and_angles_count():
    """Each of them, changed alone, changes the logits."""
    described, tensors = encoder_parts("modernbert")
    batch = random_batch(described, 3, 40)
    whole = kernels.Encoder(described, tensors).run(*batch)
    for name, value in (("windows", [0, 16, 4]), ("windows", [0, 0, 6]), ("rotary", [0, 0, 1])):
        changed = kernels.Encoder(described | {name: value}, tensors).run(*batch)
        assert np.abs(changed - whole).max() > 1e-4, (name, value)


def test_distances_count():
    """The position of each distance, changed alone, changes the logits; not that of one that no two tokens have."""
    described, tensors = encoder_parts("deberta")
    batch = random_batch(described, 3, 20)
    whole = kernels.Encoder(described, tensors).run(*batch)
    for place, row in enumerate(tensors["relative.rows"]):
        rows = tensors["relative.rows"].copy()
        rows[place] = (row + 7) % described["relative_positions"]
        changed = kernels.Encoder(described, tensors | {"relative.rows": rows}).run(*batch)
        assert (np.abs(changed - whole).max() > 0) == (20 <= place <= 58), place


@every_isa
def test_no_pairs_have_no_logits(isa: str):
    described, tensors = encoder_parts("bert")
    assert kernels.Encoder(described, tensors, isa).run(*random_batch(described, 0, 5)).shape == (0, 1)


def test_the_best_instruction_set_runs_unless_another_is_asked_for():
    described, tensors = encoder_parts("bert")
    assert kernels.Encoder(described, tensors).isa == kernels.available()[0]
    assert kernels.Encoder(described, tensors, "portable").isa == "portable"
    assert kernels.available() == tuple(isa for isa in kernels.ISAS if isa in kernels.available())
