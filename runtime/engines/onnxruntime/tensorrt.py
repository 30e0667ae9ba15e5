"""ONNX Runtime with TensorRT on one CUDA device: builds an engine of its own for the GPU at hand, and keeps it.

It reads the standard graph in fp32, mask included, and computes in fp16: TensorRT fuses by itself
and knows none of the operations that the unpadded graph is made of. The first opening takes minutes; the built engine
is cached, for this GPU and these library releases only.
"""

import ctypes
import threading
from pathlib import Path
from typing import Any

import numpy as np

from pairscore.runtime.bundle.manifest import sha256
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.devices import device_index
from pairscore.runtime.engines.onnxruntime.cuda import BoundStream, check_cuda
from pairscore.runtime.engines.onnxruntime.session import (
    import_onnxruntime,
    input_types,
    new_session_options,
    open_session,
)
from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.machine import cache_folder
from pairscore.runtime.types import FloatArray

TOKEN_BUDGET = 32_768
PROVIDER = "TensorrtExecutionProvider"
_LIBRARY = "libnvinfer.so.10"
# The shapes (pairs, tokens) that an engine has to take, and those that it is tuned for. Its memory is that of the
# largest, so batches of more pairs are split.
SMALLEST, TYPICAL, LARGEST = (1, 1), (512, 64), (1024, 512)


class TensorRtEngine:
    """One session. TensorRT computes one batch at a time in it; a second caller prepares the next.

    device: cuda or cuda:N. Raises PairscoreError naming what is missing.
    """

    name = "tensorrt"

    def __init__(self, graph: Path, precision: str, device: str, options: EngineOptions) -> None:
        if device == "cpu":
            raise PairscoreError("TensorRT needs a GPU: use --device cuda, or another engine")
        if precision != "fp16":
            raise PairscoreError(f"TensorRT does not run {precision}: use --precision fp16")
        ort = import_onnxruntime()
        check_cuda(ort, device)
        check_tensorrt(ort)
        self.device = device
        self.callers = options.streams
        self.token_budget = options.token_budget or TOKEN_BUDGET
        plain = open_session(ort, graph, ort.SessionOptions(), ("CPUExecutionProvider", {}), "cpu")
        settings = provider_options(graph, device, tuple(input_types(plain)))
        session = open_session(ort, graph, new_session_options(ort, options), (PROVIDER, settings), device)
        self._stream = BoundStream(session)
        self._lock = threading.Lock()

    def run(self, batch: Batch) -> FloatArray:
        most = LARGEST[0]
        with self._lock:
            return np.concatenate(
                [self._stream.run(batch.part(slice(start, start + most))) for start in range(0, len(batch.rows), most)]
            )


open_engine = TensorRtEngine


def check_tensorrt(ort: Any) -> None:
    """Raise PairscoreError where this ONNX Runtime has no TensorRT, or the system lacks its library."""
    if PROVIDER not in ort.get_available_providers():
        raise PairscoreError(f"this ONNX Runtime ({ort.__version__}) has no TensorRT: use --engine onnxruntime")
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise PairscoreError(
            f"{_LIBRARY} is missing: put TensorRT 10 on the library path, or use --engine onnxruntime"
        ) from error


def provider_options(graph: Path, device: str, inputs: tuple[str, ...]) -> dict[str, str]:
    """ONNX Runtime's options of its TensorRT provider: fp16, the shapes to expect, and where engines are kept."""
    cache = cache_folder() / "tensorrt" / sha256(graph)[:32]
    cache.mkdir(parents=True, exist_ok=True)
    return {
        "device_id": str(device_index(device)),
        "trt_fp16_enable": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache),
        **{
            f"trt_profile_{kind}_shapes": ",".join(f"{name}:{rows}x{length}" for name in inputs)
            for kind, (rows, length) in (("min", SMALLEST), ("opt", TYPICAL), ("max", LARGEST))
        },
    }
