"""int8 graphs: weights and activations in int8, one scale for each group of channels.

Scales for a whole tensor are a dead end for cross-encoders: a few channels are a hundred times larger than the rest,
and a scale taken over a batch makes a pair's score depend on its neighbours. Here each row of activations is quantized
by itself, in groups of channels, while it is multiplied: by ONNX Runtime's `MatMulNBits` at accuracy level 4, and by
OpenVINO's dynamic quantization, which reads the same graph. Weights are rounded with GPTQ on the user's own pairs.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from pairscore.export.graphs.editing import MICROSOFT, array_of, with_nodes
from pairscore.export.quantization.calibration import Seen
from pairscore.export.quantization.gptq import gptq, round_to_nearest
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
    """A matrix product with constant weights. `activation`, `weight`: tensor names. `inputs`: its channels."""

    node: str
    activation: str
    weight: str
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


def products(model: onnx.ModelProto) -> list[Product]:
    """The matrix products of a graph that can be quantized, in the graph's order."""
    shapes = {weight.name: tuple(weight.dims) for weight in model.graph.initializer}
    found = []
    for node in model.graph.node:
        shape = shapes.get(node.input[1]) if node.op_type == "MatMul" else None
        if shape is not None and len(shape) == 2 and shape[1] >= _SMALLEST_OUTPUTS:
            found.append(Product(node.output[0], node.input[0], node.input[1], *shape))
    return found


def weights(model: onnx.ModelProto, folder: Path | None = None) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """The matrices of `products`, each with its name, Shape (inputs, outputs). folder: of weights outside the graph."""
    names = {each.weight for each in products(model)}
    for each in model.graph.initializer:
        if each.name in names:
            yield each.name, array_of(each, folder)


def quantize(
    model: onnx.ModelProto,
    group_size: int,
    seen: Mapping[str, Seen] | None = None,
    keep: Collection[str] = (),
    folder: Path | None = None,
) -> tuple[onnx.ModelProto, str]:
    """A copy of `model` with every matrix product but those of `keep` in int8, and a sentence about it.

    seen: by `Product.weight`; products whose weight is not there are rounded to nearest. keep: `Product.node` names.
    folder: of the weights outside of the graph. A last group that channels do not fill is filled up with zeros; a
    product of fewer channels than a group stays as it is.
    """
    chosen = {each.node: each for each in products(model) if each.inputs >= group_size and each.node not in keep}
    if not chosen:
        return model, f"int8: no matrix product has {group_size} channels"
    made = deepcopy(model)
    for name, whole in weights(model, folder):
        if any(each.weight == name for each in chosen.values()):
            missing = -len(whole) % group_size
            matrix = np.pad(whole.astype(np.float32), ((0, missing), (0, 0)))
            rows = (seen or {}).get(name)
            rounded = (
                round_to_nearest(matrix, group_size)
                if rows is None
                else gptq(matrix, np.pad(rows.hessian, (0, missing)), group_size)
            )
            made.graph.initializer.append(numpy_helper.from_array(rounded.codes, f"{name}.codes"))
            made.graph.initializer.append(numpy_helper.from_array(rounded.scales.reshape(-1), f"{name}.scales"))
    nodes = []
    for node in made.graph.node:
        product = chosen.get(node.output[0])
        if product is None:
            nodes.append(node)
            continue
        nodes.append(
            helper.make_node(
                "MatMulNBits",
                [product.activation, f"{product.weight}.codes", f"{product.weight}.scales"],
                [product.node],
                name=node.name,
                domain=MICROSOFT,
                K=product.inputs,
                N=product.outputs,
                bits=8,
                block_size=group_size,
                accuracy_level=_ACCURACY_LEVEL,
            )
        )
    how = "rounded to nearest" if seen is None else "rounded with GPTQ"
    rest = len(products(model)) - len(chosen)
    note = (
        f"int8: {len(chosen)} matrix products in groups of {group_size} channels, weights {how}; OpenVINO keeps "
        "activations in fp32 where the processor has no VNNI"
    )
    return with_nodes(made, nodes), note + (f", {rest} left in fp32" if rest else "")


def candidates(  # noqa: PLR0917
    model: onnx.ModelProto,
    folder: Path,
    seen: Mapping[str, Seen],
    engines: Collection[str] = ENGINES,
    keep: Collection[str] = (),
    outside: Path | None = None,
) -> Iterator[Candidate]:
    """Every group size on each of `engines` that is installed, as graphs in `folder`. seen: by `Product.weight`.

    outside: the file with the weights outside of the graph; candidates share those that stay as they are.
    """
    wanted = [each for each in products(model) if each.node not in keep]
    shared: tuple[Path, ...] = ()
    if outside is not None:
        shared = (folder / outside.name,)
        shared[0].unlink(missing_ok=True)
        shared[0].hardlink_to(outside)
    targets = (INT8_NAME, *(f"onnx/{each.name}" for each in shared))
    for group_size in GROUP_SIZES:
        if not any(each.inputs >= group_size for each in wanted):
            continue
        made, note = quantize(model, group_size, seen, keep, outside and outside.parent)
        file = folder / f"groups-of-{group_size}.onnx"
        onnx.save(made, str(file))
        for engine in filter(is_installed, engines):
            settings = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": str(group_size)} if engine == "openvino" else {}
            yield Candidate(f"groups of {group_size} on {engine}", (file, *shared), targets, engine, settings, note)


def sensitivities(model: onnx.ModelProto, batches: Sequence[Batch], folder: Path | None = None) -> dict[str, float]:
    """How far each matrix product moves the logits when it alone is in int8, most sensitive first.

    Returns `Product.node` -> largest absolute logit difference over the first batches.
    """
    some = batches[:: max(1, len(batches) // _SENSITIVITY_BATCHES)]
    expected = _logits(model, some, folder)
    everything = products(model)
    found: dict[str, float] = {}
    for product in everything:
        alone, _ = quantize(
            model, GROUP_SIZES[0], keep={each.node for each in everything} - {product.node}, folder=folder
        )
        found[product.node] = float(np.abs(_logits(alone, some, folder) - expected).max())
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _logits(model: onnx.ModelProto, batches: Sequence[Batch], folder: Path | None) -> npt.NDArray[np.float32]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = input_types(session)
    logits: list[Any] = [session.run(None, batch.feeds(inputs))[0] for batch in batches]
    return np.concatenate(logits)
