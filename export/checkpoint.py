"""A checkpoint folder, found and looked through before anything of it is loaded.

Everything that can be refused from the files alone is refused here, in one line: neither remote code nor
pickle is ever touched.
"""

import hashlib
import re
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import CONFIG_MAPPING

from pairscore.export.modules import MODULES_NAME, SavedModule, module_weights, read_json, read_modules
from pairscore.runtime.bundle.hub import hub_errors
from pairscore.runtime.bundle.manifest import MANIFEST_NAME, Source, sha256
from pairscore.runtime.errors import PairscoreError

# Files to fetch: neither pickles nor weights of other frameworks, and no folders but those of modules.
_HUB_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
_LFS_POINTER = b"version https://git-lfs"
_HUB_EXCLUDED = ["*/*"]
_MODULE_FILES = ("config.json", "model.safetensors")
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
    """A cross-encoder on disk that passed the checks on its files.

    `config`: the parsed `config.json`. `source`: what the manifest says about it. `modules`: what follows the
    transformer; empty for a sequence-classification model, whose head is part of it.
    """

    folder: Path
    config: dict[str, Any]
    source: Source
    modules: tuple[SavedModule, ...] = ()


def open_checkpoint(source: str, revision: str | None = None, *, transformers: str | None = None) -> Checkpoint:
    """Find a local folder, or fetch a Hugging Face id, and check its files.

    transformers: the release that is going to load it; by default the installed one. Raises PairscoreError when it is
    not there, or is anything but a sequence-classification model, or a stack of modules, with safetensors weights that
    `transformers` knows without remote code.
    """
    folder, revision = _find(source, revision)
    name = folder.resolve().name if Path(source).is_dir() else source
    config = _check_config(folder, name)
    modules = read_modules(folder, name)
    _check_release(folder, config, name, transformers or version("transformers"))
    _check_sentence_transformers(folder, name, config, modules)
    weights = [*_weight_files(folder, name), *module_weights(folder, name, modules)]
    _check_architecture(config, modules, weights, name)
    return Checkpoint(folder, config, Source(name, revision, _weights_digest(folder, weights)), modules)


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

    with hub_errors(source, revision, "checkpoint folder"):
        folder = snapshot_download(
            source, revision=revision, allow_patterns=_HUB_PATTERNS, ignore_patterns=_HUB_EXCLUDED
        )
        paths = [module["path"] for module in read_json(Path(folder) / MODULES_NAME) or [] if module.get("path")]
        if paths:
            wanted = [f"{path}/{name}" for path in paths for name in _MODULE_FILES]
            folder = snapshot_download(source, revision=_commit(folder) or revision, allow_patterns=wanted)
    # The commit says more than a branch.
    return Path(folder), _commit(folder) or revision


def _commit(folder: str) -> str | None:
    """The hub's cache names a snapshot after its commit."""
    return Path(folder).name if re.fullmatch(r"[0-9a-f]{40}", Path(folder).name) else None


def _check_config(folder: Path, name: str) -> dict[str, Any]:
    if (folder / MANIFEST_NAME).is_file():
        raise PairscoreError(f"{name!r} is a bundle already: export from the checkpoint it was made of")
    if (folder / "adapter_config.json").is_file():
        raise PairscoreError(f"{name!r} is an adapter: merge it into its base model (`merge_and_unload`) and save that")
    if not (folder / "config.json").is_file():
        raise PairscoreError(f"{name!r} has no config.json: give the folder of a saved `transformers` checkpoint")
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.stat().st_size < 1000 and path.read_bytes().startswith(_LFS_POINTER):
            raise PairscoreError(
                f"{path.name} of {name!r} is a Git LFS pointer, not the file: run `git lfs pull` in it"
            )
    config: dict[str, Any] = read_json(folder / "config.json")
    own = [
        each for each in ("config.json", "tokenizer_config.json") if (read_json(folder / each) or {}).get("auto_map")
    ]
    if own and config.get("model_type") not in CONFIG_MAPPING:
        raise PairscoreError(
            f"{name!r} brings code of its own (auto_map in {own[0]}), which is never run, and `transformers` has no "
            f"{config.get('model_type')!r} built in: give a checkpoint of an architecture that it has"
        )
    vocabulary = next(folder.glob("*.model"), None)
    if vocabulary and not (folder / "tokenizer.json").is_file() and not find_spec("sentencepiece"):
        raise PairscoreError(
            f"{name!r} has its tokenizer in {vocabulary.name} alone, which needs `pip install sentencepiece`"
        )
    return config


