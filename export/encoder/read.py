"""Read the `EncoderWeights` of a live PyTorch cross-encoder, and check that their formula gives PyTorch's logits.

    encoder = read_encoder(model, max_length)

`families.py` says how each family names its weights, `heads.py` what follows its layers, and `formula.py` what
`EncoderWeights` holds. `UnknownEncoderError` says why a model cannot be read.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pairscore.export.encoder.families import SourceModel, UnknownEncoderError
from pairscore.export.encoder.formula import EncoderWeights, Layer
from pairscore.export.encoder.heads import FAMILIES, read_head
from pairscore.export.model import LogitsModel
from pairscore.export.reference import quiet

# Logits of the formula and of PyTorch, both in fp32: relative to the largest, and never less than of 1.
TOLERANCE = 1e-4
# Lengths at which they are compared, beside the longest; beyond the last they would cost minutes.
_LENGTHS = (3, 61, 1024)


def read_encoder(model: LogitsModel, max_length: int) -> EncoderWeights:
    """The encoder that `model` computes, for pairs of up to `max_length` tokens; weights are not copied.

    Raises UnknownEncoderError for a model that `formula.py` does not describe.
    """
    config = model.transformer.config
    if config.model_type not in FAMILIES:
        raise UnknownEncoderError(f"{config.model_type} is none of {', '.join(FAMILIES)}")
    base = getattr(model.transformer, model.transformer.base_model_prefix, model.transformer)
    source = SourceModel(model.model, base, config, max_length)
    body, _ = FAMILIES[config.model_type]
    head, pooling = read_head(source)
    encoder = replace(body(source), head=head, pooling=pooling)
    if pooling == "first":
        encoder = replace(encoder, layers=(*encoder.layers[:-1], _of_first_row(encoder.layers[-1])))
    if encoder.longest < max_length:
        raise UnknownEncoderError(f"the model has {encoder.longest} positions, fewer than {max_length} tokens")
    lengths = sorted({min(length, max_length) for length in _LENGTHS})
    difference = largest_difference(model, encoder, lengths)
    if not difference <= TOLERANCE:
        raise UnknownEncoderError(f"its logits are {difference:.2g} from those of the formula, for a reason not found")
    return encoder


def largest_difference(model: LogitsModel, encoder: EncoderWeights, lengths: Sequence[int]) -> float:
    """Between the logits of PyTorch and of the formula on random tokens; relative where logits exceed 1.

    All ids of the vocabulary take part, the padding's own too, and both token types.
    """
    random = np.random.default_rng(0)
    found = []
    for length in lengths:
        ids = random.integers(0, len(encoder.words), (2, length), dtype=np.int32)
        if encoder.padding_id is not None:
            ids[1, random.integers(0, length, 1 + length // 8)] = encoder.padding_id
        counts = 1 if encoder.types is None or "token_type_ids" not in model.inputs else len(encoder.types)
        types = random.integers(0, counts, ids.shape, dtype=np.int32)
        given = {"input_ids": ids, "token_type_ids": types, "attention_mask": np.ones_like(ids)}
        with torch.inference_mode(), quiet():
            tensors = [torch.from_numpy(given[name]).long() for name in model.inputs]
            expected, ours = model(*tensors).numpy(), encoder.logits(ids, types)
        scale = max(1.0, float(np.abs(expected).max()))
        found.append(float(np.abs(ours - expected).max()) / scale)
    return float(np.max(found))


def _of_first_row(layer: Layer) -> Layer:
    """A last layer of which the head reads the first row: all its products but keys and values see that row alone."""
    narrow: dict[str, Any] = {
        name: replace(linear, input=linear.input._replace(first_only=True))
        for name, linear in layer.products().items()
        if name not in ("key", "value")
    }
    return replace(layer, **narrow)
