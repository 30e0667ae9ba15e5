"""From a checkpoint to a verified bundle.

check the source -> load PyTorch -> write graph, tokenizer, golden rows into a staging folder
-> score the parity pairs through the runtime -> keep the promise or leave nothing -> rename into place
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pairscore.export.checkpoint import Checkpoint, open_checkpoint
from pairscore.export.environment import library_versions, processor_name
from pairscore.export.errors import ParityError
from pairscore.export.graph import input_names
from pairscore.export.parity import check_token_ids, measure, open_unproven, worst_pairs
from pairscore.export.parity_pairs import Pair, builtin_pairs, truncated_pairs
from pairscore.export.reference import Reference, load_reference
from pairscore.export.staging import check_target, staged_folder
from pairscore.export.variants import BUILDERS, BuiltVariant
from pairscore.runtime.bundle import GOLDEN_NAME, MANIFEST_NAME, GoldenRows, Manifest, Variant, sha256
from pairscore.runtime.engines import is_installed
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.parity import TIERS, FloatArray, ParityReport
from pairscore.runtime.scorer import Scorer

GOLDEN_ROWS = 32
# Golden rows are replayed at every load, so all of them together must stay a fraction of a second.
GOLDEN_TOKENS = 3_000

# Files of a checkpoint that decide how others load it, copied as they are.
_COPIED = ("config.json", "config_sentence_transformers.json", "modules.json", "sentence_bert_config.json")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

Say = Callable[[str], None]


@dataclass(frozen=True)
class ParitySet:
    """Pairs and PyTorch's logits for them, Shape (pairs, labels)."""

    pairs: Sequence[Pair]
    logits: FloatArray


def export_bundle(
    source: str,
    target: Path,
    *,
    revision: str | None = None,
    precision: str = "fp32",
    pairs: Sequence[Pair] = (),
    max_length: int | None = None,
    overwrite: bool = False,
    say: Say = lambda line: None,
) -> Manifest:
    """Export a checkpoint into a new bundle at `target` and return its manifest.

    `pairs`: the user's own, checked beside the built-in ones. `say`: told what is being done, a line at a time.
    Raises PairscoreError for anything that cannot be exported, and ParityError (one of those) when the variant
    breaks its precision's promise; in both cases nothing is left at `target` that was not there before.
    """
    if precision not in BUILDERS:
        raise PairscoreError(f"unknown precision {precision!r}: use {' or '.join(BUILDERS)}")
    check_target(target, overwrite)
    say(f"Reading {source}")
    checkpoint = open_checkpoint(source, revision)
    reference = load_reference(checkpoint, max_length)
    try:
        with staged_folder(target) as folder:
            say(f"Exporting {reference.model_type}, {reference.max_length} tokens, to ONNX")
            _write_shared_files(checkpoint, reference, folder)
            built = BUILDERS[precision](checkpoint, reference, folder)
            if "token_type_ids" not in reference.tokenizer.model_input_names:
                _drop_token_types(folder / "tokenizer.json")
            every = [*builtin_pairs(reference.max_length), *pairs]
            say(f"Comparing it with PyTorch on {len(every)} pairs")
            parity_set = ParitySet(every, reference.logits(every))
            (folder / GOLDEN_NAME).write_text(golden_rows(reference, parity_set).to_json(), encoding="utf-8")
            manifest = _write_manifest(folder, checkpoint, reference, built)
            variant = check_parity(folder, manifest.variants[precision], reference, parity_set)
            manifest = replace(manifest, variants={**manifest.variants, precision: variant})
            (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
            Scorer.from_pretrained(folder, precision=precision)  # as every user will open it
    except OSError as error:
        raise PairscoreError(f"cannot write the bundle {str(target)!r}: {error}") from error
    return manifest


def check_parity(folder: Path, variant: Variant, reference: Reference, parity_set: ParitySet) -> Variant:
    """Measure a variant in `folder`, and return it with its report.

    Its first engine has to keep the precision's promise: raises ParityError otherwise. A further engine that is
    installed and does not is taken off the variant, with a note that says why.
    """
    first = open_unproven(folder, variant.precision, variant.engines[0])
    check_token_ids(first, [*parity_set.pairs, *truncated_pairs(reference.max_length)], reference)
    report = _parity(first, reference, parity_set)
    engines, notes = [variant.engines[0]], list(variant.notes)
    for engine in variant.engines[1:]:
        try:
            if is_installed(engine):
                _parity(open_unproven(folder, variant.precision, engine), reference, parity_set)
            engines.append(engine)
        except PairscoreError as error:
            notes.append(f"{engine} left out: {error}")
    return replace(variant, parity=report, engines=tuple(engines), notes=tuple(notes))


def _parity(scorer: Scorer, reference: Reference, parity_set: ParitySet) -> ParityReport:
    pairs, expected = parity_set.pairs, parity_set.logits
    report, logits = measure(scorer, pairs, reference, expected)
    broken = report.violations(TIERS[scorer.precision])
    if broken:
        raise ParityError(
            f"the {scorer.precision} export is too far from PyTorch: {'; '.join(broken)} over {report.pairs} pairs; "
            f"logits differ in {', '.join(worst_pairs(report, pairs, logits, expected))}; no bundle was written"
        )
    return report


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
        if len(rows) < GOLDEN_ROWS and tokens + len(all_ids[row]) <= GOLDEN_TOKENS:
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
    for name in _COPIED:
        if (checkpoint.folder / name).is_file():
            shutil.copyfile(checkpoint.folder / name, folder / name)
    for saved in map(Path, reference.tokenizer.save_pretrained(folder)):
        if saved.name not in _TOKENIZER_FILES and saved.exists():
            saved.unlink()


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


def _write_manifest(folder: Path, checkpoint: Checkpoint, reference: Reference, built: BuiltVariant) -> Manifest:
    """The manifest before parity is known: its report covers no pairs yet."""
    variant = Variant(
        precision=built.precision,
        files=built.files,
        inputs=input_names(folder / built.files[0]),
        engines=built.engines,
        parity=ParityReport(0, 0.0, 0.0, 0.0, None, None, ()),
        measured_on=processor_name(),
        notes=built.notes,
        settings=built.settings,
    )
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    manifest = Manifest(
        source=checkpoint.source,
        model_type=reference.model_type,
        labels=reference.labels,
        activation=reference.activation,
        max_length=reference.max_length,
        truncation_side=reference.truncation_side,
        pad_token_id=reference.pad_token_id,
        variants={built.precision: variant},
        files={name: sha256(folder / name) for name in files},
        versions=library_versions(),
    )
    (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return manifest
