"""ONNX Runtime on one CUDA device.

A GPU is fast where nothing waits for the host: several streams, so that the copies and launches of one batch hide
behind the computing of another; inputs and outputs bound, so that each batch costs one copy in and one copy out; large
batches of one length, so that nothing is padded and attention runs in fused kernels.
"""

import contextlib
import ctypes
import io
import sys
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.devices import device_index
from pairscore.runtime.engines.onnxruntime.session import (
    import_onnxruntime,
    input_types,
    new_session_options,
    open_session,
)
from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.types import FloatArray

TOKEN_BUDGET = 65_536
# Bits of ONNX Runtime's AttentionBackend: flash attention, or else the memory-efficient one. By itself it takes cuDNN's
# on an H100, which builds a plan for every new shape of batch. Batches come in hundreds of shapes, and building plans
# took nearly all of the time.
_ATTENTION_KERNELS = 1 | 2
PROVIDER = "CUDAExecutionProvider"
_PROVIDER_LIBRARY = "libonnxruntime_providers_cuda.so"
_INSTALL = "`pip install pairscore[gpu]` brings all but NVIDIA's driver; or use --device cpu"


class CudaEngine:
    """One session whose runs get a CUDA stream each."""

    name = "onnxruntime"

    def __init__(self, graph: Path, device: str, options: EngineOptions) -> None:
        ort = import_onnxruntime()
        check_cuda(ort, device)
        session_options = new_session_options(ort, options)
        # Batches come in hundreds of shapes; a memory plan for each of them would fragment the arena.
        session_options.enable_mem_pattern = False
        provider_options = {
            "device_id": str(device_index(device)),
            # TF32 rounds to 10 bits, so it would break the promise of fp32.
            "use_tf32": "0",
            "sdpa_kernel": str(_ATTENTION_KERNELS),
        }
        self.device = device
        self.callers = options.streams
        self.token_budget = options.token_budget or TOKEN_BUDGET
        session = open_session(ort, graph, session_options, (PROVIDER, provider_options), device)
        self._streams: SimpleQueue[BoundStream] = SimpleQueue()
        for _ in range(options.streams):
            self._streams.put(BoundStream(session))

    def run(self, batch: Batch) -> FloatArray:
        """As `Engine.run`; a batch that does not fit into the memory is halved."""
        stream = self._streams.get()
        try:
            return stream.run(batch)
        finally:
            self._streams.put(stream)


class BoundStream:
    """A session with inputs and outputs bound: ONNX Runtime copies both, in the stream of the run."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = input_types(session)
        self._output = session.get_outputs()[0].name
        self._binding = session.io_binding()

    def run(self, batch: Batch) -> FloatArray:
        """Logits of the batch, Shape (n, labels). One call at a time."""
        for name, values in batch.feeds(self._inputs).items():
            self._binding.bind_cpu_input(name, np.ascontiguousarray(values))
        self._binding.bind_output(self._output, "cpu")
        self._session.run_with_iobinding(self._binding)
        (logits,) = self._binding.copy_outputs_to_cpu()
        return np.array(logits, dtype=np.float32)


def check_cuda(ort: Any, device: str) -> None:
    """Raise PairscoreError, naming what is missing, where this ONNX Runtime cannot use CUDA."""
    if PROVIDER not in ort.get_available_providers():
        raise PairscoreError(
            f"device {device!r} was asked for, and this ONNX Runtime ({ort.__version__}) has no CUDA: "
            "`pip uninstall -y onnxruntime && pip install pairscore[gpu]`, or use --device cpu"
        )
    if hasattr(ort, "preload_dlls"):
        # Loads the libraries of NVIDIA's Python packages. The error below says better what it would print.
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()
    missing = missing_library(Path(ort.__file__).parent / "capi" / _PROVIDER_LIBRARY)
    if missing:
        raise PairscoreError(f"device {device!r} was asked for, and {missing}: {_INSTALL}")


def missing_library(provider: Path) -> str | None:
    """Why the library of ONNX Runtime's CUDA provider cannot be loaded; None where that is not the system's fault."""
    if sys.platform != "linux":
        return None  # the session's own error says what is missing
    try:
        ctypes.CDLL(str(provider))
    except OSError as error:
        reason = str(error).partition("\n")[0]
        # The provider takes symbols from ONNX Runtime, which is not loaded here, so a missing symbol is no error.
        if "undefined symbol" in reason:
            return None
        name = reason.partition(":")[0]
        if name == "libcuda.so.1":
            return "NVIDIA's driver is not here (libcuda.so.1 is missing)"
        if "cannot open shared object file" in reason:
            return f"{name} is missing"
        return f"{reason}"
    return None
