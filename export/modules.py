"""Cross-encoders that are a stack of modules: which stacks can be exported, read off their files.

sentence-transformers saves such a checkpoint as `modules.json`, the transformer in the top folder and each further
module in a folder of its own, for example Transformer, Pooling, Dense, LayerNorm, Dense.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairscore.runtime.errors import PairscoreError

MODULES_NAME = "modules.json"
TRANSFORMER_NAME = "sentence_bert_config.json"
# Modules that keep their weights in a folder of their own, and those that have none.
_WITH_WEIGHTS = ("Dense", "LayerNorm")
_KINDS = ("Pooling", *_WITH_WEIGHTS, "Normalize", "Dropout")
# What a Dense may apply: functions of torch.nn that work number by number, with their default settings.
# fmt: off
DENSE_ACTIVATIONS = (
    "CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU", "LogSigmoid",
    "Mish", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink",
)
# fmt: on


@dataclass(frozen=True)
class SavedModule:
    """One module behind the transformer: its class, its folder within the checkpoint, its `config.json`."""

    kind: str
    path: str
    settings: dict[str, Any]


def read_modules(folder: Path, name: str) -> tuple[SavedModule, ...]:
    """The modules behind the transformer of the checkpoint in `folder`; empty for one plain transformer.

    Raises PairscoreError, naming the module, for a stack that cannot be exported.
    """
    listed = read_json(folder / MODULES_NAME) or []
    for module in listed:
        if not str(module["type"]).startswith("sentence_transformers."):
            raise PairscoreError(
                f"{name!r} brings code of its own (module {module['type']!r} in {MODULES_NAME}), which is never run: "
                "give a checkpoint of modules that sentence-transformers has built in"
            )
    kinds = [str(module["type"]).rpartition(".")[2] for module in listed]
    if kinds[:1] not in ([], ["Transformer"]) or (listed and listed[0].get("path")):
        raise PairscoreError(
            f"{name!r} begins with the module {kinds[0]} at {listed[0].get('path')!r}: only stacks that begin with a "
            "Transformer in the top folder can be exported"
        )
    if len(listed) < 2:
        return ()
    own = read_json(folder / "config_sentence_transformers.json") or {}
    if own.get("model_type", "SentenceTransformer") != "CrossEncoder":
        raise PairscoreError(
            f"{name!r} is a {own.get('model_type', 'SentenceTransformer')} ({', '.join(kinds)}), which embeds single "
            "texts: give a cross-encoder, or fine-tune one from it with `pairscore train --start`"
        )
    _check_transformer(folder, name)
    modules = tuple(
        _module(folder, name, kind, str(module["path"])) for kind, module in zip(kinds[1:], listed[1:], strict=True)
    )
    if not any(module.settings.get("module_output_name") == "scores" for module in modules):
        raise PairscoreError(
            f"none of the modules of {name!r} ({', '.join(kinds)}) writes scores: give a stack that ends with a Dense "
            "whose module_output_name is 'scores'"
        )
    return modules


def module_weights(folder: Path, name: str, modules: tuple[SavedModule, ...]) -> list[Path]:
    """The safetensors files of the modules that have weights. Raises PairscoreError where there are only pickles."""
    files = [folder / module.path / "model.safetensors" for module in modules if module.kind in _WITH_WEIGHTS]
    for path in files:
        if not path.is_file():
            where = path.parent.name
            raise PairscoreError(
                f"the module {where!r} of {name!r} has no model.safetensors, and pickles are never loaded: load the "
                "model where you trust it and save it again with `save_pretrained`"
            )
    return files


def _check_transformer(folder: Path, name: str) -> None:
    settings = read_json(folder / TRANSFORMER_NAME) or {}
    others = [modality for modality in settings.get("modality_config") or {} if modality != "text"]
    if others:
        raise PairscoreError(
            f"{name!r} reads pairs as {', '.join(others)} ({TRANSFORMER_NAME}): only those that read them as text can "
            "be exported"
        )
    if any((settings.get("processing_kwargs") or {}).values()):
        raise PairscoreError(
            f"{name!r} changes how its tokenizer is called (processing_kwargs in {TRANSFORMER_NAME}): save these "
            "settings in the tokenizer instead"
        )


def _module(folder: Path, name: str, kind: str, path: str) -> SavedModule:
    if kind not in _KINDS:
        raise PairscoreError(
            f"the module {kind} ({path!r}) of {name!r} cannot be exported: those that can are Transformer, "
            f"{', '.join(_KINDS)}"
        )
    if Path(path).name != path:
        raise PairscoreError(f"the module {kind} of {name!r} is in {path!r}, which is no folder of the checkpoint")
    settings = read_json(folder / path / "config.json") or {}
    if kind == "Dense":
        activation = str(settings.get("activation_function", "torch.nn.modules.activation.Tanh"))
        package, _, function = activation.rpartition(".")
        known = package in ("torch.nn", "torch.nn.modules.activation", "torch.nn.modules.linear")
        if not known or function not in DENSE_ACTIVATIONS:
            raise PairscoreError(
                f"the module {path!r} of {name!r} applies {activation!r}: of torch.nn, only "
                f"{', '.join(DENSE_ACTIVATIONS)} can be exported"
            )
    return SavedModule(kind, path, settings)


def read_json(path: Path) -> Any:
    """The content of a JSON file; None where there is no file. Raises PairscoreError for anything else in it."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PairscoreError(f"{str(path)!r} is not valid JSON ({error}): save the checkpoint again") from error
