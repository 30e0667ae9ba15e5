"""int8 graphs: weights and activations in int8, one scale for each group of channels.

Scales for a whole tensor are a dead end for cross-encoders: a few channels are a hundred times larger than the rest,
and a scale taken over a batch makes a pair's score depend on its neighbours. Here each row of activations is quantized
by itself, in groups of channels, while it is multiplied: by ONNX Runtime's `MatMulNBits` at accuracy level 4, and by
OpenVINO's dynamic quantization, which reads the same graph. Weights are rounded with GPTQ on the user's own pairs.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir
import onnxruntime as ort
import torch
from onnx_ir.convenience import replace_nodes_and_values
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnx_ir.tape import Tape

from pairscore.export.encoder.families import array
from pairscore.export.encoder.formula import EncoderWeights, Rows
from pairscore.export.graphs.editing import MICROSOFT, data_file
from pairscore.export.model import LogitsModel
from pairscore.export.quantization.calibration import Seen
from pairscore.export.quantization.gptq import gptq
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.onnxruntime.session import input_types
from pairscore.runtime.engines.registry import is_installed

INT8_NAME = "onnx/model_int8.onnx"
GROUP_SIZES = (32, 64, 128)
# Engines that run these graphs.
ENGINES = ("openvino", "onnxruntime")
# Smaller matrices, such as a classifier's single column, cost no time and would only lose precision.
_SMALLEST_OUTPUTS = 16
_SENSITIVITY_BATCHES = 8


@dataclass(frozen=True)
class Product:
    """A matrix product with constant weights, by the name of its output. `weight`: Shape (inputs, outputs)."""

    name: str
    node: onnx_ir.Node
    weight: onnx_ir.TensorProtocol
    inputs: int
    outputs: int


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
        shape = () if weight is None else weight.shape.numpy()
        if weight is not None and len(shape) == 2 and shape[1] >= _SMALLEST_OUTPUTS:
            found.append(Product(str(node.outputs[0].name), node, weight, *shape))
    return found


def rows_of_weights(model: LogitsModel, graph: Path, encoder: EncoderWeights | None) -> dict[str, Rows]:
    """Which rows each weight of `products` multiplies, by its name.

    A weight is known by its numbers, which are those of a linear layer of `model`; one that no layer has is left out.
    encoder: says of which layers only the first row is needed.
    """
    inputs = [] if encoder is None else [linear.input for _, linear in encoder.products()]
    whole = {rows.module for rows in inputs if not rows.first_only}
    narrow = {rows.module for rows in inputs} - whole
    known = {
        _digest(array(module.weight).T): Rows(name, name in narrow)
        for name, module in model.model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    digests = {str(each.weight.name): _digest(each.weight.numpy()) for each in products(onnx_ir.load(graph))}
    return {name: known[digest] for name, digest in digests.items() if digest in known}


def _digest(matrix: npt.NDArray[np.float32]) -> bytes:
    return sha256(np.ascontiguousarray(matrix, np.float32).tobytes()).digest() + str(matrix.shape).encode()


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
        # Level 4 is activations in int8 too; OpenVINO goes by its own property instead.
        settings = {"K": product.inputs, "N": product.outputs, "bits": 8, "block_size": group_size, "accuracy_level": 4}
        inputs = [node.inputs[0], *codes_of[name]]
        made = onnx_ir.node("MatMulNBits", inputs, settings, domain=MICROSOFT, name=node.name)
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
