"""The systems that are compared: every engine, precision and device of a bundle, and the peers.

What each of them does is in `loaders.py`. A system runs in a process of its own, so that no library's threads or
memory disturb another's; peers whose requirements clash with ours have a Python environment of their own.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pairscore.benchmarks.environment import BF16_INSTRUCTIONS, instruction_sets, onnx_int8_configuration
from pairscore.runtime.bundle.manifest import Manifest
from pairscore.runtime.engines.registry import ENGINES, is_installed

NO_BF16 = "this processor has no bf16 arithmetic (AVX512_BF16 or AMX)"
GPU_TYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True)
class System:
    """`tier`: the precision whose promise it is compared with. `ours`: whether it is this project's. `loader`,
    `arguments`: the function of `loaders.py`, or MODULE.FUNCTION beside it, and what it gets. `environment`: the
    requirements file of `benchmarks/peers/` that its environment was made of; None for the one that runs now.
    `missing`: why it cannot run here. `note`: what a reader of its figures has to know.
    """

    name: str
    tier: str
    ours: bool
    loader: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: str | None = None
    missing: str | None = None
    note: str | None = None


REFERENCE = System(
    "sentence-transformers, torch fp32, batch 32", "fp32", False, "sentence_transformers", {"batch_size": 32}
)


def peers() -> list[System]:
    """Every other library, as its documentation recommends it for this processor.

    sentence-transformers' documentation recommends trying batch sizes: on two cores, 8 beat 32 with torch and ONNX.
    """
    here = System("", "fp32", False, "sentence_transformers", {"batch_size": 8})
    newer = replace(here, environment="openvino")  # sentence-transformers 6, on OpenVINO and on torch
    rerankers = replace(here, environment="rerankers")
    servers = replace(here, environment="infinity", loader="infinity")
    int8 = onnx_int8_configuration()
    has_bf16 = bool(BF16_INSTRUCTIONS & {*instruction_sets()})
    own_way = {"INFERENCE_PRECISION_HINT": "bf16", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "128"}

    def of(system: System, name: str, tier: str = "fp32", **arguments: Any) -> System:
        needs_bf16 = (tier == "bf16" or "bf16" in name) and "device" not in arguments
        return replace(
            system,
            name=name,
            tier=tier,
            arguments={**system.arguments, **arguments},
            missing=NO_BF16 if needs_bf16 and not has_bf16 else None,
        )

    found = [
        of(here, "sentence-transformers, torch fp32, batch 8"),
        of(here, "sentence-transformers, torch bf16, batch 8", "bf16", dtype="bfloat16"),
        of(here, "sentence-transformers, ONNX fp32, batch 8", backend="onnx"),
        of(here, "sentence-transformers, ONNX O3, batch 8", backend="onnx", file_name="model_O3.onnx"),
        of(
            here, f"sentence-transformers, ONNX int8 ({int8.replace('_', '-')}), batch 8", "int8", backend="onnx",
            file_name="model_int8.onnx",
        ),
        of(newer, "sentence-transformers 6, torch fp32, batch 8"),
        # Where the processor can, OpenVINO computes in bf16 unless it is told not to.
        of(newer, "sentence-transformers 6, OpenVINO, batch 8", "bf16" if has_bf16 else "fp32", backend="openvino"),
        replace(of(newer, "sentence-transformers 6, OpenVINO int8, batch 8", "int8"), loader="openvino_int8"),
        replace(
            of(newer, "sentence-transformers 6, OpenVINO int8 and bf16, batch 8", "int8", settings=own_way),
            loader="openvino_int8",
        ),
        replace(
            of(servers, "CTranslate2, int8, batch 32", "int8", batch_size=32), loader="ctranslate2",
            note="its conversion makes one symmetric scale a row",
        ),
        replace(of(here, "optimum + transformers, batch 32", batch_size=32), loader="optimum"),
        replace(of(rerankers, "fastembed, batch 64", batch_size=64), loader="fastembed"),
        replace(rerankers, name="FlashRank", loader="flashrank", arguments={}),
        of(servers, "infinity, torch, batch 32", batch_size=32),
        System("text-embeddings-inference", "fp32", False, "", missing="it is a Rust program, which no wheel carries"),
    ]  # fmt: skip
    on_gpu = [(dtype, tier, size) for dtype, tier in GPU_TYPES.items() for size in (128, 512)] if has_gpu() else []
    return found + [
        of(
            here,
            f"sentence-transformers, {dtype}, cuda, batch {size}",
            tier,
            dtype=dtype,
            batch_size=size,
            device="cuda",
        )
        for dtype, tier, size in on_gpu
    ]


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
