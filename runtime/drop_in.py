"""The keywords of CrossEncoder's `predict` and `rank`: each does here what it does there, or is an error that says why.

Source of their meaning: `sentence_transformers.CrossEncoder`, releases 5.7 and 6.2. torch is never imported here. Who
passes one of its functions, or wants its tensors, has imported it.
"""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, TypedDict

import numpy as np

from pairscore.runtime.arguments import check_keywords
from pairscore.runtime.bundle.activation import Activation, activate
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.types import FloatArray

# Keywords that a scorer cannot take, and where their meaning is fixed instead.
_DECIDED = {
    "prompt_name": "its prompt, if it has one, is part of a bundle: export a checkpoint with that default_prompt_name",
    "prompt": "its prompt, if it has one, is part of a bundle: put other words into the claims themselves",
    "device": "a scorer stays on the device that it was opened on: Scorer.from_pretrained(BUNDLE, device=...)",
    "pool": "a scorer uses all cores, or GPUs, by itself: Scorer.from_pretrained(BUNDLE, device='cuda:0,cuda:1')",
    "chunk_size": "it belongs to the pools of processes that CrossEncoder starts, and a scorer starts none",
}


# Arguments that have places of their own, so that a misspelt one is recognised.
_OWN = ("activation", "long_evidence", "overlap", "combine", "rank_by", "top_k", "return_documents")


class Keywords(TypedDict, total=False):
    """What `Scorer.predict` and `Scorer.rank` take beside their own arguments: see `PredictOptions`."""

    sentences: Any
    show_progress_bar: bool | None
    activation_fn: Callable[[Any], Any] | None
    apply_softmax: bool | None
    convert_to_numpy: bool
    convert_to_tensor: bool
    prompt_name: str | None
    prompt: str | None
    device: Any
    pool: Any
    chunk_size: int | None


@dataclass(frozen=True)
class PredictOptions:
    """The keywords, checked.

    `batch_size`: at most so many pairs are computed at once; by default as many as suit the engine. Scores do not
    depend on it. `show_progress_bar`: on standard error. `activation_fn`: called with the logits of all pairs, Shape
    (pairs, labels), as a torch tensor where torch is imported, else as a numpy array. `apply_softmax`: over several
    labels, after the activation. `convert_to_tensor`: one torch tensor; else, without `convert_to_numpy`, a list of
    them.
    """

    batch_size: int | None = None
    show_progress_bar: bool | None = None
    activation_fn: Callable[[Any], Any] | None = None
    apply_softmax: bool | None = False
    convert_to_numpy: bool = True
    convert_to_tensor: bool = False
    prompt_name: str | None = None
    prompt: str | None = None
    device: Any = None
    pool: Any = None
    chunk_size: int | None = None

    @staticmethod
    def of(function: str, keywords: dict[str, Any]) -> "PredictOptions":
        """The keywords of a call of `function`. Raises PairscoreError for one that does not exist or means nothing."""
        check_keywords(function, keywords, [*(each.name for each in fields(PredictOptions)), *_OWN])
        return PredictOptions(**keywords)

    def __post_init__(self) -> None:
        for name, reason in _DECIDED.items():
            if getattr(self, name) is not None:
                raise PairscoreError(f"{name} means nothing here ({getattr(self, name)!r:.60}): {reason}")
        if self.batch_size is not None and (not isinstance(self.batch_size, int) or self.batch_size < 1):
            raise PairscoreError(f"batch_size {self.batch_size!r} is no number of pairs: use 1 or more")
        if self.wants_tensors and "torch" not in sys.modules:
            raise PairscoreError(
                "convert_to_tensor=True and convert_to_numpy=False ask for torch tensors, and torch is not imported: "
                "`import torch` first, or take the numpy array"
            )

    @property
    def wants_tensors(self) -> bool:
        """Whether the result is of torch."""
        return self.convert_to_tensor or not self.convert_to_numpy

    @contextmanager
    def progress(self, pairs: int) -> Generator[Callable[[int, int], None] | None, None, None]:
        """What to call with the numbers of pairs and of tokens of each finished batch; None without a progress bar."""
        if not self.show_progress_bar:
            yield None
            return
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as shown:
            task = shown.add_task("Pairs", total=pairs)
            yield lambda pairs, _: shown.advance(task, pairs)

    def scores(self, activation: Activation, logits: FloatArray) -> FloatArray:
        """Logits to scores, both of Shape (pairs, labels). activation: used without an `activation_fn`."""
        scores = activation(logits) if self.activation_fn is None else self._called(self.activation_fn, logits)
        several = scores.ndim > 1 and scores.shape[1] > 1
        return activate("softmax", scores) if self.apply_softmax and several else scores

    def converted(self, scores: FloatArray) -> Any:
        """The scores in the container that was asked for."""
        if not self.wants_tensors:
            return scores
        tensor = sys.modules["torch"].from_numpy(np.ascontiguousarray(scores, dtype=np.float32))
        return tensor if self.convert_to_tensor else list(tensor)

    def _called(self, function: Callable[[Any], Any], logits: FloatArray) -> FloatArray:
        torch = sys.modules.get("torch")
        scores = np.asarray(function(logits if torch is None else torch.from_numpy(logits.copy())), dtype=np.float32)
        if scores.shape != logits.shape:
            raise PairscoreError(
                f"activation_fn made {scores.shape} of logits of shape {logits.shape}: it has to keep their shape"
            )
        return scores


def given_pairs(inputs: Any, keywords: dict[str, Any]) -> Any:
    """The pairs of a call of `predict`, which may name them `sentences`. Raises PairscoreError for none and for two."""
    sentences = keywords.pop("sentences", None)
    if (inputs is None) == (sentences is None):
        raise PairscoreError("predict takes its pairs as inputs or as sentences: give one of them")
    return sentences if inputs is None else inputs


class NoModelCard:
    """Where CrossEncoder keeps the figures of its evaluators; a bundle has no card, and the evaluator returns them."""

    def set_evaluation_metrics(self, evaluator: Any, metrics: dict[str, Any], epoch: int = 0, step: int = 0) -> None:
        """Called by the evaluators of sentence-transformers."""
