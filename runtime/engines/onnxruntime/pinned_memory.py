"""A session on a CUDA stream of its own, fed from page-locked memory.

Copies from ordinary memory make the driver copy twice and the host wait. Here token ids are written into page-locked
memory once, and copy in, computing and copy out are queued on one stream that is waited for once a batch. The calls are
those of the CUDA runtime's C interface (CUDA Runtime API reference, sections 5.4, 5.9 and 5.10).
"""

import ctypes
from typing import Any

import numpy as np

from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.onnxruntime.session import input_types
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.types import FloatArray

_LIBRARIES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so")
_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind
_NON_BLOCKING = 1  # cudaStreamNonBlocking: does not wait for the default stream


class CudaMemory:
    """Memory of one device and of the host beside it, by the CUDA runtime. Every call that fails raises PairscoreError.

    Addresses are integers, sizes are in bytes. `device_type`, `device_id`: as ONNX Runtime names the device.
    """

    device_type = "cuda"

    def __init__(self, device_id: int) -> None:
        self.device_id = device_id
        self._library = _load()
        self._check("cudaSetDevice", device_id)

    def new_stream(self) -> str:
        """A stream's handle as a decimal number, which is how ONNX Runtime takes it."""
        handle = ctypes.c_void_p()
        self._check("cudaStreamCreateWithFlags", ctypes.byref(handle), _NON_BLOCKING)
        return str(handle.value or 0)

    def new_device(self, size: int) -> int:
        """The address of new memory on the device."""
        return self._new("cudaMalloc", size)

    def new_host(self, size: int) -> int:
        """The address of new page-locked memory on the host."""
        return self._new("cudaMallocHost", size)

    def free(self, device: int, host: int) -> None:
        """Give back a pair of what `new_device` and `new_host` gave."""
        self._check("cudaFree", ctypes.c_void_p(device))
        self._check("cudaFreeHost", ctypes.c_void_p(host))

    def to_device(self, target: int, source: int, size: int, stream: str) -> None:
        """Queue a copy from page-locked memory."""
        self._copy(target, source, size, _TO_DEVICE, stream)

    def to_host(self, target: int, source: int, size: int, stream: str) -> None:
        """Queue a copy into page-locked memory."""
        self._copy(target, source, size, _TO_HOST, stream)

    def wait(self, stream: str) -> None:
        """Wait until all that was queued on the stream is done."""
        self._check("cudaStreamSynchronize", ctypes.c_void_p(int(stream)))

    def _new(self, function: str, size: int) -> int:
        self._check("cudaSetDevice", self.device_id)  # the device belongs to the thread
        address = ctypes.c_void_p()
        self._check(function, ctypes.byref(address), ctypes.c_size_t(size))
        return address.value or 0

    def _copy(self, target: int, source: int, size: int, kind: int, stream: str) -> None:
        self._check(
            "cudaMemcpyAsync",
            ctypes.c_void_p(target),
            ctypes.c_void_p(source),
            ctypes.c_size_t(size),
            kind,
            ctypes.c_void_p(int(stream)),
        )

    def _check(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code:
            self._library.cudaGetErrorString.restype = ctypes.c_char_p
            reason = (self._library.cudaGetErrorString(code) or b"?").decode()
            raise PairscoreError(f"{function} on cuda:{self.device_id} failed ({reason}): use --device cpu")


class _Buffer:
    """Memory on the device with its counterpart on the host; grows when more is asked for."""

    def __init__(self, memory: CudaMemory, size: int) -> None:
        self._memory = memory
        self._size = 0
        self.device = self.host = 0
        self.reserve(size)

    def reserve(self, size: int) -> None:
        if size > self._size:
            if self._size:
                self._memory.free(self.device, self.host)
            self._size = size
            self.device, self.host = self._memory.new_device(size), self._memory.new_host(size)

    def view(self, count: int, kind: Any) -> np.ndarray:
        """The host's part as `count` numbers of a kind."""
        size = count * np.dtype(kind).itemsize
        return np.ctypeslib.as_array((ctypes.c_byte * size).from_address(self.host)).view(kind)


class PinnedStream:
    """A session whose provider computes on `stream`. One call at a time."""

    def __init__(self, ort: Any, session: Any, memory: CudaMemory, stream: str, tokens: int) -> None:
        """`tokens`: of the largest batch that is expected; larger ones make the buffers grow."""
        self._session, self._memory, self._stream = session, memory, stream
        self._inputs = input_types(session)
        self._output = session.get_outputs()[0].name
        self._labels = int(session.get_outputs()[0].shape[-1])
        self._buffers = {name: _Buffer(memory, tokens * np.dtype(kind).itemsize) for name, kind in self._inputs.items()}
        self._result = _Buffer(memory, 4096)
        self._binding = session.io_binding()
        self._options = ort.RunOptions()
        # The one wait is ours, behind the copy of the result.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def run(self, batch: Batch) -> FloatArray:
        """Logits of the batch, Shape (n, labels)."""
        where = (self._memory.device_type, self._memory.device_id)
        rows, length = batch.input_ids.shape
        for name, kind in self._inputs.items():
            buffer, size = self._buffers[name], rows * length * np.dtype(kind).itemsize
            buffer.reserve(size)
            buffer.view(rows * length, kind)[:] = batch.input(name).ravel()
            self._memory.to_device(buffer.device, buffer.host, size, self._stream)
            self._binding.bind_input(name, *where, kind, (rows, length), buffer.device)
        count = rows * self._labels
        self._result.reserve(4 * count)
        shape = (rows, self._labels)
        self._binding.bind_output(self._output, *where, np.float32, shape, self._result.device)
        self._session.run_with_iobinding(self._binding, self._options)
        self._memory.to_host(self._result.host, self._result.device, 4 * count, self._stream)
        self._memory.wait(self._stream)
        return self._result.view(count, np.float32).reshape(shape).copy()


def _load() -> ctypes.CDLL:
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise PairscoreError(
        f"the CUDA runtime is missing ({_LIBRARIES[0]}): `pip install pairscore[gpu]`, or use --device cpu"
    )
