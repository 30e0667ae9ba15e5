"""A checkpoint folder, found and looked through before anything of it is loaded.

Everything that can be refused from the files alone is refused here, in one line: neither remote code nor
pickle is ever touched.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairscore.runtime.bundle.manifest import MANIFEST_NAME, Source, sha256
from pairscore.runtime.errors import PairscoreError, one_line

# Only files of the top folder, and neither pickles nor other frameworks' weights.
_HUB_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model"]
_HUB_EXCLUDED = ["*/*"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")

# What CrossEncoder may be told to apply to the logits -> the activation's name in a manifest.
ACTIVATION_OF = {
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.Softmax": "softmax",
}
ACTIVATIONS = "Sigmoid, Identity, Tanh and Softmax of torch.nn"


@dataclass(frozen=True)
class Checkpoint:
    """A sequence-classification checkpoint on disk that passed the checks on its files.

    `config`: the parsed `config.json`. `source`: what the manifest says about it.
    """

    folder: Path
    config: dict[str, Any]
    source: Source


def open_checkpoint(source: str, revision: str | None = None) -> Checkpoint:
    """Find a local folder, or fetch a Hugging Face id, and check its files.

    Raises PairscoreError when it is not there, or is anything but a sequence-classification model with
    safetensors weights that `transformers` knows without remote code.
    """
    folder, revision = _find(source, revision)
    name = folder.resolve().name if Path(source).is_dir() else source
    config = _check_config(folder, name)
    _check_sentence_transformers(folder, name, config)
    digest = _weights_digest(_weight_files(folder, name))
    return Checkpoint(folder, config, Source(name, revision, digest))


def _find(source: str, revision: str | None) -> tuple[Path, str | None]:
    folder = Path(source)
    if folder.is_dir():
        if revision is not None:
            raise PairscoreError(f"{source!r} is a local folder, which has no revision: drop --revision {revision}")
        return folder, None
    if folder.exists() or not _HUB_ID.fullmatch(source):
        raise PairscoreError(f"no checkpoint folder {source!r}: give a folder, or a Hugging Face id such as org/name")
    return _download(source, revision)


def _download(source: str, revision: str | None) -> tuple[Path, str | None]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        folder = snapshot_download(
            source, revision=revision, allow_patterns=_HUB_PATTERNS, ignore_patterns=_HUB_EXCLUDED
        )
    except GatedRepoError as error:
        raise PairscoreError(f"{source!r} is gated: accept its terms on the hub and run `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise PairscoreError(
            f"no folder and no Hugging Face model {source!r}: check the name, or `hf auth login` for a private one"
        ) from error
    except RevisionNotFoundError as error:
        raise PairscoreError(f"{source!r} has no revision {revision!r}: check --revision") from error
    except Exception as error:  # every way in which a network can fail
        raise PairscoreError(
            f"no folder {source!r}, and the Hugging Face hub cannot be reached ({one_line(error)}): "
            "give a local checkpoint folder, or download the model into the hub's cache first"
        ) from error
    # The hub's cache names a snapshot after its commit, which says more than a branch.
    commit = Path(folder).name
    return Path(folder), commit if re.fullmatch(r"[0-9a-f]{40}", commit) else revision


def _check_config(folder: Path, name: str) -> dict[str, Any]:
    if (folder / MANIFEST_NAME).is_file():
        raise PairscoreError(f"{name!r} is a bundle already: export from the checkpoint it was made of")
    if (folder / "adapter_config.json").is_file():
        raise PairscoreError(f"{name!r} is an adapter: merge it into its base model (`merge_and_unload`) and save that")
    if not (folder / "config.json").is_file():
        raise PairscoreError(f"{name!r} has no config.json: give the folder of a saved `transformers` checkpoint")
    config: dict[str, Any] = _read_json(folder / "config.json")
    architectures = config.get("architectures") or []
    if any(each.endswith("ForCausalLM") for each in architectures):
        raise PairscoreError(
            f"{name!r} is a causal language model ({architectures[0]}), which scores by its next token: only "
            "sequence-classification cross-encoders can be exported"
        )
    if not any(each.endswith("ForSequenceClassification") for each in architectures):
        found = ", ".join(architectures) or "none"
        raise PairscoreError(
            f"{name!r} is not a sequence-classification model (architectures: {found}): give a fine-tuned cross-encoder"
        )
    tokenizer_config = folder / "tokenizer_config.json"
    for path in (folder / "config.json", tokenizer_config):
        if path.is_file() and _read_json(path).get("auto_map"):
            raise PairscoreError(
                f"{name!r} brings code of its own (auto_map in {path.name}), which is never run: give a checkpoint "
                "of an architecture that `transformers` has built in"
            )
    return config


def _check_sentence_transformers(folder: Path, name: str, config: dict[str, Any]) -> None:
    modules = _read_json(folder / "modules.json") if (folder / "modules.json").is_file() else []
    for module in modules:
        if not module["type"].endswith(".Transformer") or module.get("path"):
            raise PairscoreError(
                f"{name!r} is a stack of modules ({module['type']} at {module.get('path')!r}): only cross-encoders "
                "that are one plain Transformer can be exported"
            )
    saved = folder / "config_sentence_transformers.json"
    own = _read_json(saved) if saved.is_file() else {}
    prompt = (own.get("prompts") or {}).get(own.get("default_prompt_name"))
    if prompt:
        raise PairscoreError(
            f"{name!r} puts the prompt {prompt!r:.60} before every text: only cross-encoders without a prompt "
            "can be exported; set default_prompt_name to null in config_sentence_transformers.json if it is not meant"
        )
    allowed = {*ACTIVATION_OF, *(f"torch.nn.{path.rpartition('.')[2]}" for path in ACTIVATION_OF)}
    for activation in (
        own.get("activation_fn"),
        (config.get("sentence_transformers") or {}).get("activation_fn"),
        config.get("sbert_ce_default_activation_function"),
    ):
        if activation is not None and activation not in allowed:
            raise PairscoreError(f"{name!r} uses the activation {activation!r}: only {ACTIVATIONS} are supported")


def _weight_files(folder: Path, name: str) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = sorted({folder / each for each in _read_json(index)["weight_map"].values()})
    else:
        files = [folder / "model.safetensors"]
    missing = [path.name for path in files if not path.is_file()]
    if not missing:
        return files
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise PairscoreError(
            f"{name!r} has pickled weights only, and loading a pickle can run any code: load it where you trust it "
            "and save it again with `model.save_pretrained(FOLDER)`, which writes safetensors"
        )
    raise PairscoreError(f"{name!r} lacks its weights {missing[0]}: give a folder saved by `save_pretrained`")


def _weights_digest(files: list[Path]) -> str:
    """SHA-256 of the weights: the file's own where there is one, else of the list of the shards' digests."""
    if len(files) == 1:
        return sha256(files[0])
    lines = [f"{sha256(path)}  {path.name}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PairscoreError(f"{str(path)!r} is not valid JSON ({error}): save the checkpoint again") from error
