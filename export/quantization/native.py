"""The plan of the native engine: an encoder's weights in int8, fitted to the user's own pairs.

The engine quantizes each row of activations by itself, asymmetrically, at run time: whole, or in groups of channels.
Weights have one scale an output, or an output and group. Whole rows need SmoothQuant (Xiao et al., arXiv 2211.10438),
which hands the difficulty of a channel that is a hundred times larger than the others to the weights; groups do not.

A plan is a JSON object that says what the model is made of, and a safetensors file with the tensors that it names.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from pairscore.export.encoder.formula import EncoderWeights, Layer, Linear, Norm, Rows, angles
from pairscore.export.quantization.calibration import Seen
from pairscore.export.quantization.gptq import ZERO_CODE, gptq, rotated
from pairscore.export.quantization.int8 import Candidate
from pairscore.export.quantization.relative import quantized_positions
from pairscore.export.quantization.widths import widened
from pairscore.runtime.engines.native import instruction_set
from pairscore.runtime.types import FloatArray

FORMAT = 2
ENGINE = "native"
# Files of a bundle.
PLAN_NAME = "native/int8.json"
TENSORS_NAME = "native/int8.safetensors"

Tensors = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Recipe:
    """How to quantize. `group_size`: channels that share a scale, 0 for whole rows. `down_group_size`: the same for the
    feed-forward's second product. `smoothing`: SmoothQuant's alpha, the share of a channel's size that the weights take
    over; 0 for none. `rotation`, `down_rotation`: orders of the Hadamard matrices that turn channels before they are
    rounded, 0 for none. `narrow`: weights whose products fit into 16 bits (`LARGEST_SUM`).
    """

    group_size: int
    down_group_size: int
    smoothing: float
    rotation: int = 0
    down_rotation: int = 0
    narrow: bool = False

    def of(self, name: str) -> tuple[int, int]:
        """The group size of a product such as `layers.3.down`, and the order of the matrix that turns what it reads."""
        down = name.endswith(".down")
        return (self.down_group_size, self.down_rotation) if down else (self.group_size, self.rotation)

    def __str__(self) -> str:
        groups, down = (f"groups of {n}" if n else "whole rows" for n in (self.group_size, self.down_group_size))
        groups += f" but {down} in the feed-forward's second product" if down != groups else ""
        if self.rotation or self.down_rotation:
            orders = dict.fromkeys(each for each in (self.rotation, self.down_rotation) if each)
            groups += f", rotated by Hadamard matrices of order {' and '.join(str(each) for each in orders)}"
        groups += f", SmoothQuant {self.smoothing:g}" if self.smoothing else ""
        return groups + (", narrow sums" if self.narrow else "")


# Where among four inputs weights of one sign add up to no more than this, instruction sets without VNNI multiply faster
# and others as fast as ever (kernels/cpp/layers.h). Rounding is coarser, so it is tried there alone.
LARGEST_SUM = 128
WITHOUT_VNNI = ("avx2", "avx512bw")
# SmoothQuant's alpha. Measured on the shipped model from 0.3 to 0.7, one for each product too, and with smoothing that
# was fitted to each product's own error: 0.5 everywhere was best or equal, in groups as well.
ALPHA = 0.5
# Channels of a group, where they divide the rows; whole rows where not. Rows that `down` reads come from the activation
# and are the hardest to quantize.
GROUP, DOWN_GROUP = 128, 512
# The largest orders of the Hadamard matrices: rows that are rotated are as exact whole as groups of 128 are without.
ROTATION, DOWN_ROTATION = 8, 32
# Vectors of the kernels hold so many columns; rotary positions turn the halves of a head against each other.
_COLUMNS = 16


def unfit(encoder: EncoderWeights) -> str | None:
    """Why the kernels cannot compute this encoder, its sizes or its activations; None where they can."""
    columns = [] if encoder.projection is None else [("of the embeddings", encoder.words.shape[1])]
    columns += [("of a norm in its head", len(each.linear.weight)) for each in encoder.head if each.norm]
    for whose, count in columns:
        if count % _COLUMNS:
            return f"the model has {count} columns {whose}, which {_COLUMNS} does not divide"
    if encoder.activation not in ("gelu", "gelu_tanh", "relu"):
        return f"its feed-forward has the activation {encoder.activation}"
    odd = [each.activation for each in encoder.head if each.activation not in ("none", "tanh", "relu", "gelu")]
    return f"its head has the activation {odd[0]}" if odd else None


def fitting(encoder: EncoderWeights) -> list[Recipe]:
    """The recipes that are tried for an encoder of these sizes on this processor: a faster and a more exact one."""
    hidden, inner = encoder.hidden, encoder.intermediate
    recipes = []
    for group, down_group in ((0, DOWN_GROUP), (GROUP, GROUP if inner % DOWN_GROUP else DOWN_GROUP)):
        size = group if group and hidden % group == 0 else 0
        down_size = down_group if inner % down_group == 0 else 0
        recipes.append(
            Recipe(
                size,
                down_size,
                ALPHA,
                _order(size or hidden, ROTATION),
                _order(down_size or inner, DOWN_ROTATION),
            )
        )
    if instruction_set() in WITHOUT_VNNI:
        recipes.append(replace(recipes[0], narrow=True))
    return list(dict.fromkeys(recipes))


def _order(group: int, most: int) -> int:
    """The largest order up to `most` whose blocks divide a group of so many channels; 0 where none does."""
    order = most
    while order > 1 and group % (order * _COLUMNS):
        order //= 2
    return order if order > 1 else 0


def native_candidates(
    encoder: EncoderWeights, folder: Path, seen: Mapping[Rows, Seen], recipes: Sequence[Recipe] = ()
) -> Iterator[Candidate]:
    """An encoder quantized by each recipe, or by those that fit it, as plans in `folder`. seen: by `Linear.input`."""
    made = len(list(encoder.products()))
    encoder, seen = widened(encoder, seen, _COLUMNS)
    for place, recipe in enumerate(recipes or fitting(encoder)):
        files = write(plan(encoder, recipe), quantized(encoder, recipe, seen), folder / f"native-{place}.json")
        yield Candidate(
            name=f"{recipe} on {ENGINE}",
            files=files,
            targets=(PLAN_NAME, TENSORS_NAME),
            engine=ENGINE,
            settings={},
            note=(
                f"int8: {made} matrix products, rows and weights in {recipe}, weights rounded with GPTQ, computed by "
                f"pairscore-kernels {version('pairscore-kernels')}: the same bytes on every processor"
            ),
            inputs=("input_ids", "token_type_ids"),
        )


def plan(encoder: EncoderWeights, recipe: Recipe) -> dict[str, Any]:
    """The JSON object."""
    own: dict[str, Any] = {
        "architecture": "bert",
        "embedding_size": encoder.words.shape[1],
        "position_offset": encoder.position_offset,
        "padding_id": encoder.padding_id,
        "token_types": 0 if encoder.types is None else len(encoder.types),
    }
    if encoder.modern:
        tables = _rotary_tables(encoder)
        own = {
            "architecture": "modernbert",
            "windows": [each.window for each in encoder.modern],
            "rotary": [tables.index(each.frequencies.tobytes()) for each in encoder.modern],
        }
    relative = encoder.layers[0].relative
    if relative is not None:
        own = {
            "architecture": "deberta",
            "token_types": own["token_types"],
            "relative_positions": len(relative.key),
        }
    return {
        "format": FORMAT,
        **own,
        "pooling": encoder.pooling,
        "hidden": encoder.columns or encoder.hidden,
        **({"head_columns": encoder.hidden // encoder.heads} if encoder.columns else {}),
        "heads": encoder.heads,
        "intermediate": encoder.intermediate,
        "layers": len(encoder.layers),
        "labels": len(encoder.head[-1].linear.weight),
        "vocabulary": len(encoder.words),
        "positions": encoder.longest,
        "epsilon": encoder.epsilon,
        "activation": encoder.activation,
        "group_size": recipe.group_size,
        "down_group_size": recipe.down_group_size,
        "rotation": recipe.rotation,
        "down_rotation": recipe.down_rotation,
        "head": [
            {"name": f"head.{place}", "activation": each.activation}
            | ({"norm_epsilon": each.epsilon} if each.norm else {})
            for place, each in enumerate(encoder.head)
        ],
    }


def quantized(encoder: EncoderWeights, recipe: Recipe, seen: Mapping[Rows, Seen]) -> Tensors:
    """Every tensor that the plan names. seen: by `Linear.input`."""
    tables = {"words": encoder.words, "positions": encoder.positions, "types": encoder.types}
    tensors: dict[str, npt.NDArray[Any]] = {
        f"embeddings.{name}": table for name, table in tables.items() if table is not None
    }
    tensors |= _exact("embeddings.norm", encoder.embedding_norm)
    tensors |= _exact("embeddings.projection", encoder.projection)
    for place, frequencies in enumerate(_rotary_tables(encoder)):
        cosines, sines = angles(encoder.longest, np.frombuffer(frequencies, np.float32))
        tensors |= {f"rotary.{place}.cosines": cosines, f"rotary.{place}.sines": sines}
    if encoder.relative_rows is not None:
        tensors["relative.rows"] = encoder.relative_rows
    for number, layer in enumerate(encoder.layers):
        tensors |= _quantized_layer(f"layers.{number}", layer, recipe, seen)
        if layer.relative is not None:
            positions = quantized_positions(layer.relative, layer.key.bias, encoder.heads)
            tensors |= {f"layers.{number}.{name}": tensor for name, tensor in positions.items()}
    tensors |= _exact("final_norm", encoder.final_norm)
    for place, each in enumerate(encoder.head):
        tensors |= {**_exact(f"head.{place}", each.linear), **_exact(f"head.{place}.norm", each.norm)}
    return tensors


def _quantized_layer(name: str, layer: Layer, recipe: Recipe, seen: Mapping[Rows, Seen]) -> Tensors:
    tensors: dict[str, npt.NDArray[Any]] = {}
    norms = {"attention_norm": layer.attention_norm, "output_norm": layer.output_norm}
    # The norm whose rows a product reads and nothing else does: it smooths them at no cost.
    before = {"query": "attention_norm", "up": "output_norm"} if layer.modern else {}
    products = layer.products()
    # Products that read the same rows are smoothed alike.
    for same in (("query", "key", "value"), ("output",), ("up", "gate"), ("down",)):
        together = {f"{name}.{each}": products[each] for each in same if each in products}
        smooth = None
        if recipe.smoothing:
            smooth = _smooth(together, recipe.smoothing, seen)
            which = before.get(same[0], "")
            if (norm := norms.get(which)) is None:
                tensors[f"{name}.{same[0]}.smooth"] = smooth
            else:
                norms[which] = Norm(norm.weight * smooth, norm.bias * smooth)
        for each, linear in together.items():
            tensors |= _rounded(each, linear, recipe, smooth, seen[linear.input])
    for which, norm in norms.items():
        tensors |= _exact(f"{name}.{which}", norm)
    return tensors


def write(plan: Mapping[str, Any], tensors: Tensors, path: Path) -> tuple[Path, Path]:
    """Write the plan to `path`, and the tensors beside it under the same stem; return both, the plan first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
    beside = path.with_suffix(".safetensors")
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, beside)
    return path, beside


