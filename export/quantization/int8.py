"""int8 graphs: weights and activations in int8, one scale for each group of channels.

Scales for a whole tensor are a dead end for cross-encoders: a few channels are a hundred times larger than the rest,
and a scale taken over a batch makes a pair's score depend on its neighbours. Here each row of activations is quantized
by itself, in groups of channels, while it is multiplied: by ONNX Runtime's `MatMulNBits` at accuracy level 4, and by
OpenVINO's dynamic quantization, which reads the same graph. Weights are rounded with GPTQ on the user's own pairs.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir
import onnxruntime as ort
from onnx_ir.convenience import replace_nodes_and_values
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnx_ir.tape import Tape

from pairscore.export.graphs.editing import MICROSOFT, data_file
from pairscore.export.quantization.calibration import Seen
from pairscore.export.quantization.gptq import gptq
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.onnxruntime.session import input_types
from pairscore.runtime.engines.registry import is_installed

INT8_NAME = "onnx/model_int8.onnx"
GROUP_SIZES = (32, 64, 128)
# Engines that run these graphs.
ENGINES = ("openvino", "onnxruntime")
# Activations in int8 too; OpenVINO goes by its own property instead.
_ACCURACY_LEVEL = 4
# Smaller matrices, such as a classifier's single column, cost no time and would only lose precision.
_SMALLEST_OUTPUTS = 16
_SENSITIVITY_BATCHES = 8


@dataclass(frozen=True)
class Product:
    """A matrix product with constant weights, by the name of its output. `weight`: Shape (inputs, outputs)."""

    name: str
    node: onnx_ir.Node
    weight: onnx_ir.TensorProtocol

    @property
    def inputs(self) -> int:
        """Channels of a row."""
        return int(self.weight.shape[0])


@dataclass(frozen=True)
class Candidate:
    """One way to run in int8, written to `files`, which belong in the bundle under the names `targets`.

    `settings`: see `Variant`. `inputs`: see `unmeasured`. `note`: what was done.
    """

    name: str
    files: tuple[Path, ...]
    targets: tuple[str, ...]
    engine: str
    settings: Mapping[str, str]
    note: str
    inputs: tuple[str, ...] | None = None


def products(model: onnx_ir.Model) -> list[Product]:
    """The matrix products of a graph that can be quantized, in the graph's order."""
    found = []
    for node in model.graph:
        weight = None if node.op_type != "MatMul" or node.inputs[1] is None else node.inputs[1].const_value
        if weight is not None and len(weight.shape) == 2 and weight.shape[1] >= _SMALLEST_OUTPUTS:
            found.append(Product(str(node.outputs[0].name), node, weight))
    return found


def weights(graph: Path) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """The weights of `products`, each with its name; those outside of the graph are read one by one."""
    for weight in {each.weight.name: each.weight for each in products(onnx_ir.load(graph))}.values():
        yield str(weight.name), weight.numpy()


def quantize(
    graph: Path, group_size: int, seen: Mapping[str, Seen] | None = None, keep: Collection[str] = ()
) -> tuple[onnx_ir.Model, str]:
    """The graph with every matrix product but those of `keep`, by name, in int8; and a sentence about it.

    seen: by the name of the weight; products whose weight is not there are rounded to nearest. A last group that
    channels do not fill is filled up with zeros; a product of fewer channels than a group stays as it is.
    """
    model = onnx_ir.load(graph)
    every = products(model)
    chosen = [each for each in every if each.inputs >= group_size and each.name not in keep]
    codes_of: dict[str, tuple[onnx_ir.Value, onnx_ir.Value]] = {}
    for product in chosen:
        node, name = product.node, str(product.weight.name)
        if name not in codes_of:
            missing = -product.inputs % group_size
            matrix = np.pad(product.weight.numpy().astype(np.float32), ((0, missing), (0, 0)))
            rows = (seen or {}).get(name)
            rounded = gptq(matrix, None if rows is None else np.pad(rows.hessian, (0, missing)), group_size)
            tape = Tape(model.graph)
            codes_of[name] = (
                tape.initializer(onnx_ir.tensor(rounded.codes, name=f"{name}.codes")),
                tape.initializer(onnx_ir.tensor(rounded.scales.reshape(-1), name=f"{name}.scales")),
            )
        made = onnx_ir.node(
            "MatMulNBits",
            [node.inputs[0], *codes_of[name]],
            {
                "K": product.inputs,
                "N": int(product.weight.shape[1]),
                "bits": 8,
                "block_size": group_size,
                "accuracy_level": _ACCURACY_LEVEL,
            },
            domain=MICROSOFT,
            name=node.name,
        )
        replace_nodes_and_values(model.graph, node, [node], [made], node.outputs, made.outputs)
    model.opset_imports.setdefault(MICROSOFT, 1)
    RemoveUnusedNodesPass()(model)
    how = "rounded to nearest" if seen is None else "rounded with GPTQ"
    rest = len(every) - len(chosen)
    note = (
        f"int8: {len(chosen)} matrix products in groups of {group_size} channels, weights {how}; OpenVINO keeps "
        "activations in fp32 where the processor has no VNNI"
    )
    return model, note + (f", {rest} left in fp32" if rest else "")


def candidates(
    graph: Path,
    folder: Path,
    seen: Mapping[str, Seen],
    engines: Collection[str] = ENGINES,
    keep: Collection[str] = (),
) -> list[Candidate]:
    """Every group size on each of `engines` that is installed, as graphs in `folder`. seen, keep: as in `quantize`.

    Weights outside of the graph that stay as they are are shared by all candidates and the graph.
    """
    wanted = [each.inputs for each in products(onnx_ir.load(graph)) if each.name not in keep]
    outside, link = data_file(graph), folder / data_file(graph).name
    link.unlink(missing_ok=True)  # weights of which there is another link are not read
    shared = (link,) if outside.is_file() else ()
    targets = (INT8_NAME, *(f"onnx/{each.name}" for each in shared))
    found = []
    for group_size in GROUP_SIZES:
        if max(wanted, default=0) < group_size:
            continue
        made, note = quantize(graph, group_size, seen, keep)
        file = folder / f"groups-of-{group_size}.onnx"
        onnx_ir.save(made, file)
        for engine in filter(is_installed, engines):
            settings = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": str(group_size)} if engine == "openvino" else {}
            name = f"groups of {group_size} on {engine}"
            found.append(Candidate(name, (file, *shared), targets, engine, settings, note))
    for each in shared:
        each.hardlink_to(outside)
    return found


def sensitivities(graph: Path, batches: Sequence[Batch]) -> dict[str, float]:
    """How far each matrix product moves the logits when it alone is in int8, most sensitive first.

    Returns the names of products -> largest absolute logit difference over the first batches.
    """
    some = batches[:: max(1, len(batches) // _SENSITIVITY_BATCHES)]
    expected = _logits(onnx_ir.load(graph), some, graph.parent)
    names = [each.name for each in products(onnx_ir.load(graph))]
    found: dict[str, float] = {}
    for name in names:
        alone, _ = quantize(graph, GROUP_SIZES[0], keep={*names} - {name})
        found[name] = float(np.abs(_logits(alone, some, graph.parent) - expected).max())
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _logits(model: onnx_ir.Model, batches: Sequence[Batch], folder: Path) -> npt.NDArray[np.float32]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    made = onnx_ir.to_proto(model).SerializeToString()
    session = ort.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    inputs = input_types(session)
    logits: list[Any] = [session.run(None, batch.feeds(inputs))[0] for batch in batches]
    return np.concatenate(logits)
