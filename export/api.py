"""`export_bundle`: `pairscore export` from Python. PyTorch is imported when it is called.

check the source -> load PyTorch -> write graph, tokenizer, golden rows into a staging folder
-> score the parity pairs through the runtime -> keep the promise or leave nothing -> rename into place
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pairscore.export.environment import require_export_extra
from pairscore.export.staging import check_target, staged_folder
from pairscore.runtime.arguments import python_call
from pairscore.runtime.bundle.manifest import CLAIM_FIRST, MANIFEST_NAME, Manifest, PairOrder
from pairscore.runtime.bundle.parity import TIERS, Tier
from pairscore.runtime.errors import PairscoreError, one_line
from pairscore.runtime.pairs_file import Pairs, given_pairs, read_labels
from pairscore.runtime.scorer import Scorer


@python_call(max_difference=0, min_spearman=-1, max_length=1)
def export_bundle(
    source: str | Path,
    bundle: str | Path,
    *,
    revision: str | None = None,
    precision: str = "fp32",
    exporter: str = "auto",
    pairs: Pairs = (),
    calibration: Pairs | None = None,
    claim_column: str = "claim",
    evidence_column: str = "evidence",
    label_column: str | None = None,
    engine: str = "auto",
    max_difference: float | None = None,
    min_spearman: float | None = None,
    max_length: int | None = None,
    pair_order: PairOrder | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Export the cross-encoder `source`, a folder or a Hugging Face id, into the folder `bundle`; return its manifest.

    fp32 makes a new bundle. Any other precision is added to the bundle of the same source that is there. The result is
    compared with PyTorch before the folder appears.

    `pairs`: your own, on which parity is checked beside the built-in ones. `calibration`: your own, which int8 is
    fitted to and judged on. Both are a Parquet file, with `claim_column` and `evidence_column`, or a list of pairs.
    `label_column`: column of the calibration file that marks relevant evidence; adds ranking figures. `engine`: the
    one that int8 is made for; auto tries all. `max_difference`, `min_spearman`: in place of the precision's promise.
    `max_length`: tokens a pair is truncated to, in place of the model's. `pair_order`: which text the
    model reads first; claim-evidence, or the bundle's own, by default. `say`: called with a line about each step.

    Raises PairscoreError for what cannot be exported, and ParityError, one of those, for scores further from PyTorch's
    than promised. In both cases nothing is written.
    """
    require_export_extra()
    from pairscore.export.build import bundle_to_extend, new_bundle, with_variant, write_shared_files
    from pairscore.export.checkpoint import open_checkpoint
    from pairscore.export.graphs.exporter import choose_exporter
    from pairscore.export.parity.builtin_pairs import LONGEST_SCORED, builtin_pairs
    from pairscore.export.parity.measure import ParitySet, check_parity
    from pairscore.export.quantization.calibration import CalibrationPairs
    from pairscore.export.quantization.selection import best_int8
    from pairscore.export.reference import load_reference
    from pairscore.export.variants import BUILDERS

    _check_choices(precision, engine, calibration, label_column)
    choose_exporter(exporter)  # so that a wrong choice is an error before anything is read
    own = given_pairs(pairs, claim_column, evidence_column)
    rows = given_pairs(calibration or (), claim_column, evidence_column, option="--calibration")
    fitted = CalibrationPairs(tuple(rows), read_labels(Path(str(calibration)), label_column) if label_column else None)
    promise = _promise(precision, max_score_difference=max_difference, min_spearman=min_spearman)
    target = Path(bundle)
    extends = precision != "fp32" and (target / MANIFEST_NAME).is_file()
    if not extends:
        check_target(target, overwrite)
    say(f"Reading {source}")
    checkpoint = open_checkpoint(str(source), revision)
    size = sum(path.stat().st_size for path in checkpoint.folder.glob("*.safetensors"))
    exporter = choose_exporter(exporter, bool(checkpoint.modules), weights=size)
    old = bundle_to_extend(target, checkpoint, precision, max_length, pair_order, overwrite) if extends else None
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
                write_shared_files(checkpoint, reference, folder)
            parity_pairs = [*builtin_pairs(reference.max_length), *own]
            parity_set = ParitySet(parity_pairs, reference.logits(parity_pairs))
            first = promise if precision == "fp32" else None
            manifest = old or new_bundle(folder, reference, parity_set, exporter=exporter, promise=first, say=say)
            if precision == "int8":
                variant = best_int8(folder, reference, parity_set, fitted, engine=engine, promise=promise, say=say)
                manifest = with_variant(folder, manifest, variant)
            elif precision != "fp32":
                say(f"Adding {precision}")
                variant = replace(BUILDERS[precision](reference, folder), promise=promise)
                manifest = with_variant(folder, manifest, check_parity(folder, variant, reference, parity_set))
            Scorer.from_pretrained(folder, precision=precision)  # as every user will open it
    except OSError as error:
        raise PairscoreError(
            f"cannot write the bundle {str(target)!r} ({one_line(error)}): free some space, or choose another folder"
        ) from error
    return manifest


def _check_choices(precision: str, engine: str, calibration: Pairs | None, label_column: str | None) -> None:
    if precision not in TIERS:
        raise PairscoreError(f"unknown precision {precision!r}: use {', '.join(TIERS)}")
    if precision == "int8" and calibration is None:
        raise PairscoreError("int8 is fitted to your own pairs: give a Parquet file of them with --calibration")
    if precision != "int8" and engine != "auto":
        raise PairscoreError(f"--engine {engine} chooses what int8 is made for: leave it out with {precision}")
    if label_column is not None and not isinstance(calibration, str | Path):
        raise PairscoreError("--label-column names a column of --calibration: give that file too")


def _promise(precision: str, **bounds: float | None) -> Tier | None:
    """The precision's, with these bounds; None where none is given."""
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    return replace(TIERS[precision], **given) if given else None
