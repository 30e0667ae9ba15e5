"""ONNX Runtime: on the CPU and on CUDA devices."""

from pathlib import Path

from pairscore.runtime.engines.protocol import Engine, EngineOptions


def open_engine(graph: Path, precision: str, device: str, options: EngineOptions) -> Engine:
    """Open `graph` on `device`: cpu, cuda or cuda:N. Raises PairscoreError naming what is missing."""
    if device == "cpu":
        from pairscore.runtime.engines.onnxruntime.cpu import OnnxRuntimeEngine

        return OnnxRuntimeEngine(graph, options)
    from pairscore.runtime.engines.onnxruntime.cuda import CudaEngine

    return CudaEngine(graph, device, options)
