"""Write a cross-encoder in the layout that it was read from: fp16 safetensors, tokenizer, configuration."""

import copy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder

# Settings of single calls that some checkpoints carry in their tokenizer's configuration.
_CALL_SETTINGS = ("max_length", "stride", "truncation_strategy", "pad_to_multiple_of")

# What CrossEncoder applies to one label's logit, and to those of several labels, unless told otherwise.
SIGMOID = "torch.nn.modules.activation.Sigmoid"
IDENTITY = "torch.nn.modules.linear.Identity"


def save_checkpoint(model: CrossEncoder, folder: Path) -> None:
    """Save weights in fp16, configuration and tokenizer. The model in memory stays as it is.

    A model that is one transformer is saved in the plain Hugging Face layout, a stack of modules as
    sentence-transformers saves it. The tokenizer is saved without the truncation and padding that training set on it:
    whoever opens `tokenizer.json` alone sees the whole text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    saved = copy.deepcopy(model)
    saved.to(device="cpu", dtype=torch.float16)
    several = saved.num_labels != 1
    if is_stack(saved):
        saved.activation_fn = torch.nn.Identity() if several else torch.nn.Sigmoid()
        saved.save_pretrained(str(folder), create_model_card=False)
    else:
        transformer: Any = saved.model
        transformer.config.sentence_transformers = {
            "activation_fn": IDENTITY if several else SIGMOID,
            "version": version("sentence-transformers"),
        }
        transformer.save_pretrained(folder)
    tokenizer: Any = saved.tokenizer
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for name in _CALL_SETTINGS:
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(folder, legacy_format=False)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o644)  # safetensors writes files that only their owner can read


def is_stack(model: CrossEncoder) -> bool:
    """Whether modules follow the transformer, instead of a head of its own."""
    return len(list(model.children())) > 1
