"""Stand-ins for GPUs: ONNX Runtime on the CPU under a GPU's name, and host memory in place of a device's."""

import ctypes
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


class HostMemory:
    """`CudaMemory` in ordinary memory. What comes back from the "device" arrives only when it is waited for."""

    device_type = "cpu"
    device_id = 0

    def __init__(self) -> None:
        self.buffers = {}
        self.queued = []

    def _new(self, size: int) -> int:
        buffer = ctypes.create_string_buffer(size)
        self.buffers[ctypes.addressof(buffer)] = buffer
        return ctypes.addressof(buffer)

    new_device = new_host = _new

    def free(self, device: int, host: int) -> None:
        del self.buffers[device], self.buffers[host]

    def to_device(self, target: int, source: int, size: int, stream: str) -> None:
        assert size <= min(len(self.buffers[target]), len(self.buffers[source]))
        ctypes.memmove(target, source, size)

    def to_host(self, target: int, source: int, size: int, stream: str) -> None:
        assert size <= min(len(self.buffers[target]), len(self.buffers[source]))
        self.queued.append((target, source, size))

    def wait(self, stream: str) -> None:
        for target, source, size in self.queued:
            ctypes.memmove(target, source, size)
        self.queued.clear()
