"""What the kernels compute, as digests: one processor, compiler or instruction set that differs in one bit is seen.

    python -m tests.kernels.golden > tests/kernels/golden.json        # after a wanted change to the arithmetic
    python -m tests.kernels.golden --plan BUNDLE/native/int8.json     # 200 pairs of a whole model, on every machine

Inputs are whole numbers over powers of two from an integer generator, so that they are the same bytes everywhere too.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pairscore_kernels as kernels
from numpy.typing import NDArray
from pairscore_kernels import operations

from tests.kernels.plans import ARCHITECTURES, MODERN, RELATIVE, described

FILE = Path(__file__).with_name("golden.json")
PAIRS = 200


def numbers(seed: int, count: int, *shape: int) -> NDArray[np.int64]:
    """Whole numbers from 0 to count - 1: SplitMix64, https://prng.di.unimi.it/splitmix64.c"""
    z = (np.arange(1, np.prod(shape) + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z % np.uint64(count)).astype(np.int64).reshape(shape)


def exact(seed: int, *shape: int, around: float = 0.0, spread: float = 1.0) -> NDArray[np.float32]:
    """Multiples of spread / 1024, at most `spread` from `around`."""
    return (around + (numbers(seed, 2049, *shape) - 1024) * (spread / 1024)).astype(np.float32)


def digests(isa: str) -> dict[str, str]:
    """Digest of every operation and of a small encoder of every architecture, by name."""
    found = {name: operation() for name, operation in operations_of(isa).items()}
    for name in (*ARCHITECTURES, *MODERN, *RELATIVE):
        plan, tensors = described(name)
        encoder = kernels.Encoder(plan, exact_tensors(plan, tensors), isa)
        found[f"encoder: {name}"] = np.concatenate([encoder.run(*batch(plan, 3, length)) for length in (1, 17, 40)])
    return {name: digest(result) for name, result in found.items()}


def operations_of(isa: str) -> dict[str, Callable[[], NDArray[Any]]]:
    x, wide = exact(1, 23, 96, spread=8), exact(2, 3_000, spread=16)
    weight, scale = (numbers(3, 255, 80, 96) - 127).astype(np.int8), exact(4, 80, 3, around=2**-10, spread=2**-11)
    bias, residual = exact(5, 80), exact(6, 23, 80)
    asking = [exact(7 + i, 37, 48, spread=2) for i in range(3)]
    positions = operations.RelativePositions(
        (numbers(18, 255, 30, 48) - 127).astype(np.int8),
        exact(19, 30, around=2**-7, spread=2**-8),
        (numbers(20, 255, 30, 48) - 127).astype(np.int8),
        exact(21, 30, around=2**-9, spread=2**-10),
        exact(22, 30),
        numbers(23, 30, 73).astype(np.int32),
    )
    ids = numbers(11, 30, 19).astype(np.int32)
    narrow = (numbers(17, 65, 80, 96) - 32).astype(np.int8)
    functions: dict[str, Callable[[], NDArray[Any]]] = {
        "quantize": lambda: operations.quantize_rows(x, np.abs(x[0]) + 1, 48, isa).values,
        "quantize, rotated": lambda: operations.quantize_rows(x, None, 0, isa, rotation=2).values,
        "quantize, rotated by much": lambda: (
            operations.quantize_rows(wide[:2048].reshape(2, -1), isa=isa, rotation=64).values
        ),
        "linear": lambda: operations.linear(x, weight, scale[:, :1].ravel(), bias, activation="gelu", isa=isa),
        "linear in groups": lambda: operations.linear(
            x, weight, scale, bias, group_size=32, residual=residual, isa=isa
        ),
        "linear, narrow sums": lambda: operations.linear(x, narrow, scale, bias, group_size=32, isa=isa),
        "quantize, gated": lambda: operations.quantize_gated(x, "gelu", x[0, :48], 16, isa).values,
        "rotate": lambda: operations.rotate(x, exact(15, 23, 16), exact(16, 23, 16), isa),
        "mean": lambda: operations.mean(x, isa),
        "layer norm": lambda: operations.layer_norm(x, x[0], x[1], 1e-5, isa),
        "attention": lambda: operations.attention(*asking, isa=isa),
        "attention in a window": lambda: operations.attention(*asking, window=9, isa=isa),
        "attention with positions": lambda: operations.attention(*asking, positions=positions, isa=isa),
        "attention to states": lambda: operations.state_attention(x[:13], x, isa),
        "dense": lambda: operations.dense(x, weight.astype(np.float32) / 128, bias, "tanh", isa),
        "embed": lambda: operations.embed(
            ids, ids % 2, exact(12, 30, 32), exact(13, 2, 32), exact(14, 19, 32), isa=isa
        ),
        "exponential": lambda: operations.exponential(wide, isa),
    }
    for name in ("gelu", "gelu_tanh", "relu", "tanh"):
        functions[name] = lambda name=name: operations.activate(name, wide, isa)
    return functions


def exact_tensors(plan: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Other values for the same tensors."""
    made = {}
    for seed, (name, tensor) in enumerate(sorted(tensors.items()), 100):
        if tensor.dtype == np.int32:
            made[name] = numbers(seed, plan["relative_positions"], *tensor.shape).astype(np.int32)
        elif tensor.dtype == np.int8:
            largest = 127 if np.abs(tensor).max() > 32 else 32
            made[name] = (numbers(seed, 2 * largest + 1, *tensor.shape) - largest).astype(np.int8)
        elif name.endswith((".scale", ".smooth", "norm.weight")):
            size = 2.0**-10 if name.endswith(".scale") else 1.0
            made[name] = exact(seed, *tensor.shape, around=size, spread=size / 2)
        else:
            made[name] = exact(seed, *tensor.shape, spread=0.5)
    return made


def batch(plan: dict[str, Any], pairs: int, length: int, seed: int = 0) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    ids = numbers(seed or length, plan["vocabulary"], pairs, length).astype(np.int32)
    return ids, (ids % max(1, plan.get("token_types", 0))).astype(np.int32)


def digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def digest_of_plan(file: Path, isa: str) -> str:
    """Digest of the logits of 200 pairs of 8 to 57 tokens."""
    plan = json.loads(file.read_text())
    encoder = kernels.Encoder(plan, read_tensors(file.with_suffix(".safetensors")), isa)
    return digest(np.concatenate([encoder.run(*batch(plan, 1, 8 + pair % 50, 1 + pair)) for pair in range(PAIRS)]))


def read_tensors(file: Path) -> dict[str, NDArray[Any]]:
    """Tensors of a safetensors file (https://github.com/huggingface/safetensors#format), with numpy alone."""
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    tensors = {}
    for name, about in json.loads(content[8:start]).items():
        if name != "__metadata__":
            first, end = about["data_offsets"]
            dtype = {"F32": np.float32, "I8": np.int8, "I32": np.int32}[about["dtype"]]
            tensors[name] = np.frombuffer(content[start + first : start + end], dtype).reshape(about["shape"])
    return tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path)
    options = parser.parse_args()
    if options.plan is None:
        sys.stdout.write(json.dumps(digests("portable"), indent=1) + "\n")
        return
    for isa in kernels.available():
        sys.stdout.write(f"{isa} {digest_of_plan(options.plan, isa)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
