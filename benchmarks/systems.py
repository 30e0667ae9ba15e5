"""The systems that are compared: each loads once and then turns pairs into logits.

Every peer runs as its own documentation recommends. Settings that were tried are in the README beside
this file. A system is a function `load(files) -> (list of pairs -> logits of Shape (pairs,))`; it runs in a
process of its own, so that no library's threads or memory disturb another's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Pairs = list[tuple[str, str]]
Predict = Callable[[Pairs], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Files:
    """`checkpoint`: the PyTorch checkpoint's folder. `bundle`: what `pairscore export` made of it."""

    checkpoint: str
    bundle: str


@dataclass(frozen=True)
class System:
    """`tier`: the precision whose promise it is held against. `ours`: whether it is this project's."""

    name: str
    tier: str
    ours: bool
    load: Callable[[Files], Predict]


def _pairscore_fp32(files: Files) -> Predict:
    from pairscore import Scorer

    scorer = Scorer.from_pretrained(files.bundle)
    return lambda pairs: scorer.predict(pairs, activation="identity")


def _sentence_transformers(batch_size: int, **arguments: Any) -> Callable[[Files], Predict]:
    def load(files: Files) -> Predict:
        import torch
        from sentence_transformers import CrossEncoder

        model = CrossEncoder(files.checkpoint, device="cpu", **arguments)
        identity = torch.nn.Identity()
        return lambda pairs: np.asarray(model.predict(pairs, batch_size=batch_size, activation_fn=identity))

    return load


# The first one is the reference of every ratio and of all parity.
REFERENCE = System("sentence-transformers, torch fp32, batch 32", "fp32", False, _sentence_transformers(32))
SYSTEMS = (
    REFERENCE,
    System("sentence-transformers, torch fp32, batch 8", "fp32", False, _sentence_transformers(8)),
    System("sentence-transformers, ONNX fp32, batch 32", "fp32", False, _sentence_transformers(32, backend="onnx")),
    System("sentence-transformers, ONNX fp32, batch 8", "fp32", False, _sentence_transformers(8, backend="onnx")),
    System("pairscore fp32", "fp32", True, _pairscore_fp32),
)
