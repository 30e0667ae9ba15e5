"""What of the GPU engines needs no GPU: bound runs on the CPU, the choice of devices, clear refusals."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest

from pairscore import PairscoreError
from pairscore.export.api import export_bundle
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.devices import split_devices
from pairscore.runtime.engines.onnxruntime import cuda
from pairscore.runtime.engines.onnxruntime.cpu import OnnxRuntimeEngine
from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.engines.registry import choose_engine


@pytest.fixture(scope="module", params=[("bert", 1, "fp32"), ("roberta", 3, "fp32"), ("bert", 1, "fp16")], ids=str)
def graph(request, exported, tmp_path_factory):
    family, labels, precision = request.param
    checkpoint, bundle = exported(family, labels)
    if precision == "fp32":
        return bundle / "onnx/model.onnx"
    made = shutil.copytree(bundle, tmp_path_factory.mktemp("fp16") / "bundle")
    export_bundle(str(checkpoint), made, precision=precision, min_spearman=0.9)
    return made / "onnx/model_fp16_unpadded.onnx"


def batch_of(rows, length, seed=0):
    random = np.random.default_rng(seed)
    ids = random.integers(5, 200, (rows, length))
    return Batch(np.arange(rows), ids, np.zeros_like(ids))


SHAPES = [(1, 3), (7, 20), (2, 64), (40, 5), (1, 64), (300, 4)]


def on_cpu(_, graph, session_options, provider, device):
    """In place of `open_session`: the same session on the CPU."""
    return ort.InferenceSession(str(graph), session_options, providers=["CPUExecutionProvider"])


@pytest.fixture
def no_gpu_needed(monkeypatch):
    monkeypatch.setattr(cuda, "check_cuda", lambda ort, device: None)
    monkeypatch.setattr(cuda, "open_session", on_cpu)


def test_a_bound_run_gives_what_a_plain_run_gives(graph, no_gpu_needed):
    plain = OnnxRuntimeEngine(graph, EngineOptions())
    engine = cuda.CudaEngine(graph, "cuda:1", EngineOptions(streams=3))
    assert (engine.device, engine.callers, engine.token_budget) == ("cuda:1", 3, cuda.TOKEN_BUDGET)
    batches = [batch_of(*shape, seed) for seed, shape in enumerate(SHAPES * 4)]
    with ThreadPoolExecutor(3) as callers:
        for batch, logits in zip(batches, callers.map(engine.run, batches), strict=True):
            np.testing.assert_array_equal(logits, plain.run(batch))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cuda:0,cuda:0", "not different GPUs"),
        ("cuda,cuda:0", "not different GPUs"),
        ("cpu,cuda:0", "not different GPUs"),
        ("cuda:0,gpu:1", "unknown device 'gpu:1'"),
        ("cuda:", "unknown device 'cuda:'"),
        ("cuda:0,", "unknown device ''"),
    ],
)
def test_devices_that_make_no_sense_are_refused(text, message):
    with pytest.raises(PairscoreError, match=message):
        split_devices(text)


def test_devices_are_split():
    assert split_devices("cuda:1, cuda:0") == ("cuda:1", "cuda:0")
    assert split_devices("cuda") == ("cuda",)


def test_auto_takes_an_engine_that_serves_the_device():
    assert choose_engine("auto", "fp32", "cuda:0,cuda:1", ("openvino", "onnxruntime")) == "onnxruntime"
    assert choose_engine("auto", "fp32", "cpu", ("openvino", "onnxruntime")) == "openvino"
    assert choose_engine("auto", "fp16", "cpu", ("onnxruntime", "openvino")) == "onnxruntime"


def test_a_missing_library_is_named(tmp_path):
    """ONNX Runtime with CUDA, whose provider library does not load: a stand-in for a machine without CUDA."""
    capi = tmp_path / "capi"
    capi.mkdir()
    module = SimpleNamespace(
        __version__="1.0", __file__=str(tmp_path / "__init__.py"), get_available_providers=lambda: [cuda.PROVIDER]
    )
    with pytest.raises(PairscoreError, match=r"libonnxruntime_providers_cuda\.so is missing: `pip install pairscore"):
        cuda.check_cuda(module, "cuda")
    (capi / "libonnxruntime_providers_cuda.so").write_text("no library")
    with pytest.raises(PairscoreError, match=r"'cuda' was asked for, and .*invalid ELF header|file too short"):
        cuda.check_cuda(module, "cuda")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (
            "libcublasLt.so.13: cannot open shared object file: No such file or directory",
            "libcublasLt.so.13 is missing",
        ),
        ("libcuda.so.1: cannot open shared object file: No such file", "NVIDIA's driver is not here"),
        ("/x/libonnxruntime_providers_cuda.so: undefined symbol: Provider_GetHost", None),
    ],
)
def test_what_the_loader_says_is_understood(monkeypatch, tmp_path, reason, expected):
    def refuse(name):
        raise OSError(reason)

    monkeypatch.setattr(cuda.ctypes, "CDLL", refuse)
    found = cuda.missing_library(tmp_path)
    assert found is None if expected is None else found.startswith(expected)


def test_a_stream_serves_one_call_at_a_time(exported, no_gpu_needed, monkeypatch):
    running, most, lock = [], [], threading.Lock()
    honest = cuda.BoundStream.run

    def watched(self, batch):
        with lock:
            running.append(id(self))
            most.append(len(running))
            assert len(set(running)) == len(running)
        try:
            return honest(self, batch)
        finally:
            with lock:
                running.remove(id(self))

    monkeypatch.setattr(cuda.BoundStream, "run", watched)
    engine = cuda.CudaEngine(exported("bert").bundle / "onnx/model.onnx", "cuda", EngineOptions(streams=2))
    with ThreadPoolExecutor(6) as callers:
        list(callers.map(engine.run, [batch_of(8, 32)] * 60))
    assert max(most) == 2
