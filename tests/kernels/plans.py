"""Small encoders with random weights, one for every architecture that a plan can describe."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]


def head(*activations: str) -> list[dict[str, str]]:
    return [{"name": f"head.{i}", "activation": activation} for i, activation in enumerate(activations)]


def normed_head() -> list[dict[str, Any]]:
    """ModernBERT's head: a layer norm between two layers."""
    return [{**each, **more} for each, more in zip(head("gelu", "none"), [{"norm_epsilon": 1e-5}, {}], strict=True)]


def random_modern_plan(**changes: Any) -> dict[str, Any]:
    plan = random_plan(architecture="modernbert", layers=3, windows=[0, 16, 6], rotary=[0, 1, 1], head=normed_head())
    for name in ("embedding_size", "position_offset", "token_types"):
        del plan[name]
    return plan | changes


def random_relative_plan(**changes: Any) -> dict[str, Any]:
    plan = random_plan(architecture="deberta", token_types=0, relative_positions=24, head=head("gelu", "none"))
    for name in ("embedding_size", "position_offset"):
        del plan[name]
    return plan | changes


def random_plan(**changes: Any) -> dict[str, Any]:
    plan = {
        "format": 2,
        "architecture": "bert",
        "hidden": 64,
        "heads": 2,
        "intermediate": 96,
        "layers": 2,
        "labels": 1,
        "embedding_size": 64,
        "vocabulary": 50,
        "positions": 40,
        "position_offset": 0,
        "token_types": 2,
        "epsilon": 1e-12,
        "activation": "gelu",
        "group_size": 0,
        "head": head("tanh", "none"),
    }
    return plan | changes


def random_tensors(
    plan: dict[str, Any], *, smooth: bool = False, largest: int = 127, positions: bool = False, seed: int = 0
) -> Tensors:
    """Tensors for the plan; a head's inner layers have 24 columns, which 16 does not divide, or 32 before a norm.

    largest: weight. positions: whether a plan with relative positions has a table of absolute ones too.
    """
    rng = np.random.default_rng(seed)

    def floats(*shape: int, scale: float = 1.0, around: float = 0.0) -> NDArray[np.float32]:
        return (rng.normal(size=shape) * scale + around).astype(np.float32)

    def norm(name: str, columns: int) -> Tensors:
        return {f"{name}.weight": floats(columns, scale=0.1, around=1), f"{name}.bias": floats(columns, scale=0.1)}

    modern = plan["architecture"] == "modernbert"
    hidden, intermediate, size = plan["hidden"], plan["intermediate"], plan.get("embedding_size", plan["hidden"])
    tensors: Tensors = {"embeddings.words": floats(plan["vocabulary"], size), **norm("embeddings.norm", size)}
    if modern:
        tensors |= norm("final_norm", hidden)
        half = hidden // plan["heads"] // 2
        for table in range(max(plan["rotary"]) + 1):
            frequencies = (100.0 * (table + 1)) ** (-np.arange(half) / half)
            angles = np.arange(plan["positions"])[:, None] * frequencies
            tensors[f"rotary.{table}.cosines"] = np.cos(angles).astype(np.float32)
            tensors[f"rotary.{table}.sines"] = np.sin(angles).astype(np.float32)
    elif plan["architecture"] == "bert" or positions:
        tensors["embeddings.positions"] = floats(plan["positions"] + plan.get("position_offset", 0), size, scale=0.3)
    if "relative_positions" in plan:
        tensors |= relative_tensors(plan, rng)
    if plan.get("token_types"):
        tensors["embeddings.types"] = floats(plan["token_types"], size, scale=0.3)
    if size != hidden:
        tensors["embeddings.projection.weight"] = floats(hidden, size, scale=size**-0.5)
        tensors["embeddings.projection.bias"] = floats(hidden, scale=0.1)
    linears = [(name, hidden, hidden) for name in ("query", "key", "value", "output")]
    linears += [("up", intermediate, hidden), ("down", hidden, intermediate)]
    linears += [("gate", intermediate, hidden)] if modern else []
    for i in range(plan["layers"]):
        for name, outputs, inputs in linears:
            group_size = plan.get(f"{name}_group_size", plan["group_size"])
            groups = (inputs // group_size,) if group_size else ()
            tensors[f"layers.{i}.{name}.weight"] = rng.integers(-largest, largest + 1, (outputs, inputs)).astype(
                np.int8
            )
            order = plan.get("down_rotation" if name == "down" else "rotation", 0) or 1  # it makes rows larger
            size_of_one = np.float32((inputs * order) ** -0.5 / 80)
            scale = np.abs(floats(outputs, *groups, scale=0.2, around=1)) * size_of_one
            tensors[f"layers.{i}.{name}.scale"] = scale.astype(np.float32)
            tensors[f"layers.{i}.{name}.bias"] = floats(outputs, scale=0.1)
            if smooth and name in {"query", "output", "up", "down"}:
                tensors[f"layers.{i}.{name}.smooth"] = np.exp(floats(inputs, scale=0.5))
        for name in ("output_norm",) if modern and i == 0 else ("attention_norm", "output_norm"):
            tensors |= norm(f"layers.{i}.{name}", hidden)
    inputs = hidden
    for i, layer in enumerate(plan["head"]):
        outputs = plan["labels"] if i + 1 == len(plan["head"]) else 24
        if "norm_epsilon" in layer:
            outputs = 32
            tensors |= norm(f"{layer['name']}.norm", outputs)
        tensors[f"{layer['name']}.weight"] = floats(outputs, inputs, scale=inputs**-0.5)
        tensors[f"{layer['name']}.bias"] = floats(outputs, scale=0.1)
        inputs = outputs
    return tensors


def relative_tensors(plan: dict[str, Any], rng: np.random.Generator) -> Tensors:
    """What a plan with relative positions has besides a BERT's tensors."""
    count, hidden, heads = plan["relative_positions"], plan["hidden"], plan["heads"]
    tensors: Tensors = {"relative.rows": relative_rows(plan["positions"], count)}
    for i in range(plan["layers"]):
        for name, size in (("position_key", 1.0), ("position_query", (hidden / heads) ** -0.5)):
            tensors[f"layers.{i}.{name}.weight"] = rng.integers(-127, 128, (count, hidden)).astype(np.int8)
            tensors[f"layers.{i}.{name}.scale"] = (rng.uniform(0.004, 0.012, (count, heads)) * size).astype(np.float32)
        tensors[f"layers.{i}.position_bias"] = rng.normal(scale=0.3, size=(count, heads)).astype(np.float32)
    return tensors


def relative_rows(positions: int, count: int) -> NDArray[np.int32]:
    """A position of its own for each small distance, and one for several large ones, as in DeBERTa."""
    distances = np.arange(1 - positions, positions)
    half = count // 2
    far = half / 2 * (1 + np.log(np.maximum(1, np.abs(distances) / (half / 2))) / np.log(2 * positions / half))
    buckets = np.where(np.abs(distances) < half / 2, distances, np.sign(distances) * np.ceil(far))
    return np.clip(buckets + half, 0, count - 1).astype(np.int32)


def random_batch(plan: dict[str, Any], pairs: int, length: int, seed: int = 0) -> tuple[NDArray[np.int32], ...]:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, plan["vocabulary"], (pairs, length), dtype=np.int32)
    type_ids = rng.integers(0, max(1, plan.get("token_types", 0)), (pairs, length), dtype=np.int32)
    return ids, type_ids


