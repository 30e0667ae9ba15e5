"""For tests of the native engine: checkpoints whose heads its kernels take, a bundle, an int8 product by hand."""

from dataclasses import replace

import numpy as np
import torch

from pairscore.export.bundle import export_bundle
from pairscore.export.graphs.encoder import Norm
from pairscore.export.quantization.calibration import Calibration
from tests import corpus

PAIRS = [(claim, evidence) for claim in corpus.SENTENCES[:10] for evidence in corpus.SENTENCES[10:22]]
LOOSE = {"min_spearman": 0.9, "max_difference": 0.3}
FILES = ("native/int8.json", "native/int8.safetensors")
FAMILIES = ("bert", "roberta", "xlm-roberta", "distilbert", "electra")
# ModernBERT with its own head, on the mean and on the first token, and as a stack of modules.
MODERN = ("modernbert", "modernbert-cls", "ettin")


def built_as(family):
    """What `build_checkpoint` calls it."""
    return family.removesuffix("-cls")


def changes(family):
    """What `build_checkpoint` needs so that a head has 16 columns, or the 32 that rotary positions need."""
    if family in MODERN:
        pooling = {"classifier_pooling": "cls"} if family == "modernbert-cls" else {}
        return {"num_attention_heads": 1, **pooling}
    return {"n_heads": 2} if family == "distilbert" else {"num_attention_heads": 2}


def add_native(checkpoint, bundle):
    """Add an int8 variant of the native engine to the bundle. The promise is loose: the weights are random."""
    fitted = Calibration(tuple(PAIRS))
    export_bundle(str(checkpoint), bundle, precision="int8", calibration=fitted, engine="native", **LOOSE)


def as_planned(encoder, tensors):
    """The encoder with the norms of a plan, which smooth the rows of the products behind them."""
    layers = []
    for number, layer in enumerate(encoder.layers):
        norms = {
            name: Norm(tensors[f"layers.{number}.{name}.weight"], tensors[f"layers.{number}.{name}.bias"])
            for name in ("attention_norm", "output_norm")
            if getattr(layer, name) is not None
        }
        layers.append(replace(layer, **norms))
    return replace(encoder, layers=tuple(layers))


def slow_product(tensors, recipe):
    """A `Product` of `Encoder.logits` that computes with the plan's tensors, one row and group at a time."""

    def product(name, linear, rows):
        kind = name.rpartition(".")[2]
        reads = {"key": "query", "value": "query", "gate": "up"}.get(kind, kind)
        smooth = tensors.get(name.replace(f".{kind}", f".{reads}.smooth"), 1)
        codes, scales = (
            tensors[f"{name}.weight"].astype(np.int64),
            tensors[f"{name}.scale"].reshape(len(linear.bias), -1),
        )
        size = recipe.group_size_of(name) or codes.shape[1]
        given = (rows.numpy() * smooth).astype(np.float32).reshape(-1, codes.shape[1])
        made = np.tile(tensors[f"{name}.bias"].astype(np.float64), (len(given), 1))
        for group in range(codes.shape[1] // size):
            columns = slice(group * size, (group + 1) * size)
            for place, row in enumerate(given[:, columns]):
                low, high = min(0, row.min()), max(0, row.max())
                step = (high - low) / np.float32(255) or np.float32(1)
                zero = np.rint(-low / step)
                quantized = np.clip(np.rint(row / step) + zero, 0, 255) - zero
                made[place] += codes[:, columns] @ quantized.astype(np.int64) * (step * scales[:, group].astype(float))
        return torch.from_numpy(made.astype(np.float32).reshape(*rows.shape[:-1], -1))

    return product
