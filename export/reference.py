"""The PyTorch side: `sentence_transformers.CrossEncoder` in fp32 on the CPU, and what it resolves.

Everything that decides a score (activation, maximum length, labels, where the tokenizer cuts) is read off
the loaded CrossEncoder rather than off the files, so that a bundle does what CrossEncoder does.
"""

import gc
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from transformers.utils import logging as transformers_logging

from pairscore.export.checkpoint import ACTIVATION_OF, ACTIVATIONS, Checkpoint
from pairscore.runtime.bundle.manifest import CLAIM_FIRST, PairOrder
from pairscore.runtime.errors import PairscoreError, one_line
from pairscore.runtime.types import FloatArray, Pair

# CrossEncoder's own batch size, and a bound on the memory of batches of very long pairs.
_BATCH_PAIRS = 32
_BATCH_TOKENS = 16_384
# A tokenizer without a limit says 10 ** 30.
_NO_LIMIT = 1_000_000


@dataclass
class Reference:
    """A CrossEncoder and the settings that it resolved from its checkpoint.

    `loaded`: the model, None while its memory is given back. `tokenizer`: the fast one of `transformers`. `pair_order`:
    which text of a pair it is given first. A prompt stands before the first text.
    """

    checkpoint: Checkpoint
    loaded: CrossEncoder | None
    tokenizer: Any
    activate: Callable[[torch.Tensor], torch.Tensor]
    model_type: str
    labels: tuple[str, ...]
    activation: str
    max_length: int
    truncation_side: Literal["left", "right"]
    pad_token_id: int
    prompt: str = ""
    pair_order: PairOrder = CLAIM_FIRST

    @property
    def encoder(self) -> CrossEncoder:
        """The model, which is loaded again after `release`."""
        if self.loaded is None:
            self.loaded = open_crossencoder(self.checkpoint, self.max_length)
        return self.loaded

    def release(self) -> None:
        """Give the memory of the weights back: an engine that is compared with PyTorch's logits takes as much again."""
        self.loaded = None
        gc.collect()  # modules refer to each other in circles

    def logits(self, pairs: Sequence[Pair]) -> FloatArray:
        """`CrossEncoder.predict` without an activation. Shape (pairs, labels)."""
        batch_size = max(1, min(_BATCH_PAIRS, _BATCH_TOKENS // self.max_length))
        empty = np.array([not ids for ids in self.input_ids(pairs)], dtype=bool)
        logits = np.empty((len(pairs), len(self.labels)), dtype=np.float32)
        with quiet():
            try:
                logits[~empty] = self.encoder.predict(
                    self.ordered([pair for pair, none in zip(pairs, empty, strict=True) if not none]),
                    batch_size=batch_size,
                    activation_fn=torch.nn.Identity(),
                    show_progress_bar=False,
                ).reshape(-1, len(self.labels))
                if empty.any():
                    logits[empty] = self.empty_logits()
            except Exception as error:  # whatever a model's own code raises
                raise PairscoreError(
                    f"PyTorch itself fails on the parity pairs at max length {self.max_length} ({one_line(error)}): "
                    "if the model has fewer positions than its tokenizer allows, give that number with --max-length"
                ) from error
        return logits

    def scores(self, logits: FloatArray) -> FloatArray:
        """The checkpoint's activation, applied by PyTorch. logits and result: Shape (pairs, labels)."""
        with quiet():
            scores: FloatArray = self.activate(torch.from_numpy(logits)).numpy()
        return scores

    def ordered(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Pairs of claim and evidence as the model reads them."""
        return [(evidence, claim) for claim, evidence in pairs] if self.pair_order != CLAIM_FIRST else list(pairs)

    def input_ids(self, pairs: Sequence[Pair]) -> tuple[tuple[int, ...], ...]:
        """The token ids of each pair, prompt and special tokens included, truncated, not padded."""
        ordered = self.ordered(pairs)
        first, second = [self.prompt + text for text, _ in ordered], [text for _, text in ordered]
        encoded = self.tokenizer(first, second, truncation="longest_first", max_length=self.max_length)
        return tuple(map(tuple, encoded["input_ids"]))

    def empty_logits(self) -> tuple[float, ...]:
        """The logits of two empty texts, where those have no token at all; else nothing.

        PyTorch has them among other pairs only, where they are all padding and no attention sees anything.
        """
        if any(self.input_ids([("", "")])):
            return ()
        with quiet():
            logits: Any = self.encoder.predict(
                [("", ""), ("a", "b")], activation_fn=torch.nn.Identity(), show_progress_bar=False
            )
        return tuple(np.asarray(logits[0], dtype=np.float32).reshape(-1).tolist())


def load_reference(
    checkpoint: Checkpoint, max_length: int | None = None, pair_order: PairOrder = CLAIM_FIRST
) -> Reference:
    """Load a checkpoint as CrossEncoder does. `max_length`: tokens, instead of what CrossEncoder resolves.

    Raises PairscoreError for a checkpoint that CrossEncoder cannot load, that has no fast tokenizer, or whose
    settings a bundle cannot hold.
    """
    name = checkpoint.source.name
    encoder = open_crossencoder(checkpoint, max_length)
    tokenizer = encoder.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise PairscoreError(
            f"{name!r} has only a slow tokenizer ({type(tokenizer).__name__}): save a fast one (tokenizer.json) with it"
        )
    if tokenizer.pad_token_id is None:
        raise PairscoreError(f"the tokenizer of {name!r} has no padding token: set one and save it again")
    model: Any = encoder.model
    activate: Any = encoder.activation_fn
    config = model.config
    _check_inputs(encoder, model, name)
    prompts: Any = encoder.prompts
    prompt = prompts.get(encoder.default_prompt_name) or ""
    if prompt and pair_order != CLAIM_FIRST:
        raise PairscoreError(
            f"{name!r} has the prompt {prompt!r:.60}, which CrossEncoder puts before the first text, and with "
            f"--pair-order {pair_order} that is the evidence: only prompts before a claim can be exported"
        )
    return Reference(
        checkpoint=checkpoint,
        loaded=encoder,
        tokenizer=tokenizer,
        activate=activate,
        model_type=config.model_type,
        labels=_labels(config, int(encoder.num_labels), name),
        activation=_activation(activate, name),
        max_length=_max_length(tokenizer.model_max_length, config, max_length, name),
        truncation_side=tokenizer.truncation_side,
        pad_token_id=tokenizer.pad_token_id,
        prompt=prompt,
        pair_order=pair_order,
    )


def open_crossencoder(checkpoint: Checkpoint, max_length: int | None = None, **model_kwargs: Any) -> CrossEncoder:
    """The checkpoint as sentence-transformers loads it: fp32, on the CPU, without code or pickles of its own.

    Raises PairscoreError for whatever a broken checkpoint makes the libraries raise.
    """
    named = checkpoint.config.get("_attn_implementation") or checkpoint.config.get("attn_implementation")
    # Attention for GPUs, which may be named in a checkpoint, gives the same logits and may not be installed.
    attention = {} if named in (None, "eager", "sdpa") else {"attn_implementation": "sdpa"}
    with quiet():
        try:
            encoder: Any = CrossEncoder(
                str(checkpoint.folder),
                device="cpu",
                max_length=max_length,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"torch_dtype": torch.float32, "use_safetensors": True, **attention, **model_kwargs},
            )
        except Exception as error:
            raise PairscoreError(
                f"CrossEncoder cannot load {checkpoint.source.name!r} ({one_line(error)}): check the checkpoint"
            ) from error
    if encoder.model.config.pad_token_id is None:
        # Without it a classifier on a decoder takes one pair at a time.
        encoder.model.config.pad_token_id = encoder.tokenizer.pad_token_id
    return encoder


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' warnings and progress bars off the user's terminal."""
    verbosity = transformers_logging.get_verbosity()
    progress = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    noisy = [logging.getLogger(name) for name in ("optimum", "torch.onnx", "sentence_transformers")]
    levels = [logger.level for logger in noisy]
    for logger in noisy:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if progress:
            transformers_logging.enable_progress_bar()
        for logger, level in zip(noisy, levels, strict=True):
            logger.setLevel(level)


def _check_inputs(encoder: Any, model: Any, name: str) -> None:
    """Refuse a tokenizer whose ids, inputs or template the model, or the runtime, does not take."""
    tokenizer, embeddings = encoder.tokenizer, len(model.get_input_embeddings().weight)
    beyond = [token for token, number in tokenizer.get_vocab().items() if number >= embeddings]
    if beyond:
        some = ", ".join(map(repr, sorted(beyond)[:3]))
        raise PairscoreError(
            f"{len(beyond)} tokens of {name!r} have no embedding, among them {some} (there are {embeddings}): call "
            "`model.resize_token_embeddings(len(tokenizer))` and fine-tune, or save the tokenizer without them"
        )
    taken = inspect.signature(model.forward).parameters
    unknown = [each for each in tokenizer.model_input_names if each not in taken]
    if unknown:
        raise PairscoreError(
            f"the tokenizer of {name!r} gives {unknown[0]}, which {type(model).__name__} does not take: set "
            'model_input_names in tokenizer_config.json to ["input_ids", "attention_mask"]'
        )
    if "message" in getattr(encoder[0], "modality_config", {}):
        raise PairscoreError(
            f"{name!r} has a chat template, which CrossEncoder puts around every pair and a bundle cannot: if the "
            "model was trained on plain pairs, take chat_template out of tokenizer_config.json, or remove "
            "chat_template.jinja"
        )


def _labels(config: Any, count: int, name: str) -> tuple[str, ...]:
    """The names in the configuration, which a stack of modules may not have."""
    labels = tuple(str(config.id2label.get(place, f"LABEL_{place}")) for place in range(count))
    if len(set(labels)) != len(labels):
        raise PairscoreError(f"two labels of {name!r} have one name ({', '.join(labels)}): correct id2label")
    return labels


def _activation(function: object, name: str) -> str:
    kind = type(function)
    path = f"{kind.__module__}.{kind.__qualname__}"
    if path not in ACTIVATION_OF:
        raise PairscoreError(f"{name!r} uses the activation {path!r}: only {ACTIVATIONS} are supported")
    return ACTIVATION_OF[path]


def _max_length(resolved: int, config: Any, asked: int | None, name: str) -> int:
    positions = getattr(config, "max_position_embeddings", None)
    if asked is not None and positions is not None and asked > positions:
        raise PairscoreError(
            f"--max-length {asked} is more than the {positions} positions of {name!r}: use at most that"
        )
    if resolved > _NO_LIMIT:
        raise PairscoreError(f"{name!r} says no maximum length: give one with --max-length")
    return int(resolved)
