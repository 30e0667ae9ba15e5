"""The systems that are compared: every engine, precision and device of a bundle, and the peers.

What each of them does is in `loaders.py`. A system runs in a process of its own, so that no library's threads or
memory disturb another's; peers whose requirements clash with ours have a Python environment of their own.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pairscore.benchmarks.environment import instruction_sets, onnx_int8_configuration
from pairscore.benchmarks.servers import ROUTER
from pairscore.runtime.bundle.manifest import Manifest
from pairscore.runtime.engines.registry import ENGINES, is_installed

BF16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}


@dataclass(frozen=True)
class System:
    """`tier`: the precision whose promise it is compared with. `ours`: whether it is this project's. `loader`,
    `arguments`: the function of `loaders.py`, or MODULE.FUNCTION beside it, and what it gets. `environment`: the
    requirements file of `benchmarks/peers/` that its environment was made of; None for the one that runs now.
    `program`: what it needs on PATH. `note`: what a reader of its figures has to know.
    """

    name: str
    tier: str
    ours: bool
    loader: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: str | None = None
    program: str | None = None
    note: str | None = None


REFERENCE = System(
    "sentence-transformers, torch fp32, batch 32", "fp32", False, "sentence_transformers", {"batch_size": 32}
)


def peers() -> list[System]:
    """Every other library, as its documentation recommends it for this processor.

    sentence-transformers' documentation recommends trying batch sizes: on two cores, 8 beat 32 with torch and ONNX.
    """
    here = System("", "fp32", False, "sentence_transformers")
    openvino = replace(here, environment="openvino")
    rerankers = replace(here, environment="rerankers")
    servers = replace(here, environment="infinity", loader="servers.infinity")
    int8 = onnx_int8_configuration()
    sets = {*instruction_sets()}
    emulates_bf16 = sets and not sets & BF16_INSTRUCTIONS
    return [
        replace(here, name="sentence-transformers, torch fp32, batch 8", arguments={"batch_size": 8}),
        replace(
            here,
            name="sentence-transformers, torch bf16, batch 8",
            tier="bf16",
            arguments={"batch_size": 8, "dtype": "bfloat16"},
            note="this processor has no bf16 arithmetic, so that PyTorch emulates it" if emulates_bf16 else None,
        ),
        replace(
            here,
            name="sentence-transformers, ONNX fp32, batch 8",
            arguments={"batch_size": 8, "backend": "onnx"},
        ),
        replace(
            here,
            name="sentence-transformers, ONNX O3, batch 8",
            arguments={"batch_size": 8, "backend": "onnx", "file_name": "model_O3.onnx"},
        ),
        replace(
            here,
            name=f"sentence-transformers, ONNX int8 ({int8.replace('_', '-')}), batch 8",
            tier="int8",
            arguments={"batch_size": 8, "backend": "onnx", "file_name": "model_int8.onnx"},
        ),
        replace(
            openvino,
            name="sentence-transformers, OpenVINO, batch 8",
            arguments={"batch_size": 8, "backend": "openvino"},
        ),
        replace(
            openvino,
            name="sentence-transformers, OpenVINO int8, batch 8",
            tier="int8",
            loader="openvino_int8",
            arguments={"batch_size": 8},
        ),
        replace(here, name="optimum + transformers, batch 32", loader="optimum", arguments={"batch_size": 32}),
        replace(
            here, name="ONNX Runtime, fixed batches of 32", loader="onnxruntime_fixed", arguments={"batch_size": 32}
        ),
        replace(rerankers, name="fastembed, batch 64", loader="fastembed", arguments={"batch_size": 64}),
        replace(rerankers, name="FlashRank", loader="flashrank"),
        replace(servers, name="infinity, torch, batch 32", arguments={"engine": "torch", "batch_size": 32}),
        replace(
            servers,
            name="infinity, ONNX, batch 8",
            arguments={"engine": "optimum", "batch_size": 8},
            note="its ONNX engine leaves out the token types, so claim and evidence are one text to the model",
        ),
        System(
            "text-embeddings-inference",
            "fp32",
            False,
            "servers.text_embeddings_inference",
            program=ROUTER,
        ),
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
