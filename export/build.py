"""Make a verified bundle of a checkpoint.

check the source -> load PyTorch -> write graph, tokenizer, golden rows into a staging folder
-> score the parity pairs through the runtime -> keep the promise or leave nothing -> rename into place
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pairscore.export.checkpoint import ACTIVATION_OF, Checkpoint, open_checkpoint
from pairscore.export.environment import library_versions
from pairscore.export.graphs.exporter import choose_exporter
from pairscore.export.parity.builtin_pairs import LONGEST_SCORED, builtin_pairs
from pairscore.export.parity.measure import ParitySet, check_parity
from pairscore.export.quantization.calibration import CalibrationPairs
from pairscore.export.quantization.selection import best_int8
from pairscore.export.reference import Reference, load_reference
from pairscore.export.staging import check_target, staged_folder
from pairscore.export.variants import BUILDERS, PRECISIONS, build_fp32
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
from pairscore.runtime.bundle.parity import TIERS, Tier
from pairscore.runtime.errors import PairscoreError, one_line
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.types import Pair

GOLDEN_ROWS = 32
# Golden rows are replayed at every load, so all of them together must stay a fraction of a second.
GOLDEN_TOKENS = 3_000

# Files of a checkpoint that decide how other tools load it; they are copied as they are.
_COPIED = ("config.json", "config_sentence_transformers.json", "modules.json", "sentence_bert_config.json")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

Say = Callable[[str], None]


def build_bundle(
    source: str,
    target: Path,
    *,
    revision: str | None = None,
    precision: str = "fp32",
    exporter: str = "auto",
    pairs: Sequence[Pair] = (),
    calibration: CalibrationPairs | None = None,
    engine: str = "auto",
    max_difference: float | None = None,
    min_spearman: float | None = None,
    max_length: int | None = None,
    pair_order: PairOrder | None = None,
    overwrite: bool = False,
    say: Say = lambda line: None,
) -> Manifest:
    """Export a checkpoint into a bundle at `target` and return its manifest: `export_bundle`, pairs already read.

    `target` is as it was before where anything is raised.
    """
    if precision not in PRECISIONS:
        raise PairscoreError(f"unknown precision {precision!r}: use {', '.join(PRECISIONS)}")
    if precision == "int8" and calibration is None:
        raise PairscoreError("int8 is fitted to your own pairs: give a Parquet file of them with --calibration")
    if precision != "int8" and engine != "auto":
        raise PairscoreError(f"--engine {engine} chooses what int8 is made for: leave it out with {precision}")
    choose_exporter(exporter)  # so that a wrong choice is an error before anything is read
    promise = _promise(precision, max_difference, min_spearman)
    extends = precision != "fp32" and (target / MANIFEST_NAME).is_file()
    if not extends:
        check_target(target, overwrite)
    say(f"Reading {source}")
    checkpoint = open_checkpoint(source, revision)
    size = sum(path.stat().st_size for path in checkpoint.folder.glob("*.safetensors"))
    exporter = choose_exporter(exporter, bool(checkpoint.modules), weights=size)
    old = _bundle_to_extend(target, checkpoint, precision, max_length, pair_order, overwrite) if extends else None
    order = old.pair_order if old else pair_order or CLAIM_FIRST
    reference = load_reference(checkpoint, old.max_length if old else max_length, order)
    if old is None and max_length is None and reference.max_length > LONGEST_SCORED:
        say(
            f"Pairs may have {reference.max_length:,} tokens, and parity is judged on up to {LONGEST_SCORED:,}: where "
            "yours are shorter, --max-length 512 or 1024 saves memory and time"
        )
    try:
        with staged_folder(target) as folder:
            if old:
                shutil.copytree(target, folder, dirs_exist_ok=True)
            else:
                # Before the tokenizer is used: it would save the padding and truncation of its last call.
                _write_shared_files(checkpoint, reference, folder)
            parity_pairs = [*builtin_pairs(reference.max_length), *pairs]
            parity_set = ParitySet(parity_pairs, reference.logits(parity_pairs))
            manifest = old or _new_bundle(folder, reference, parity_set, exporter=exporter, say=say)
            if precision == "int8" and calibration is not None:
                variant = best_int8(folder, reference, parity_set, calibration, engine=engine, promise=promise, say=say)
                manifest = _with_variant(folder, manifest, variant)
            elif precision != "fp32":
                say(f"Adding {precision}")
                variant = replace(BUILDERS[precision](reference, folder), promise=promise)
                manifest = _with_variant(folder, manifest, check_parity(folder, variant, reference, parity_set))
            elif promise is not None:
                variant = replace(manifest.variants["fp32"], promise=promise)
                manifest = _with_variant(folder, manifest, check_parity(folder, variant, reference, parity_set))
            Scorer.from_pretrained(folder, precision=precision)  # as every user will open it
    except OSError as error:
        raise PairscoreError(
            f"cannot write the bundle {str(target)!r} ({one_line(error)}): free some space, or choose another folder"
        ) from error
    return manifest


def _promise(precision: str, max_difference: float | None, min_spearman: float | None) -> Tier | None:
    tier = TIERS[precision]
    if max_difference is not None:
        tier = replace(tier, max_score_difference=max_difference)
    if min_spearman is not None:
        tier = replace(tier, min_spearman=min_spearman)
    return None if tier == TIERS[precision] else tier


def _bundle_to_extend(  # noqa: PLR0917
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


def _new_bundle(folder: Path, reference: Reference, parity_set: ParitySet, *, exporter: str, say: Say) -> Manifest:
    """Turn a folder that holds the shared files into a bundle whose fp32 variant keeps its promise."""
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
    variant = build_fp32(reference, folder, exporter)
    if "token_type_ids" not in reference.tokenizer.model_input_names:
        _drop_token_types(folder / "tokenizer.json")
    (folder / GOLDEN_NAME).write_text(golden_rows(reference, parity_set).to_json(), encoding="utf-8")
    manifest = _with_variant(folder, manifest, variant)
    say(f"Comparing it with PyTorch on {len(parity_set.pairs)} pairs")
    return _with_variant(folder, manifest, check_parity(folder, variant, reference, parity_set))


def _with_variant(folder: Path, manifest: Manifest, variant: Variant) -> Manifest:
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


def _write_shared_files(checkpoint: Checkpoint, reference: Reference, folder: Path) -> None:
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
