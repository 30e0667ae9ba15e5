"""What of the GPU engines needs no GPU: bound and pinned runs on the CPU, the choice of devices, clear refusals."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest

from pairscore import PairscoreError
from pairscore.export.bundle import export_bundle
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.devices import split_devices
from pairscore.runtime.engines.onnxruntime import cuda, tensorrt
from pairscore.runtime.engines.onnxruntime.cpu import OnnxRuntimeEngine
from pairscore.runtime.engines.onnxruntime.pinned_memory import CudaMemory, PinnedStream
from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.engines.registry import choose_engine
from tests.gpu_fakes import HostMemory


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
    for module in (cuda, tensorrt):
        monkeypatch.setattr(module, "check_cuda", lambda ort, device: None)
        monkeypatch.setattr(module, "open_session", on_cpu)
    monkeypatch.setattr(tensorrt, "check_tensorrt", lambda ort: None)


def test_a_bound_run_gives_what_a_plain_run_gives(graph, no_gpu_needed):
    plain = OnnxRuntimeEngine(graph, EngineOptions())
    engine = cuda.CudaEngine(graph, "cuda:1", EngineOptions(streams=3))
    assert (engine.device, engine.callers, engine.token_budget) == ("cuda:1", 3, cuda.TOKEN_BUDGET)
    batches = [batch_of(*shape, seed) for seed, shape in enumerate(SHAPES * 4)]
    with ThreadPoolExecutor(3) as callers:
        for batch, logits in zip(batches, callers.map(engine.run, batches), strict=True):
            np.testing.assert_array_equal(logits, plain.run(batch))


def test_a_pinned_run_gives_what_a_plain_run_gives(graph):
    """Starting with room for 8 tokens, so that most batches make the buffers grow."""
    plain, memory = OnnxRuntimeEngine(graph, EngineOptions()), HostMemory()
    session = ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    stream = PinnedStream(ort, session, memory, "0", tokens=8)
    kept = []
    for seed, shape in enumerate(SHAPES):
        batch = batch_of(*shape, seed)
        kept.append((stream.run(batch), plain.run(batch)))
    for logits, expected in kept:  # later runs do not touch earlier results
        np.testing.assert_array_equal(logits, expected)
    assert len(memory.buffers) == 2 * (len(session.get_inputs()) + 1)


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
    assert choose_engine("auto", "fp16", "cpu", ("onnxruntime", "tensorrt")) == "onnxruntime"


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


def test_tensorrt_without_its_library_names_it(monkeypatch):
    def refuse(name):
        raise OSError(name)

    module = SimpleNamespace(__version__="1.0", get_available_providers=lambda: [tensorrt.PROVIDER])
    monkeypatch.setattr(tensorrt.ctypes, "CDLL", refuse)
    with pytest.raises(PairscoreError, match=r"libnvinfer\.so\.10 is missing"):
        tensorrt.check_tensorrt(module)
    module.get_available_providers = list
    with pytest.raises(PairscoreError, match="has no TensorRT"):
        tensorrt.check_tensorrt(module)


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU")
def test_the_cuda_runtime_without_a_gpu_is_one_clear_line():
    with pytest.raises(PairscoreError, match=r"libcudart|on cuda:0 failed \(") as caught:
        CudaMemory(0)
    assert "\n" not in str(caught.value)


def test_tensorrt_splits_batches_and_names_its_shapes(exported, no_gpu_needed, monkeypatch):
    monkeypatch.setattr(tensorrt, "LARGEST", (16, 64))
    graph = exported("bert").bundle / "onnx/model.onnx"
    engine = tensorrt.open_engine(graph, "fp16", "cuda:0", EngineOptions())
    batch = batch_of(50, 12)
    np.testing.assert_allclose(engine.run(batch), OnnxRuntimeEngine(graph, EngineOptions()).run(batch), atol=1e-5)
    options = tensorrt.provider_options(graph, "cuda:2", ("input_ids", "attention_mask"))
    assert options["device_id"] == "2"
    assert options["trt_profile_max_shapes"] == "input_ids:16x64,attention_mask:16x64"
    assert options["trt_profile_min_shapes"] == "input_ids:1x1,attention_mask:1x1"


@pytest.mark.parametrize(
    ("precision", "device", "message"),
    [("fp16", "cpu", "TensorRT needs a GPU"), ("fp32", "cuda", "does not run fp32"), ("fp16", "cuda", "has no CUDA")],
)
def test_tensorrt_where_it_cannot_run(exported, precision, device, message):
    with pytest.raises(PairscoreError, match=message):
        tensorrt.open_engine(exported("bert").bundle / "onnx/model.onnx", precision, device, EngineOptions())


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
