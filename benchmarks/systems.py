"""The systems that are compared: every engine, precision and device of a bundle, and the peers.

What each of them does is in `loaders.py`. A system runs in a process of its own, so that no library's threads or
memory disturb another's; peers whose requirements clash with ours have a Python environment of their own.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pairscore.runtime.bundle import Manifest
from pairscore.runtime.engines import ENGINES, is_installed


@dataclass(frozen=True)
class System:
    """`tier`: the precision whose promise it is compared with. `ours`: whether it is this project's. `loader`,
    `arguments`: the function of `loaders.py` and what it gets. `environment`: the requirements file of
    `benchmarks/peers/` that its environment was made of; None for the one that runs now. `cannot`: why it is not tried.
    """

    name: str
    tier: str
    ours: bool
    loader: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: str | None = None
    cannot: str | None = None


REFERENCE = System(
    "sentence-transformers, torch fp32, batch 32", "fp32", False, "sentence_transformers", {"batch_size": 32}
)


def _peer(name: str, tier: str, loader: str, environment: str | None = None, **arguments: Any) -> System:
    return System(name, tier, False, loader, arguments, environment)


# sentence-transformers' documentation recommends trying batch sizes: on two cores, 8 beat 32 with torch and ONNX.
PEERS = (
    _peer("sentence-transformers, torch fp32, batch 8", "fp32", "sentence_transformers", batch_size=8),
    _peer(
        "sentence-transformers, torch bf16, batch 8", "bf16", "sentence_transformers", batch_size=8, dtype="bfloat16"
    ),
    _peer("sentence-transformers, ONNX fp32, batch 8", "fp32", "sentence_transformers", batch_size=8, backend="onnx"),
    _peer(
        "sentence-transformers, ONNX O3, batch 8",
        "fp32",
        "sentence_transformers",
        batch_size=8,
        backend="onnx",
        file_name="model_O3.onnx",
    ),
    _peer(
        "sentence-transformers, ONNX int8, batch 8",
        "int8",
        "sentence_transformers",
        batch_size=8,
        backend="onnx",
        file_name="model_quint8_avx2.onnx",
    ),
    _peer(
        "sentence-transformers, OpenVINO, batch 8",
        "fp32",
        "sentence_transformers",
        "openvino",
        batch_size=8,
        backend="openvino",
    ),
    _peer("sentence-transformers, OpenVINO int8, batch 8", "int8", "openvino_int8", "openvino", batch_size=8),
    _peer("optimum + transformers, batch 32", "fp32", "optimum", batch_size=32),
    _peer("ONNX Runtime, fixed batches of 32", "fp32", "onnxruntime_fixed", batch_size=32),
    _peer("fastembed, batch 64", "fp32", "fastembed", "rerankers", batch_size=64),
    _peer("FlashRank", "fp32", "flashrank", "rerankers"),
    System("infinity", "fp32", False, "", cannot="not tried: a server, with an environment of its own to build"),
    System("text-embeddings-inference", "fp32", False, "", cannot="not tried: a server that is no Python package"),
)


def own_systems(manifest: Manifest) -> list[System]:
    """Every precision of a bundle on every engine of it that is installed, on the CPU and on a GPU if there is one."""
    devices = ["cpu", *(["cuda"] if has_gpu() else [])]
    return [
        System(
            f"pairscore {precision}, {engine}" + ("" if device == "cpu" else f", {device}"),
            precision,
            True,
            "pairscore",
            {"precision": precision, "engine": engine, "device": device},
        )
        for precision, variant in manifest.variants.items()
        for engine in variant.engines
        if is_installed(engine)
        for device in devices
        if device in ENGINES[engine].devices
    ]


def has_gpu() -> bool:
    """Whether NVIDIA's driver is there."""
    return shutil.which("nvidia-smi") is not None
