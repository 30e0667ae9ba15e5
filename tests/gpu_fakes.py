"""A stand-in for GPUs: ONNX Runtime on the CPU under a GPU's name."""

import threading
from pathlib import Path

from pairscore.runtime.engines.onnxruntime.cpu import OnnxRuntimeEngine
from pairscore.runtime.engines.protocol import EngineOptions

opened: list["FakeGpu"] = []


class FakeGpu(OnnxRuntimeEngine):
    """Computes on the CPU and counts the batches that it was given."""

    def __init__(self, graph: Path, device: str, options: EngineOptions) -> None:
        super().__init__(graph, options)
        self.device = device
        self.callers = options.streams
        self.batches = 0
        self._count = threading.Lock()

    def run(self, batch):
        with self._count:
            self.batches += 1
        return super().run(batch)


def open_engine(graph: Path, precision: str, device: str, options: EngineOptions) -> FakeGpu:
    """What the registry calls in an engine's module."""
    opened.append(FakeGpu(graph, device, options))
    return opened[-1]
