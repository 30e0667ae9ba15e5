"""The steps by which an export makes a bundle of a checkpoint, or adds to one: see `api.py`."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pairscore.export.checkpoint import ACTIVATION_OF, Checkpoint
from pairscore.export.parity.builtin_pairs import builtin_pairs
from pairscore.export.parity.measure import ParitySet, check_parity
from pairscore.export.reference import Reference
from pairscore.export.variants import build_fp32
from pairscore.runtime.bundle.manifest import (
    CLAIM_FIRST,
    GOLDEN_NAME,
    MANIFEST_NAME,
    Bundle,
    GoldenRows,
    Manifest,
    PairOrder,
    Variant,
    sha256,
)
from pairscore.runtime.bundle.parity import Tier
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.machine import library_versions

GOLDEN_ROWS = 32
# Golden rows are replayed at every load, so all of them together must stay a fraction of a second.
GOLDEN_TOKENS = 3_000

# Files of a checkpoint that decide how other tools load it; they are copied as they are.
_COPIED = ("config.json", "config_sentence_transformers.json", "modules.json", "sentence_bert_config.json")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def bundle_to_extend(  # noqa: PLR0917
    target: Path,
    checkpoint: Checkpoint,
    precision: str,
    max_length: int | None,
    pair_order: PairOrder | None,
    overwrite: bool,
) -> Manifest | None:
    """The manifest that the variant is added to; None where `overwrite` replaces a bundle of another source."""
    old = Bundle.open(target)
    manifest = old.manifest
    if manifest.source.digest != checkpoint.source.digest:
        if overwrite:
            return None
        raise PairscoreError(
            f"bundle {str(target)!r} was exported from other weights ({manifest.source.name!r}): choose another name, "
            "or replace it with --overwrite"
        )
    if precision in manifest.variants and not overwrite:
        raise PairscoreError(
            f"bundle {str(target)!r} has a variant of precision {precision} already: replace it with --overwrite"
        )
    if max_length is not None and max_length != manifest.max_length:
        raise PairscoreError(
            f"bundle {str(target)!r} has max length {manifest.max_length}, not {max_length}: leave out --max-length"
        )
    if pair_order is not None and pair_order != manifest.pair_order:
        raise PairscoreError(
            f"bundle {str(target)!r} has the pair order {manifest.pair_order}, not {pair_order}: leave out --pair-order"
        )
    for name in manifest.files:
        old.path(name)  # nothing is built on a changed file
    return manifest


def new_bundle(
    folder: Path,
    reference: Reference,
    parity_set: ParitySet,
    *,
    exporter: str,
    promise: Tier | None,
    say: Callable[[str], None],
) -> Manifest:
    """Turn a folder that holds the shared files into a bundle whose fp32 variant keeps `promise`, or its own."""
    order = "the claim first" if reference.pair_order == CLAIM_FIRST else "the evidence first"
    say(f"Exporting {reference.model_type}, {reference.max_length} tokens, {order}, to ONNX")
    manifest = Manifest(
        source=reference.checkpoint.source,
        model_type=reference.model_type,
        labels=reference.labels,
        activation=reference.activation,
        max_length=reference.max_length,
        truncation_side=reference.truncation_side,
        pad_token_id=reference.pad_token_id,
        prompt=reference.prompt,
        empty_logits=reference.empty_logits(),
        pair_order=reference.pair_order,
        variants={},
        files={},
        versions=library_versions(),
    )
    variant = replace(build_fp32(reference, folder, exporter), promise=promise)
    if "token_type_ids" not in reference.tokenizer.model_input_names:
        _drop_token_types(folder / "tokenizer.json")
    (folder / GOLDEN_NAME).write_text(golden_rows(reference, parity_set).to_json(), encoding="utf-8")
    manifest = with_variant(folder, manifest, variant)
    say(f"Comparing it with PyTorch on {len(parity_set.pairs)} pairs")
    return with_variant(folder, manifest, check_parity(folder, variant, reference, parity_set))


def with_variant(folder: Path, manifest: Manifest, variant: Variant) -> Manifest:
    """Add or replace the variant, drop files that no variant uses any more, and write the manifest."""
    variants = {**manifest.variants, variant.precision: variant}
    used = {name for each in variants.values() for name in each.files}
    for old in manifest.variants.values():
        for name in set(old.files) - used:
            (folder / name).unlink(missing_ok=True)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {name: sha256(folder / name) for name in names if name != MANIFEST_NAME}
    manifest = replace(manifest, variants=variants, files=files)
    (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def golden_rows(reference: Reference, parity_set: ParitySet) -> GoldenRows:
    """Some built-in pairs with their token ids and PyTorch logits: varied, few and short enough to replay.

    The user's own pairs never become golden rows: a bundle is made to be passed on.
    """
    candidates = parity_set.pairs[: len(builtin_pairs(reference.max_length))]
    all_ids = reference.input_ids(candidates)
    # One truncated pair is surely in; the others come from the start, where the short ones are.
    truncated = [
        row
        for row, (ids, pair) in enumerate(zip(all_ids, candidates, strict=True))
        if len(ids) == reference.max_length <= GOLDEN_TOKENS // 2 and sum(map(len, pair)) < 100 * reference.max_length
    ][:1]
    rows: list[int] = []
    tokens = 0
    for row in dict.fromkeys([*truncated, *range(len(candidates))]):
        if all_ids[row] and len(rows) < GOLDEN_ROWS and tokens + len(all_ids[row]) <= GOLDEN_TOKENS:
            rows.append(row)
            tokens += len(all_ids[row])
    rows.sort()
    return GoldenRows(
        claims=tuple(candidates[row][0] for row in rows),
        evidence=tuple(candidates[row][1] for row in rows),
        input_ids=tuple(all_ids[row] for row in rows),
        logits=parity_set.logits[rows],
    )


def write_shared_files(checkpoint: Checkpoint, reference: Reference, folder: Path) -> None:
    """Configuration and tokenizer, as CrossEncoder uses them: so `tokenizer.json` is saved from the loaded one."""
    if checkpoint.modules:
        (folder / "config.json").write_text(_plain_config(checkpoint, reference), encoding="utf-8")
    else:
        for name in _COPIED:
            if (checkpoint.folder / name).is_file():
                shutil.copyfile(checkpoint.folder / name, folder / name)
    for saved in map(Path, reference.tokenizer.save_pretrained(folder)):
        if saved.name not in _TOKENIZER_FILES and saved.exists():
            saved.unlink()


def _plain_config(checkpoint: Checkpoint, reference: Reference) -> str:
    """The transformer's configuration with the head's labels and activation: the graph holds the modules, so to other
    tools the bundle is a sequence-classification model.
    """
    activation = {name: path for path, name in ACTIVATION_OF.items()}[reference.activation]
    labels = dict(enumerate(reference.labels))
    own = {
        "num_labels": len(labels),
        "id2label": labels,
        "label2id": {label: place for place, label in labels.items()},
        "sentence_transformers": {"activation_fn": activation},
    }
    return json.dumps(checkpoint.config | own, indent=2, ensure_ascii=False) + "\n"


def _drop_token_types(path: Path) -> None:
    """Make the pair template give type 0 to every token.

    A tokenizer may number the two texts of a pair and its `transformers` class then not pass the numbers on;
    the model reads zeros. The runtime knows the template alone.
    """

    def zeroed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: 0 if key == "type_id" else zeroed(each) for key, each in value.items()}
        return [zeroed(each) for each in value] if isinstance(value, list) else value

    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    template = zeroed(tokenizer["post_processor"])
    if template != tokenizer["post_processor"]:
        tokenizer["post_processor"] = template
        path.write_text(json.dumps(tokenizer, indent=2, ensure_ascii=False), encoding="utf-8")
