"""ONNX Runtime on the CPU and on CUDA devices."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from pairscore.runtime.engines import available_cores
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.pairs import Batch
from pairscore.runtime.parity import FloatArray

CPU_TOKEN_BUDGET = 1024
CUDA_TOKEN_BUDGET = 32768


class OnnxRuntimeEngine:
    """One session, called by several threads at once.

    On a CPU the session itself is single-threaded: every calling thread computes its own batch on its own
    core, which wastes nothing on synchronisation and keeps one copy of the weights. `threads`: how many of
    them; a GPU is called by two, whatever it says.
    """

    name = "onnxruntime"

    def __init__(self, graph: Path, precision: str, device: str, threads: int | None = None) -> None:
        ort = _import_onnxruntime()
        provider, provider_options = _provider(ort, device)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(graph), options, providers=[(provider, provider_options)])
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
        self.callers = (threads or available_cores()) if on_cpu else 2
        self.token_budget = CPU_TOKEN_BUDGET if on_cpu else CUDA_TOKEN_BUDGET

    def run(self, batch: Batch) -> FloatArray:
        """Logits of the batch, Shape (n, labels)."""
        feeds = {}
        for name in self._inputs:
            values = batch.input(name)
            feeds[name] = values.astype(self._types[name], copy=False)
        (logits,) = self._session.run([self._output], feeds)
        return np.asarray(logits, dtype=np.float32)


def open_engine(graph: Path, precision: str, device: str, threads: int | None = None) -> OnnxRuntimeEngine:
    """Open `graph` on `device`: cpu, cuda or cuda:N. Raises PairscoreError naming what is missing."""
    return OnnxRuntimeEngine(graph, precision, device, threads)


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
