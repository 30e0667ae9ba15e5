"""The plan of an encoder: its sizes, and the tensors that they ask for.

A plan is a JSON object; `parse_plan` and `check_tensors` turn whatever is wrong with it or its tensors into a
ValueError of one line. The kernels trust what has passed here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["PLAN_FORMAT", "HeadLayer", "Plan", "check_tensors", "parse_plan"]

PLAN_FORMAT = 2

ARCHITECTURES = ("bert", "modernbert", "deberta")
POOLINGS = ("first", "mean")
ACTIVATIONS = ("gelu", "gelu_tanh", "relu")
HEAD_ACTIVATIONS = ("none", "tanh", "relu", "gelu")

# Columns come in vectors of sixteen.
LANES = 16
# The sums of products of so many 8-bit values, and of their zero points, fit into 32 bits.
MOST_INPUTS = 32_768
# Far beyond any encoder: a damaged size is named before memory is asked for.
MOST = 1 << 24
# Orders of the Hadamard matrices that turn rows before they are rounded.
ROTATIONS = (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class HeadLayer:
    """A float linear layer. norm_epsilon: of a layer norm after the activation; None where there is none."""

    name: str
    activation: str
    norm_epsilon: float | None


@dataclass(frozen=True)
class Plan:
    """Sizes of an encoder; docs/kernels.md describes each."""

    architecture: str
    pooling: str
    hidden: int
    columns: int
    heads: int
    intermediate: int
    layers: int
    labels: int
    embedding_size: int
    vocabulary: int
    positions: int
    position_offset: int
    padding_id: int | None
    token_types: int
    epsilon: float
    activation: str
    group_size: int
    down_group_size: int
    rotation: int
    down_rotation: int
    windows: tuple[int, ...]
    rotary: tuple[int, ...]
    relative_positions: int
    head: tuple[HeadLayer, ...]

    @property
    def modern(self) -> bool:
        """Whether the encoder is ModernBERT's: norms before products, rotary positions, a gated feed-forward."""
        return self.architecture == "modernbert"

    @property
    def relative(self) -> bool:
        """Whether the encoder is DeBERTa's: a BERT whose scores also depend on the distance between two tokens."""
        return self.architecture == "deberta"

    def group_size_of(self, name: str) -> int:
        """The group size of a layer's product; 0 for whole rows."""
        return self.down_group_size if name == "down" else self.group_size

    def rotation_of(self, name: str) -> int:
        """The order of the Hadamard matrix that turns what a layer's product reads; 0 for none."""
        return self.down_rotation if name == "down" else self.rotation


def parse_plan(plan: Mapping[str, Any]) -> Plan:
    """The plan's fields, checked one by one and against each other. Raises ValueError."""
    if not isinstance(plan, Mapping):
        raise ValueError(f"the plan is a {type(plan).__name__}, not an object")
    version = _field(plan, "format")
    if type(version) is not int or version != PLAN_FORMAT:
        raise ValueError(f"plan format is {version!r}, and these kernels read {PLAN_FORMAT}")
    architecture = _choice(plan, "architecture", ARCHITECTURES)
    modern, bert = architecture == "modernbert", architecture == "bert"
    layers = _size(plan, "layers")
    columns = hidden = _size(plan, "hidden", most=MOST_INPUTS)
    if "head_columns" in plan:  # more than the model has: the others hold zeros
        hidden = _size(plan, "heads") * _size(plan, "head_columns", most=MOST_INPUTS)
        if not columns <= hidden <= MOST_INPUTS:
            raise ValueError(
                f"plan field head_columns is {plan['head_columns']}, which does not hold {columns} columns"
            )
    parsed = Plan(
        architecture=architecture,
        pooling=_choice(plan, "pooling", POOLINGS) if "pooling" in plan else "first",
        hidden=hidden,
        columns=columns,
        heads=_size(plan, "heads"),
        intermediate=_size(plan, "intermediate", most=MOST_INPUTS),
        layers=layers,
        labels=_size(plan, "labels"),
        embedding_size=_size(plan, "embedding_size", most=MOST_INPUTS) if bert else hidden,
        vocabulary=_size(plan, "vocabulary"),
        positions=_size(plan, "positions"),
        position_offset=_size(plan, "position_offset", least=0) if bert else 0,
        padding_id=_size(plan, "padding_id", least=0) if bert and plan.get("padding_id") is not None else None,
        token_types=0 if modern else _size(plan, "token_types", least=0),
        epsilon=_epsilon(plan, "epsilon"),
        activation=_choice(plan, "activation", ACTIVATIONS),
        group_size=_size(plan, "group_size", least=0, most=MOST_INPUTS),
        down_group_size=_size(
            plan, "down_group_size" if "down_group_size" in plan else "group_size", least=0, most=MOST_INPUTS
        ),
        rotation=_rotation(plan, "rotation"),
        down_rotation=_rotation(plan, "down_rotation"),
        windows=_layer_sizes(plan, "windows", layers, MOST) if modern else (),
        rotary=_layer_sizes(plan, "rotary", layers, layers - 1) if modern else (),
        relative_positions=_size(plan, "relative_positions", most=MOST_INPUTS) if architecture == "deberta" else 0,
        head=_head(plan),
    )
    for name in ("intermediate", "embedding_size"):
        if getattr(parsed, name) % LANES:
            raise ValueError(f"plan field {name} is {getattr(parsed, name)}, which {LANES} does not divide")
    columns = 2 * LANES if modern else LANES
    if parsed.hidden % (parsed.heads * columns):
        raise ValueError(
            f"plan fields hidden and heads are {parsed.hidden} and {parsed.heads}: "
            f"columns of a head must be a multiple of {columns}"
        )
    for name, size, rows in (
        ("group_size", parsed.group_size, "hidden"),
        ("down_group_size" if "down_group_size" in plan else "group_size", parsed.down_group_size, "intermediate"),
    ):
        if size and (size % LANES or getattr(parsed, rows) % size):
            raise ValueError(
                f"plan field {name} is {size}: it must be 0, or a multiple of {LANES} that divides {rows} "
                f"({getattr(parsed, rows)})"
            )
    for name, order, size in (
        ("rotation", parsed.rotation, parsed.group_size or parsed.hidden),
        ("down_rotation", parsed.down_rotation, parsed.down_group_size or parsed.intermediate),
    ):
        if order and size % (order * LANES):
            raise ValueError(f"plan field {name} is {order}: blocks of {order * LANES} do not divide {size} columns")
    if parsed.padding_id is not None and parsed.padding_id + 1 != parsed.position_offset:
        raise ValueError(
            f"plan field padding_id is {parsed.padding_id}, which does not stand before the first position "
            f"(position_offset is {parsed.position_offset})"
        )
    return parsed