# Each differs from the one before it in what another family of encoders needs: changes to the plan, whether rows are
# smoothed, and, in some, the largest weight.
ARCHITECTURES: dict[str, tuple[Any, ...]] = {
    "bert": ({}, False),
    "roberta": ({"position_offset": 2, "token_types": 1, "epsilon": 1e-5}, False),
    "distilbert": ({"token_types": 0, "head": head("relu", "none")}, False),
    "electra": ({"embedding_size": 32, "head": head("gelu", "none")}, False),
    "labels": ({"labels": 3, "head": head("none")}, False),
    "smooth": ({}, True),
    "padding within a text": ({"position_offset": 2, "padding_id": 1, "vocabulary": 5}, False),
    "groups": ({"group_size": 32}, False),
    "groups of one product": ({"down_group_size": 32}, True),
    "one product in whole rows": ({"group_size": 16, "down_group_size": 0}, True),
    "smooth groups": ({"group_size": 32}, True),
    "gelu_tanh": ({"activation": "gelu_tanh"}, False),
    "relu": ({"activation": "relu"}, False),
    "one layer": ({"layers": 1}, True),
    "mean of all tokens": ({"pooling": "mean", "head": normed_head()}, True),
    "odd sizes": ({"hidden": 48, "heads": 3, "intermediate": 80, "embedding_size": 48, "layers": 3}, False),
    "rotated": ({"rotation": 4}, True),
    "rotated groups": (
        {"intermediate": 192, "rotation": 2, "group_size": 32, "down_rotation": 4, "down_group_size": 64},
        True,
    ),
    "rotated by much": (
        {"hidden": 128, "embedding_size": 128, "rotation": 8, "intermediate": 512, "down_rotation": 32},
        False,
    ),
    "narrow sums": ({}, True, 32),
    "narrow sums in groups": ({"group_size": 32, "down_group_size": 16}, True, 32),
}
MODERN: dict[str, tuple[Any, ...]] = {
    "modernbert": ({}, False),
    "modernbert, smooth": ({}, True),
    "modernbert, mean of all tokens": ({"pooling": "mean", "labels": 2}, False),
    "modernbert, groups": ({"group_size": 32, "down_group_size": 48, "activation": "gelu_tanh"}, True),
    "modernbert, rotated": ({"rotation": 2, "down_rotation": 2}, True),
    "modernbert, one layer": ({"layers": 1, "windows": [0], "rotary": [0], "head": head("none")}, True),
    "modernbert, one head": ({"hidden": 96, "heads": 1, "windows": [2, 0, 80], "rotary": [1, 0, 2]}, False),
    "modernbert, narrow sums": ({"group_size": 32}, True, 32),
}

RELATIVE: dict[str, tuple[Any, ...]] = {
    "deberta": ({}, False),
    "deberta, smooth groups": ({"group_size": 32, "token_types": 2}, True),
    "deberta, mean of all tokens": ({"pooling": "mean", "labels": 2, "heads": 4}, False),
    "deberta, one layer": ({"layers": 1, "relative_positions": 79}, True),
    "deberta, narrow sums": ({"hidden": 96, "heads": 2, "head": head("none")}, False, 32),
    "deberta, absolute positions too": ({"relative_positions": 2}, False),
}


def described(architecture: str) -> tuple[dict[str, Any], Tensors]:
    """The plan of that name, and random tensors for it."""
    changes, smooth, *largest = {**ARCHITECTURES, **MODERN, **RELATIVE}[architecture]
    made = (
        random_modern_plan
        if architecture in MODERN
        else random_relative_plan
        if architecture in RELATIVE
        else random_plan
    )
    plan = made(**changes)
    absolute = architecture == "deberta, absolute positions too"
    return plan, random_tensors(plan, smooth=smooth, largest=largest[0] if largest else 127, positions=absolute)
