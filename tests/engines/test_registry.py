"""Engines: what was asked for, or one clear line."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pairscore import PairscoreError, Scorer
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.engines.registry import open_engine
from pairscore.runtime.machine import available_cores
from tests.conftest import Exported


@pytest.fixture(scope="module")
def graph(exported: Callable[..., Exported]) -> Path:
    return exported("bert").bundle / "onnx" / "model.onnx"


@pytest.mark.parametrize(
    ("engine", "device", "message"),
    [
        ("tensorflow", "cpu", "unknown engine 'tensorflow': use auto, onnxruntime"),
        ("onnxruntime", "tpu", "unknown device 'tpu': use cpu, cuda, cuda:N, or several"),
        ("onnxruntime", "cuda:x", "unknown device 'cuda:x'"),
        ("onnxruntime", "cpu:1", "unknown device 'cpu:1'"),
        ("onnxruntime", "cuda", "has no CUDA.*pairscore\\[gpu\\]"),
        ("auto", "cuda:0", "has no CUDA"),
    ],
)
def test_what_is_not_there_is_refused(graph: Path, engine: str, device: str, message: str) -> None:
    with pytest.raises(PairscoreError, match=message):
        open_engine(engine, graph, "fp32", device, ("onnxruntime",))


def test_an_engine_that_the_variant_does_not_name_is_refused(graph: Path) -> None:
    with pytest.raises(PairscoreError, match="the bf16 variant does not run on onnxruntime: use --engine openvino"):
        open_engine("onnxruntime", graph, "bf16", "cpu", ("openvino",))


def test_a_broken_graph_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(PairscoreError, match=r"cannot open .*model\.onnx") as caught:
        open_engine("onnxruntime", path, "fp32", "cpu", ("onnxruntime",))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_calls_from_several_threads_give_what_one_gives(graph: Path, name: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    engine = open_engine(name, graph, "fp32", "cpu", (name,), options=EngineOptions(threads=4))
    assert engine.callers == 4
    random = np.random.default_rng(0)
    batches = []
    for length in random.integers(3, 64, size=40):
        ids = random.integers(5, 200, size=(int(random.integers(1, 5)), length))
        batches.append(Batch(np.arange(len(ids)), ids, np.zeros_like(ids)))
    alone = [engine.run(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(engine.run, batches))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_threads_bound_the_calls_at_once(exported: Callable[..., Exported]) -> None:
    scorer = Scorer.from_pretrained(exported("bert").bundle, threads=3)
    assert scorer.engine.callers == 3
    running: list[int] = []
    most = 0
    lock, all_there, plain = threading.Lock(), threading.Barrier(3), scorer.engine.run

    def counted(batch: Batch) -> np.ndarray:
        nonlocal most
        with lock:
            running.append(1)
            most = max(most, len(running))
        try:
            all_there.wait(timeout=60)
            return plain(batch)
        finally:
            with lock:
                running.pop()

    scorer.engine.run = counted
    scorer.engine.token_budget = 1
    scorer.predict([(f"claim {number}", "evidence") for number in range(60)])
    assert most == 3


def test_threads_default_to_the_cores(exported: Callable[..., Exported]) -> None:
    assert Scorer.from_pretrained(exported("bert").bundle).engine.callers == available_cores()


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_below_one_are_refused(exported: Callable[..., Exported], threads: int) -> None:
    with pytest.raises(PairscoreError, match=f"threads is {threads}: give 1 or more"):
        Scorer.from_pretrained(exported("bert").bundle, threads=threads)


def test_both_packages_installed_is_an_error(exported: Callable[..., Exported], tmp_path: Path) -> None:
    """The second package is real metadata on the path, as pip would leave it."""
    for name in ("onnxruntime", "onnxruntime-gpu"):
        info = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from pairscore import Scorer; "
        f"Scorer.from_pretrained({str(exported('bert').bundle)!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "both onnxruntime and onnxruntime-gpu are installed" in done.stderr
    assert "pip uninstall" in done.stderr


def test_a_package_that_does_not_import_is_an_error(exported: Callable[..., Exported], tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libsomething.so is missing')")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from pairscore import Scorer; "
        f"Scorer.from_pretrained({str(exported('bert').bundle)!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "libsomething.so is missing" in done.stderr.splitlines()[-1]
    assert "pip install pairscore[cpu]" in done.stderr.splitlines()[-1]


def test_available_cores_is_what_the_process_may_use() -> None:
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from pairscore.runtime.machine import available_cores; print(available_cores())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    assert available_cores() >= 1


def test_golden_rows_catch_an_engine_that_computes_something_else(
    exported: Callable[..., Exported], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pairscore.runtime.engines.onnxruntime import cpu as onnxruntime

    bundle = exported("bert").bundle  # by the honest engine
    honest = onnxruntime.OnnxRuntimeEngine.run
    monkeypatch.setattr(onnxruntime.OnnxRuntimeEngine, "run", lambda self, batch: honest(self, batch) + 1e-3)
    with pytest.raises(PairscoreError, match=r"does not reproduce its golden rows.*max_logit_difference 0\.001"):
        Scorer.from_pretrained(bundle)