def check_tensors(plan: Plan, tensors: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
    """The plan's tensors, contiguous, and the number of outputs of each head layer.

    Raises ValueError where one is missing, has another element type or shape, holds a value that is not finite, or is
    none of the plan's.
    """
    if not isinstance(tensors, Mapping):
        raise ValueError(f"tensors are a {type(tensors).__name__}, not a mapping from names to arrays")
    checked: dict[str, np.ndarray] = {}
    for name, dtype, shape in _expected(plan):
        checked[name] = _tensor(tensors, name, dtype, shape)
    for name, shape in _optional(plan):
        if name in tensors:
            checked[name] = _tensor(tensors, name, np.float32, shape)
    if plan.relative:
        _check_rows(checked["relative.rows"], plan.relative_positions)
    outputs: list[int] = []
    inputs = plan.hidden
    for i, layer in enumerate(plan.head):
        weight = _tensor(tensors, f"{layer.name}.weight", np.float32, (None, inputs))
        inputs = weight.shape[0]
        if i + 1 == len(plan.head) and inputs != plan.labels:
            raise ValueError(f"tensor {layer.name}.weight has {inputs} rows, and the plan has {plan.labels} labels")
        checked[f"{layer.name}.weight"] = weight
        checked[f"{layer.name}.bias"] = _tensor(tensors, f"{layer.name}.bias", np.float32, (inputs,))
        if layer.norm_epsilon is not None:
            if inputs % LANES:
                raise ValueError(f"{layer.name} has a norm over {inputs} columns, which {LANES} does not divide")
            for part in ("weight", "bias"):
                name = f"{layer.name}.norm.{part}"
                checked[name] = _tensor(tensors, name, np.float32, (inputs,))
        outputs.append(inputs)
    if unknown := sorted(map(str, set(tensors) - set(checked))):
        raise ValueError(f"tensor {unknown[0]} is none of the plan's")
    return checked, tuple(outputs)


def _check_rows(rows: np.ndarray, count: int) -> None:
    for row in (int(rows.min()), int(rows.max())):
        if not 0 <= row < count:
            raise ValueError(f"tensor relative.rows holds {row}, outside of 0 to {count - 1}")


def _expected(plan: Plan) -> Iterator[tuple[str, type[np.generic], tuple[int, ...]]]:
    size, hidden, intermediate = plan.embedding_size, plan.hidden, plan.intermediate
    yield "embeddings.words", np.float32, (plan.vocabulary, size)
    if plan.architecture == "bert":
        yield "embeddings.positions", np.float32, (plan.positions + plan.position_offset, size)
    if plan.token_types:
        yield "embeddings.types", np.float32, (plan.token_types, size)
    yield "embeddings.norm.weight", np.float32, (size,)
    yield "embeddings.norm.bias", np.float32, (size,)
    if size != hidden:
        yield "embeddings.projection.weight", np.float32, (hidden, size)
        yield "embeddings.projection.bias", np.float32, (hidden,)
    linears = [(name, hidden, hidden) for name in ("query", "key", "value", "output")]
    linears += [("up", intermediate, hidden), ("down", hidden, intermediate)]
    if plan.modern:
        linears.append(("gate", intermediate, hidden))
        yield from ((f"final_norm.{part}", np.float32, (hidden,)) for part in ("weight", "bias"))
    for table in range(max(plan.rotary, default=-1) + 1):
        for name in ("cosines", "sines"):
            yield f"rotary.{table}.{name}", np.float32, (plan.positions, hidden // plan.heads // 2)
    if plan.relative:
        yield "relative.rows", np.int32, (2 * plan.positions - 1,)
    for i in range(plan.layers):
        if plan.relative:
            for name in ("position_key", "position_query"):
                yield f"layers.{i}.{name}.weight", np.int8, (plan.relative_positions, hidden)
                yield f"layers.{i}.{name}.scale", np.float32, (plan.relative_positions, plan.heads)
            yield f"layers.{i}.position_bias", np.float32, (plan.relative_positions, plan.heads)
        for name, outputs, inputs in linears:
            size = plan.group_size_of(name)
            scale = (outputs, inputs // size) if size else (outputs,)
            yield f"layers.{i}.{name}.weight", np.int8, (outputs, inputs)
            yield f"layers.{i}.{name}.scale", np.float32, scale
            yield f"layers.{i}.{name}.bias", np.float32, (outputs,)
        for name in ("output_norm",) if plan.modern and i == 0 else ("attention_norm", "output_norm"):
            yield f"layers.{i}.{name}.weight", np.float32, (hidden,)
            yield f"layers.{i}.{name}.bias", np.float32, (hidden,)


def _optional(plan: Plan) -> Iterator[tuple[str, tuple[int, ...]]]:
    if plan.relative:
        yield "embeddings.positions", (plan.positions, plan.hidden)
    for i in range(plan.layers):
        for name in ("query", "output", "up"):
            yield f"layers.{i}.{name}.smooth", (plan.hidden,)
        yield f"layers.{i}.down.smooth", (plan.intermediate,)


def _tensor(
    tensors: Mapping[str, Any], name: str, dtype: type[np.generic], shape: tuple[int | None, ...]
) -> np.ndarray:
    """The named tensor. A dimension of None may have any size but 0, up to MOST_INPUTS."""
    if name not in tensors:
        raise ValueError(f"tensor {name} is missing")
    array = tensors[name]
    if not isinstance(array, np.ndarray):
        raise ValueError(f"tensor {name} is a {type(array).__name__}, not a numpy array")
    if array.dtype != dtype:
        raise ValueError(f"tensor {name} has elements of {array.dtype}, not {np.dtype(dtype)}")
    fits = array.ndim == len(shape) and all(
        size == wanted if wanted is not None else 0 < size <= MOST_INPUTS
        for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"tensor {name} has shape {array.shape}, not ({wanted})")
    if dtype is np.int8:
        if array.min() < -127:
            raise ValueError(f"tensor {name} holds -128: weights lie between -127 and 127")
    elif not np.isfinite(array).all():
        raise ValueError(f"tensor {name} holds a value that is not finite")
    return np.ascontiguousarray(array)


def _field(plan: Mapping[str, Any], name: str) -> Any:
    if name not in plan:
        raise ValueError(f"plan field {name} is missing")
    return plan[name]


def _rotation(plan: Mapping[str, Any], name: str) -> int:
    """The order of a Hadamard matrix; 0, or a field that is missing: none."""
    order = plan.get(name, 0)
    if type(order) is not int or order not in (0, *ROTATIONS):
        raise ValueError(f"plan field {name} is {order!r}, not 0 or one of {', '.join(map(str, ROTATIONS))}")
    return order


def _size(plan: Mapping[str, Any], name: str, *, least: int = 1, most: int = MOST) -> int:
    value = _field(plan, name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"plan field {name} is {value!r}, not a whole number from {least} to {most}")
    return value


def _choice(plan: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str:
    value = _field(plan, name)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"plan field {name} is {value!r}, not one of {', '.join(choices)}")
    return value


def _epsilon(plan: Mapping[str, Any], name: str) -> float:
    value = _field(plan, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"plan field {name} is {value!r}, not a number from 0 to 1")
    return float(value)


def _layer_sizes(plan: Mapping[str, Any], name: str, layers: int, most: int) -> tuple[int, ...]:
    """A whole number for each layer."""
    value = _field(plan, name)
    if not isinstance(value, list) or len(value) != layers:
        raise ValueError(f"plan field {name} is {value!r:.80}, not a list of {layers} numbers, one a layer")
    return tuple(_size({name: each}, name, least=0, most=most) for each in value)


def _head(plan: Mapping[str, Any]) -> tuple[HeadLayer, ...]:
    value = _field(plan, "head")
    if not isinstance(value, list) or not value:
        raise ValueError(f"plan field head is {value!r}, not a list of layers")
    layers = []
    for entry in value:
        if not isinstance(entry, Mapping):
            raise ValueError(f"plan field head holds {entry!r}, not an object")
        name = _field(entry, "name")
        if not isinstance(name, str) or not name.startswith("head."):
            raise ValueError(f"a head layer of the plan is named {name!r}, not head.0, head.1, ...")
        epsilon = None if entry.get("norm_epsilon") is None else _epsilon(entry, "norm_epsilon")
        layers.append(HeadLayer(name, _choice(entry, "activation", HEAD_ACTIVATIONS), epsilon))
    if len({layer.name for layer in layers}) < len(layers):
        raise ValueError("two head layers of the plan have one name")
    return tuple(layers)
