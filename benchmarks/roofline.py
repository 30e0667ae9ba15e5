"""How fast this machine multiplies matrices of the model's shapes, in each precision, with the engines' own libraries.

The functions are loaders as in `loaders.py`: they predict nothing, and count operations a second. PyTorch is no measure
here: its MKL takes an AVX2 path on AMD processors, where ONNX Runtime and oneDNN go faster.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from pairscore.benchmarks.environment import BF16_INSTRUCTIONS, instruction_sets
from pairscore.benchmarks.loaders import Files, Logits, Pairs, Predict

LIBRARIES = ("onnxruntime", "openvino", "pairscore_kernels")
ROWS = (512, 2048)
# So many products follow each other, there and back, that reading the input and writing the result hardly count.
LINKS = 3
SECONDS_A_PRODUCT = 0.15
SPELLS = 4

Shape = tuple[int, int, int]
Product = Callable[[], object]


def rates(files: Files, library: str, hidden: int, inner: int, threads: int) -> Predict:
    """Operations a second by "precision rows inputs outputs". `hidden`, `inner`: the model's sizes.

    Each of the threads computes products of its own. Our kernels also have rates of the instruction sets that they can
    be made to use, as "int8-avx2".
    """
    del files
    make = {"onnxruntime": _onnxruntime, "openvino": _openvino, "pairscore_kernels": _kernels}[library]
    shapes = [(rows, hidden, outputs) for rows in ROWS for outputs in (3 * hidden, inner)]
    products = {
        f"{precision} {' '.join(map(str, shape))}": (shape, [opened() for _ in range(threads)])
        for shape in shapes
        for precision, opened in make(shape, threads).items()
    }

    def measure(pairs: Pairs) -> tuple[Logits, Mapping[str, float]]:
        seconds = min(SECONDS_A_PRODUCT, len(pairs) / 1000)  # a lead-in of few pairs is as short
        found = {}
        for name, (shape, calls) in products.items():
            work = 2 * LINKS * 2 * float(np.prod(shape))
            if library == "pairscore_kernels":  # a single operation holds the GIL, so that threads would wait
                found[name] = work * threads * _calls_per_second(calls[:1], seconds)
            else:
                found[name] = work * _calls_per_second(calls, seconds)
        return np.zeros(len(pairs), np.float32), found

    return measure


def best(measured: Sequence[tuple[str, Mapping[str, float]]]) -> dict[str, dict[str, Any]]:
    """Precision -> its highest rate, with the library and shape that reached it. measured: (library, rates) of runs."""
    found: dict[str, dict[str, Any]] = {}
    for library, rates_of in measured:
        for name, rate in rates_of.items():
            precision, *shape = name.split()
            if rate > found.get(precision, {}).get("operations_per_second", 0):
                found[precision] = {
                    "operations_per_second": rate, "library": library, "shape": [int(size) for size in shape],
                }  # fmt: skip
    return found


def _calls_per_second(calls: Sequence[Product], seconds: float) -> float:
    """Of all calls together, each repeated in a thread of its own: the best of several spells."""
    return max(_one_spell(calls, seconds) for _ in range(SPELLS))


def _one_spell(calls: Sequence[Product], seconds: float) -> float:
    done: list[float] = []

    def repeat(call: Product) -> None:
        call()
        started, count = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < seconds or not count:
            call()
            count += 1
        done.append(count / elapsed)

    running = [threading.Thread(target=repeat, args=(call,)) for call in calls]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(done)


def _weights(inputs: int, outputs: int) -> Any:
    return np.random.default_rng(0).uniform(-0.1, 0.1, (inputs, outputs)).astype(np.float32)


def _onnxruntime(shape: Shape, threads: int) -> dict[str, Callable[[], Product]]:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    del threads  # a session each
    rows, inputs, outputs = shape
    sizes = [(inputs, outputs), (outputs, inputs)] * LINKS
    nodes = [helper.make_node("MatMul", [f"x{k}", f"w{k}"], [f"x{k + 1}"]) for k in range(len(sizes))]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, inputs]) for name in ("x0", f"x{len(sizes)}")]
    weights = [numpy_helper.from_array(_weights(*size), f"w{k}") for k, size in enumerate(sizes)]
    graph = helper.make_graph(nodes, "products", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a run computes in the thread that called it
    session: Any = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"x0": _weights(rows, inputs)}
    return {"fp32": lambda: partial(session.run, None, feeds)}


def _openvino(shape: Shape, threads: int) -> dict[str, Callable[[], Product]]:
    import openvino
    from openvino import opset13 as op

    rows, inputs, outputs = shape
    core = openvino.Core()

    def quantized(value: Any, low: float, high: float, levels: int) -> Any:
        ends = [op.constant(np.float32(end)) for end in (low, high, low, high)]
        return op.fake_quantize(value, *ends, levels)

    def opened(hint: str, *, int8: bool) -> Callable[[], Product]:
        given = value = op.parameter([rows, inputs], np.float32)
        for size in [(inputs, outputs), (outputs, inputs)] * LINKS:
            weights = op.constant(_weights(*size))
            if int8:  # as OpenVINO wants it said: unsigned activations, signed weights
                value, weights = quantized(value, 0, 2.55, 256), quantized(weights, -0.127, 0.127, 255)
            value = op.matmul(value, weights, False, False)
        make_model: Any = openvino.Model
        model = make_model([op.result(value)], [given])
        compiled = core.compile_model(
            model, "CPU", {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads}
        )

        def request() -> Product:
            asked: Any = compiled.create_infer_request()
            asked.set_input_tensor(openvino.Tensor(_weights(rows, inputs)))
            run: Product = asked.infer
            return run

        return request

    found = {"fp32": opened("f32", int8=False), "int8": opened("f32", int8=True)}
    if BF16_INSTRUCTIONS & {*instruction_sets()}:
        found["bf16"] = opened("bf16", int8=False)
    return found


def _kernels(shape: Shape, threads: int) -> dict[str, Callable[[], Product]]:
    import pairscore_kernels.operations as kernels  # pyright: ignore[reportMissingImports]
    from pairscore_kernels import available  # pyright: ignore[reportMissingImports]

    del threads
    rows, inputs, outputs = shape
    values = [_weights(rows * LINKS, size) for size in (inputs, outputs)]
    # Weights up to 32, of which four add up to no more than what AVX2 multiplies fastest (docs/kernels.md).
    layers = [
        ((_weights(b, a) * 320).astype(np.int8), np.full(b, 0.001, np.float32), np.zeros(b, np.float32))
        for a, b in ((inputs, outputs), (outputs, inputs))
    ]

    def opened(isa: str) -> Product:
        # Results go where the last call's went: new memory costs as much as a fifth of the products.
        outs = [np.empty((rows * LINKS, size), np.float32) for size in (outputs, inputs)]
        given = list(zip(values, layers, outs, strict=True))
        return lambda: [kernels.linear(x, *layer, isa=isa, out=out) for x, layer, out in given]

    best, *others = available()
    named = {"int8": best} | {f"int8-{isa}": isa for isa in others if isa != "portable"}
    return {name: partial(opened, isa) for name, isa in named.items()}
