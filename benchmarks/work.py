"""How much a model computes, and how often batches are padded: counted, not timed."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def matrix_shapes(config: dict[str, Any]) -> tuple[int, int] | None:
    """Hidden and inner size of an encoder layer; None for a configuration that does not say."""
    hidden = config.get("hidden_size", config.get("dim"))
    inner = config.get("intermediate_size", config.get("hidden_dim"))
    return (hidden, inner) if isinstance(hidden, int) and isinstance(inner, int) else None


def operations(config: dict[str, Any], lengths: Sequence[int], *, first_row_only: bool) -> float | None:
    """Floating-point operations of the matrix products for pairs of these lengths in tokens, nothing padded.

    `first_row_only`: the last layer computes keys and values of all tokens and the rest for the first one.
    Embeddings, norms and the classifier are left out. None where `matrix_shapes` is.
    """
    layers = config.get("num_hidden_layers", config.get("n_layers"))
    shapes = matrix_shapes(config)
    if shapes is None or not isinstance(layers, int):
        return None
    hidden, inner = shapes
    weights = 2 * (4 * hidden**2 + 2 * hidden * inner)
    tokens = np.asarray(lengths, dtype=np.float64)
    layer = weights * tokens + 4 * hidden * tokens**2
    key_value = 2 * 2 * hidden**2
    last = key_value * tokens + (weights - key_value) + 4 * hidden * tokens if first_row_only else layer
    return float((layer * (layers - 1) + last).sum())


def activation_bytes(config: dict[str, Any], lengths: Sequence[int], bytes_per_number: int) -> float | None:
    """Bytes of activations that the unpadded graph reads and writes, were nothing kept in a cache between kernels.

    A layer's kernels, in numbers a token, h the hidden size and i the inner one: three products for queries, keys and
    values 6h, the queries' bias 2h, attention 4h, its projection 2h, residual and norm 3h, the products of the
    feed-forward h + i and i + h, bias and GELU 2i, residual and norm 3h: 22h + 4i. Of the last layer only keys and
    values count, 4h, and 2h in attention. None where `matrix_shapes` is.
    """
    layers = config.get("num_hidden_layers", config.get("n_layers"))
    shapes = matrix_shapes(config)
    if shapes is None or not isinstance(layers, int):
        return None
    hidden, inner = shapes
    numbers = (22 * hidden + 4 * inner) * (layers - 1) + 6 * hidden
    return float(numbers * bytes_per_number * sum(lengths))


def padding_by_policy(lengths: Sequence[int], characters: Sequence[int], token_budget: int) -> list[dict[str, Any]]:
    """Share of computed tokens that are padding, under each way to make batches.

    lengths, characters: Shape (pairs,), a pair's tokens and characters.
    """
    tokens = np.asarray(lengths)
    given = np.arange(len(tokens))
    policies: list[tuple[str, np.ndarray[Any, Any], Callable[[np.ndarray[Any, Any]], int]]] = [
        ("32 pairs, in the order given", given, lambda _: 32),
        ("32 pairs, sorted by characters", np.argsort(np.asarray(characters), kind="stable"), lambda _: 32),
        ("32 pairs, sorted by tokens", np.argsort(tokens, kind="stable"), lambda _: 32),
        (
            f"{token_budget:,} tokens, sorted by tokens",
            np.argsort(-tokens, kind="stable"),
            lambda rest: max(1, token_budget // int(rest[0])),
        ),
    ]
    found = []
    for name, order, pairs_in_batch in policies:
        sorted_tokens, start, padded = tokens[order], 0, 0
        while start < len(tokens):
            size = pairs_in_batch(sorted_tokens[start:])
            batch = sorted_tokens[start : start + size]
            padded += int(batch.max()) * len(batch)
            start += size
        found.append({"policy": name, "padding_share": 1 - int(tokens.sum()) / padded})
    return [*found, {"policy": "one length a batch (pairscore)", "padding_share": 0.0}]
