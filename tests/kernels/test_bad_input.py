"""Whatever is wrong with a plan, its tensors or a batch: a ValueError of one line that names it, never a crash."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.installed import kernels, operations
from tests.kernels.plans import random_batch, random_modern_plan, random_plan, random_relative_plan, random_tensors

PLAN = random_plan(embedding_size=32)
TENSORS = random_tensors(PLAN, smooth=True)
MODERN = random_modern_plan()
MODERN_TENSORS = random_tensors(MODERN)
RELATIVE = random_relative_plan()
RELATIVE_TENSORS = random_tensors(RELATIVE)
SIZES = ("hidden", "heads", "intermediate", "layers", "labels", "embedding_size", "vocabulary", "positions",
         "position_offset", "token_types", "group_size")  # fmt: skip


def refused(match: str, plan: Any = PLAN, tensors: Any = TENSORS, isa: str | None = None) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        kernels.Encoder(plan, tensors, isa)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", list(PLAN))
def test_a_plan_without_a_field(field: str):
    refused(f"plan field {field} is missing", {name: value for name, value in PLAN.items() if name != field})


@pytest.mark.parametrize("field", list(PLAN))
@pytest.mark.parametrize("value", [None, "no", [], {}, -1, float("nan"), True, 1e300, 1 << 70])
def test_a_field_that_is_no_such_thing(field: str, value: Any):
    refused(field, PLAN | {field: value})


@pytest.mark.parametrize("field", SIZES)
@settings(max_examples=20, deadline=None)
@given(value=st.integers(-(2**70), 2**70))
def test_a_size_that_its_tensors_do_not_have(field: str, value: int):
    """Also sizes that overflow, or whose tensors would not fit into memory."""
    if value == PLAN[field]:
        return
    if field == "position_offset" and value == 0:
        return
    if field == "heads" and value in {1, 2, 4}:
        return  # 64 columns make one, two or four heads
    if field == "group_size" and value == 0:
        return
    refused(r"plan field|tensor |groups", PLAN | {field: value})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": 1}, "plan format is 1, and these kernels read 2"),
        ({"architecture": "t5"}, "architecture is 't5', not one of bert, modernbert, deberta"),
        ({"pooling": "max"}, "pooling is 'max', not one of first, mean"),
        ({"head": [{**each, "norm_epsilon": 2} for each in PLAN["head"]]}, "norm_epsilon is 2, not a number from 0 to"),
        ({"head": [{**each, "norm_epsilon": 0.1} for each in PLAN["head"]]}, "head.0 has a norm over 24 columns"),
        ({"activation": "silu"}, "activation is 'silu', not one of gelu, gelu_tanh, relu"),
        ({"hidden": 72}, "hidden and heads are 72 and 2"),
        ({"heads": 8}, "hidden and heads are 64 and 8"),
        ({"intermediate": 100}, "intermediate is 100, which 16 does not divide"),
        ({"group_size": 48}, "group_size is 48"),
        ({"rotation": 3}, "rotation is 3, not 0 or one of 2, 4, 8, 16, 32, 64"),
        ({"rotation": True}, "rotation is True"),
        ({"rotation": 8}, "rotation is 8: blocks of 128 do not divide 64 columns"),
        ({"down_rotation": 4}, "down_rotation is 4: blocks of 64 do not divide 96 columns"),
        ({"head": []}, "head is"),
        ({"head": [{"name": "head.0"}]}, "plan field activation is missing"),
        ({"head": [{"name": "layers.0.query", "activation": "none"}]}, "named 'layers.0.query'"),
        ({"head": [{"name": "head.0", "activation": "none"}] * 2}, "one name"),
        ({"head": [{"name": "head.0", "activation": "swish"}]}, "activation is 'swish'"),
        ({"labels": 2}, "1 rows, and the plan has 2 labels"),
    ],
)
def test_a_plan_of_another_kind(changes: dict[str, Any], match: str):
    refused(match, PLAN | changes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"windows": [0, 16]}, r"windows is \[0, 16\], not a list of 3 numbers, one a layer"),
        ({"windows": [0, 16, -1]}, "windows is -1, not a whole number from 0"),
        ({"windows": [0, 16, True]}, "windows is True, not a whole number"),
        ({"windows": 16}, "windows is 16, not a list"),
        ({"rotary": [0, 1, 3]}, "rotary is 3, not a whole number from 0 to 2"),
        ({"rotary": [0, 1, 2]}, "tensor rotary.2.cosines is missing"),
        ({"heads": 4}, "columns of a head must be a multiple of 32"),
        ({"layers": 1 << 23}, "windows is .* not a list of 8388608 numbers"),
        ({"positions": 41}, r"tensor rotary.0.cosines has shape \(40, 16\), not \(41, 16\)"),
    ],
)
def test_a_modernbert_of_another_kind(changes: dict[str, Any], match: str):
    refused(match, MODERN | changes, MODERN_TENSORS)


@pytest.mark.parametrize("name", list(MODERN_TENSORS))
def test_a_modernbert_without_a_tensor(name: str):
    tensors = {other: MODERN_TENSORS[other] for other in MODERN_TENSORS if other != name}
    refused(f"tensor {name} is missing", MODERN, tensors)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"relative_positions": 0}, "relative_positions is 0, not a whole number from 1"),
        ({"relative_positions": None}, "relative_positions is None"),
        ({"relative_positions": 23}, r"weight has shape \(24, 64\), not \(23, 64\)"),
        ({"positions": 41}, r"tensor relative.rows has shape \(79,\), not \(81\)"),
        ({"heads": 4}, r"tensor layers.0.position_key.scale has shape \(24, 2\), not \(24, 4\)"),
    ],
)
def test_a_deberta_of_another_kind(changes: dict[str, Any], match: str):
    refused(match, RELATIVE | changes, RELATIVE_TENSORS)


@pytest.mark.parametrize("row", [-1, 24, -(2**31), 2**31 - 1])
def test_a_distance_that_has_no_position(row: int):
    rows = RELATIVE_TENSORS["relative.rows"].copy()
    rows[-1] = row
    refused(f"relative.rows holds {row}, outside of 0 to 23", RELATIVE, RELATIVE_TENSORS | {"relative.rows": rows})


@pytest.mark.parametrize("name", list(RELATIVE_TENSORS))
def test_a_deberta_without_a_tensor(name: str):
    tensors = {other: RELATIVE_TENSORS[other] for other in RELATIVE_TENSORS if other != name}
    refused(f"tensor {name} is missing", RELATIVE, tensors)
    wide = RELATIVE_TENSORS[name].astype(np.float64)
    refused(f"tensor {name} has elements of float64", RELATIVE, RELATIVE_TENSORS | {name: wide})


def test_a_plan_that_is_no_object():
    refused("the plan is a list", [])
    refused("tensors are a list", tensors=[])


@pytest.mark.parametrize("name", [name for name in TENSORS if not name.endswith("smooth")])
def test_a_tensor_that_is_missing(name: str):
    refused(f"tensor {name} is missing", tensors={other: TENSORS[other] for other in TENSORS if other != name})


@pytest.mark.parametrize("name", list(TENSORS))
def test_a_damaged_tensor(name: str):
    array = TENSORS[name]

    def damaged(value: Any, match: str) -> None:
        refused(f"tensor {name} {match}", tensors=TENSORS | {name: value})

    damaged(array.tolist(), "is a list, not a numpy array")
    damaged(array.astype(np.float64), "has elements of float64")
    damaged(array.astype(">f4"), "has elements of >f4")
    damaged(array[:-1] if array.ndim == 1 else array[:, :-1], "has shape")
    damaged(array[None], "has shape")
    damaged(array[:0], "has shape")
    if array.dtype == np.int8:
        damaged(np.full_like(array, -128), "holds -128")
    else:
        for value in (np.nan, np.inf, -np.inf):
            spoilt = array.copy()
            spoilt.flat[-1] = value
            damaged(spoilt, "holds a value that is not finite")


def test_a_tensor_that_no_plan_asks_for():
    refused("tensor layers.9.query.weight is none of the plan's", tensors=TENSORS | {"layers.9.query.weight": 1})


def test_tensors_are_copied_and_need_not_lie_in_one_piece():
    tensors = {name: array.copy(order="F") for name, array in TENSORS.items()}
    encoder, batch = kernels.Encoder(PLAN, tensors), random_batch(PLAN, 3, 9)
    expected = encoder.run(*batch)
    for array in tensors.values():
        array[...] = 0
    assert encoder.run(*batch).tobytes() == expected.tobytes()
    assert kernels.Encoder(PLAN, TENSORS).run(*batch).tobytes() == expected.tobytes()


@pytest.mark.parametrize("isa", ["", "avx3", "AVX2", 7])
def test_an_instruction_set_that_does_not_run(isa: Any):
    refused("does not run here: this build on this processor has .*portable", isa=isa)


def ids(*shape: int, dtype: Any = np.int32, value: int = 0) -> Any:
    return np.full(shape, value, dtype)


@pytest.mark.parametrize(
    ("input_ids", "type_ids", "match"),
    [
        (ids(2, 3, dtype=np.int64), ids(2, 3), "input_ids is int64"),
        (ids(2, 3), ids(2, 3, dtype=np.uint32), "token_type_ids is uint32"),
        (ids(3), ids(3), "input_ids is int32"),
        ([[1]], ids(1, 1), "input_ids is a list"),
        (ids(2, 3), ids(2, 4), "token_type_ids has shape"),
        (ids(2, 0), ids(2, 0), "0 tokens"),
        (ids(1, 41), ids(1, 41), "41 tokens; this encoder takes 1 to 40"),
        (ids(2, 3, value=50), ids(2, 3), "input_ids holds 50, outside of 0 to 49"),
        (ids(2, 3, value=-1), ids(2, 3), "input_ids holds -1"),
        (ids(2, 3, value=2**31 - 1), ids(2, 3), "input_ids holds 2147483647"),
        (ids(2, 3), ids(2, 3, value=2), "token_type_ids holds 2, outside of 0 to 1"),
        (ids(2, 3), ids(2, 3, value=-(2**31)), "token_type_ids holds -2147483648"),
    ],
)
def test_a_batch_that_cannot_be_run(input_ids: Any, type_ids: Any, match: str):
    with pytest.raises(ValueError, match=match):
        kernels.Encoder(PLAN, TENSORS).run(input_ids, type_ids)


def test_operations_refuse_arrays_of_another_shape():
    x, weight, one = np.ones((3, 32), np.float32), np.ones((16, 32), np.int8), np.ones(16, np.float32)
    with pytest.raises(ValueError, match="weight must be int8"):
        operations.linear(x, weight[:, :16], one, one)
    with pytest.raises(ValueError, match="scale must be float32"):
        operations.linear(x, weight, one[:3], one)
    with pytest.raises(ValueError, match=r"out must be contiguous float32 \(3, 16\)"):
        operations.linear(x, weight, one, one, out=np.empty((16, 3), np.float32).T)
    with pytest.raises(ValueError, match="group_size is 24"):
        operations.quantize_rows(x, group_size=24)
    with pytest.raises(ValueError, match="columns is 31"):
        operations.quantize_rows(x[:, :31])
    with pytest.raises(ValueError, match="activation is sine"):
        operations.activate("sine", one)
    with pytest.raises(ValueError, match="columns of cosines is 8, not"):
        operations.rotate(x, x[:, :8], x[:, :8])
    with pytest.raises(ValueError, match="x has 32 columns, which are no whole heads of 64"):
        operations.rotate(x, x, x)
    with pytest.raises(ValueError, match="x has no rows"):
        operations.mean(x[:0])
    with pytest.raises(ValueError, match="values must be float32"):
        operations.attention(x, x, x[:2])
    positions = operations.RelativePositions(weight, one, weight, one, one, np.zeros(5, np.int32))
    for change, match in (
        ({"keys": weight[:, :16]}, r"positions.keys must be int8 \(positions, 32\)"),
        ({"queries": weight[:3]}, "positions.queries has 3 rows, and positions.keys 16"),
        ({"query_scales": one[:3]}, r"positions.query_scales must be float32 \(16,\)"),
        ({"rows": positions.rows[:4]}, r"positions.rows must be int32 \(5,\)"),
        ({"rows": np.full(5, 16, np.int32)}, "positions.rows holds a value outside of 0 to 15"),
    ):
        with pytest.raises(ValueError, match=match):
            operations.attention(x, x, x, positions=replace(positions, **change))
    with pytest.raises(ValueError, match="window is 2, and relative positions have none"):
        operations.attention(x, x, x, positions=positions, window=2)
    with pytest.raises(ValueError, match="ids holds a value outside"):
        operations.embed(np.full(2, 3, np.int32), np.zeros(2, np.int32), x, None, x)
