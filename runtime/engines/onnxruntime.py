"""ONNX Runtime on the CPU and on CUDA devices."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from pairscore.runtime.engines import EngineOptions
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.pairs import Batch
from pairscore.runtime.parity import FloatArray

CPU_TOKEN_BUDGET = 1024
CUDA_TOKEN_BUDGET = 32768


class OnnxRuntimeEngine:
    """One session, called by several threads at once.

    On a CPU the session itself is single-threaded: every calling thread computes its own batch on its own
    core, which wastes nothing on synchronisation and keeps one copy of the weights. A GPU is called by two,
    whatever the options say of threads.
    """

    name = "onnxruntime"

    def __init__(self, graph: Path, precision: str, device: str, options: EngineOptions) -> None:
        ort = _import_onnxruntime()
        provider, provider_options = _provider(ort, device)
        session_options = ort.SessionOptions()
        session_options.log_severity_level = 3
        session_options.intra_op_num_threads = options.threads_per_batch
        session_options.inter_op_num_threads = 1
        session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        for key, value in options.settings.items():
            session_options.add_session_config_entry(key, value)
        try:
            self._session = ort.InferenceSession(str(graph), session_options, providers=[(provider, provider_options)])
        except Exception as error:  # the library's exceptions share no base class of its own
            raise PairscoreError(f"ONNX Runtime cannot open {str(graph)!r} on {device}: {_line(error)}") from error
        if provider not in self._session.get_providers():
            raise PairscoreError(
                f"ONNX Runtime did not give {provider} for device {device!r} (it fell back to "
                f"{', '.join(self._session.get_providers())}): check the CUDA and cuDNN libraries, or use --device cpu"
            )
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._types = {
            node.name: np.int32 if node.type == "tensor(int32)" else np.int64 for node in self._session.get_inputs()
        }
        self._output = self._session.get_outputs()[0].name
        self.precision = precision
        self.device = device
        on_cpu = provider == "CPUExecutionProvider"
        self.callers = options.callers if on_cpu else 2
        self.token_budget = options.token_budget or (CPU_TOKEN_BUDGET if on_cpu else CUDA_TOKEN_BUDGET)

    def run(self, batch: Batch) -> FloatArray:
        """Logits of the batch, Shape (n, labels)."""
        feeds = {}
        for name in self._inputs:
            values = batch.input(name)
            feeds[name] = values.astype(self._types[name], copy=False)
        (logits,) = self._session.run([self._output], feeds)
        return np.asarray(logits, dtype=np.float32)


def open_engine(graph: Path, precision: str, device: str, options: EngineOptions) -> OnnxRuntimeEngine:
    """Open `graph` on `device`: cpu, cuda or cuda:N. Raises PairscoreError naming what is missing."""
    return OnnxRuntimeEngine(graph, precision, device, options)


def _import_onnxruntime() -> Any:
    found = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(found) == 2:
        raise PairscoreError(
            "both onnxruntime and onnxruntime-gpu are installed and overwrite each other's files: "
            "`pip uninstall -y onnxruntime onnxruntime-gpu`, then install pairscore[cpu] or pairscore[gpu]"
        )
    try:
        import onnxruntime
    except ImportError as error:
        reason = "ONNX Runtime is not installed" if not found else f"ONNX Runtime does not import ({_line(error)})"
        raise PairscoreError(f"{reason}: `pip install pairscore[cpu]` (or pairscore[gpu])") from error
    return onnxruntime


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def _provider(ort: Any, device: str) -> tuple[str, dict[str, str]]:
    kind, _, index = device.partition(":")
    if kind == "cpu" and not index:
        return "CPUExecutionProvider", {}
    if kind == "cuda" and (index.isdecimal() or device == "cuda"):
        if "CUDAExecutionProvider" not in ort.get_available_providers():
            raise PairscoreError(
                f"device {device!r} was asked for, and this ONNX Runtime ({ort.__version__}) has no CUDA: "
                "`pip uninstall -y onnxruntime && pip install pairscore[gpu]`, or use --device cpu"
            )
        return "CUDAExecutionProvider", {"device_id": index or "0"}
    raise PairscoreError(f"unknown device {device!r}: use cpu, cuda or cuda:N")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