def _exact(name: str, part: Linear | Norm | None) -> Tensors:
    return {f"{name}.weight": part.weight, f"{name}.bias": part.bias} if part else {}


def _rotary_tables(encoder: EncoderWeights) -> list[bytes]:
    """The different frequencies of the layers, in their order."""
    return list(dict.fromkeys(each.frequencies.tobytes() for each in encoder.modern))


def _rounded(name: str, linear: Linear, recipe: Recipe, smooth: FloatArray | None, seen: Seen) -> Tensors:
    weight: npt.NDArray[Any] = linear.weight.T
    mean = seen.total.astype(np.float64) / seen.rows
    # About the mean: the bias makes up for what rounding does to the mean row.
    hessian: npt.NDArray[Any] = seen.hessian - seen.rows * np.outer(mean, mean)
    group_size, order = recipe.of(name)
    if smooth is not None:
        weight, mean = weight / smooth[:, None], mean * smooth
        hessian = hessian * smooth * smooth[:, None]
    weight = rotated(np.ascontiguousarray(weight, dtype=np.float32), order)
    weight = np.divide(weight, order or 1, dtype=np.float32)
    hessian, mean = rotated(rotated(hessian, order).T, order), rotated(mean[:, None], order)[:, 0]
    made = gptq(weight, hessian, group_size or len(weight), LARGEST_SUM if recipe.narrow else None)
    codes = (made.codes.reshape(len(linear.weight), -1).astype(np.int16) - ZERO_CODE).astype(np.int8)
    scales = made.scales if group_size else made.scales[:, 0]
    bias = (linear.bias + mean @ (weight - made.dequantized())).astype(np.float32)
    return {f"{name}.weight": codes, f"{name}.scale": scales, f"{name}.bias": bias}


def _smooth(products: Mapping[str, Linear], alpha: float, seen: Mapping[Rows, Seen]) -> FloatArray:
    """What the rows are multiplied by, a factor a channel: SmoothQuant's 1 / s.

    Of a channel's values and weights it takes the root of their squares in place of the largest: where channels are
    rotated, and so added, a sum is as large as that.
    """
    squares = np.max([np.diag(seen[each.input].hessian) / seen[each.input].rows for each in products.values()], axis=0)
    weights = np.sum([np.square(each.weight).sum(axis=0) for each in products.values()], axis=0)
    # A channel that was never seen, or that no weight reads, stays as it is.
    alive = (squares > 0) & (weights > 0)
    factor: FloatArray = np.ones(len(squares), np.float32)
    factor[alive] = np.sqrt(weights[alive]) ** (1 - alpha) / np.sqrt(squares[alive]) ** alpha
    return factor