def _check_architecture(
    config: dict[str, Any], modules: tuple[SavedModule, ...], weights: list[Path], name: str
) -> None:
    architectures = config.get("architectures") or []
    found = ", ".join(architectures) or "none"
    if any(each.endswith("ForCausalLM") for each in architectures):
        raise PairscoreError(
            f"{name!r} is a causal language model ({found}), which scores by its next token, yes or no: only models "
            "with a classifier or a stack of modules can be exported; of many such rerankers there are conversions to "
            "a classifier, published as NAME-seq-cls"
        )
    if config.get("is_encoder_decoder"):
        raise PairscoreError(f"{name!r} is an encoder-decoder ({found}): give a classifier on an encoder or a decoder")
    if modules or any(each.endswith("ForSequenceClassification") for each in architectures):
        return
    # Some checkpoints name the architecture of their base, or none, and CrossEncoder loads them all the same.
    if not all(each.endswith("Model") for each in architectures) or not any(
        _has_classifier(path, name) for path in weights
    ):
        raise PairscoreError(
            f"{name!r} is not a sequence-classification model (architectures: {found}): give a fine-tuned cross-encoder"
        )


def _has_classifier(weights: Path, name: str) -> bool:
    try:
        with safe_open(weights, "np") as file:
            return any(key.split(".")[0] in ("classifier", "score") for key in file.keys())  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise PairscoreError(f"{weights.name} of {name!r} is damaged ({error}): download it again") from error


def _check_release(folder: Path, config: dict[str, Any], name: str, installed: str) -> None:
    """Refuse what a transformers release before 5 reads without a word and computes differently, or cannot open."""
    saved_with = str(config.get("transformers_version", "5"))
    tokenizer = read_json(folder / "tokenizer_config.json") or {}
    listed, named = isinstance(tokenizer.get("extra_special_tokens"), list), tokenizer.get("tokenizer_class")
    unknown = [
        *(["rope_parameters in config.json"] if config.get("rope_parameters") else []),
        *(["the tokenizer class TokenizersBackend"] if named == "TokenizersBackend" else []),
        *(["a list of extra_special_tokens in tokenizer_config.json"] if listed else []),
    ]
    if int(installed.partition(".")[0]) < 5 and unknown:
        raise PairscoreError(
            f"{name!r} was saved by transformers {saved_with}, and {installed}, which is installed here, does not know "
            f"{' and '.join(unknown)}: export it where transformers 5 is installed, "
            '`pip install "pairscore[export]" "transformers>=5" "sentence-transformers>=6"`'
        )


def _check_sentence_transformers(
    folder: Path, name: str, config: dict[str, Any], modules: tuple[SavedModule, ...]
) -> None:
    own = read_json(folder / "config_sentence_transformers.json") or {}
    prompt = (own.get("prompts") or {}).get(own.get("default_prompt_name"))
    if prompt and any(module.settings.get("include_prompt") is False for module in modules):
        raise PairscoreError(
            f"{name!r} puts the prompt {prompt!r:.60} before every claim and leaves it out of its pooling "
            "(include_prompt): only prompts that count as text can be exported"
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
        files = sorted({folder / each for each in read_json(index)["weight_map"].values()})
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


def _weights_digest(folder: Path, files: list[Path]) -> str:
    """SHA-256 of the weights: that of the file where there is one, else that of the list of all files' digests."""
    if len(files) == 1:
        return sha256(files[0])
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
