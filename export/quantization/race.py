"""int8 for one model and one user's pairs: fit every candidate, judge each, take the fastest that keeps the promise."""

import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from pairscore.export.errors import ParityError
from pairscore.export.parity.gate import Trial, choose, try_out
from pairscore.export.parity.measure import ParitySet, open_unproven
from pairscore.export.parity.ranking import ranking_figures
from pairscore.export.quantization.calibration import Calibration
from pairscore.export.quantization.int8 import candidates, sensitivities
from pairscore.export.reference import Reference
from pairscore.export.variants import GRAPH_FOLDER, BuiltVariant, unmeasured
from pairscore.runtime.bundle.manifest import Variant
from pairscore.runtime.bundle.parity import Tier
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.stream.batching import plan_batches

INT8_NAME = f"{GRAPH_FOLDER}/model_int8.onnx"
# Tokens of a batch whose activations are kept at once while int8 is fitted.
_BATCH_TOKENS = 1024
# Where no candidate keeps the promise, these shares of the matrix products stay in fp32, the most sensitive ones.
_KEPT_SHARES = (0.25, 0.5)


def best_int8(
    folder: Path,
    reference: Reference,
    parity_set: ParitySet,
    calibration: Calibration,
    *,
    promise: Tier | None,
    say: Callable[[str], None],
) -> Variant:
    """Try every candidate on the bundle in `folder`; return the best, measured, its graph at `INT8_NAME`.

    parity_set: pairs that are judged in every export. Raises ParityError when no candidate keeps the promise.
    """
    fitted, judged = calibration.split()
    every = ParitySet(
        [*parity_set.pairs, *judged.pairs], np.concatenate([parity_set.logits, reference.logits(judged.pairs)])
    )
    say(f"Fitting int8 to {len(fitted.pairs)} pairs and judging it on {len(every.pairs)} others")
    fp32 = open_unproven(folder, "fp32")
    graph = folder / fp32.bundle.variant("fp32").files[0]
    batches = _batches(fp32, fitted)

    def attempt(scratch: Path, keep: Collection[str]) -> Trial:
        tried = []
        for candidate in candidates(graph, scratch, batches, keep):
            name = candidate.file.relative_to(folder).as_posix()
            built = BuiltVariant("int8", (name,), (candidate.engine,), (candidate.note,), candidate.settings)
            tried.append((candidate.name, unmeasured(built, folder, promise)))
        trials = try_out(folder, tried, reference, every)
        for trial in trials:
            say(f"  {trial}")
        return choose(trials, "int8")

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            chosen = attempt(Path(scratch), ())
        except ParityError:
            chosen = _with_kept(Path(scratch), graph, batches, attempt, say)
        (folder / chosen.variant.files[0]).replace(folder / INT8_NAME)
    note = f"chosen: {chosen.name}, {chosen.ratio_to_fp32:.2f} times as fast as fp32 on this processor"
    say(note.capitalize())
    variant = replace(chosen.variant, files=(INT8_NAME,), notes=(*chosen.variant.notes, note))
    if judged.labels and len(reference.labels) == 1:
        scorer = open_unproven(folder, "int8", variant.engines[0], variant=variant)
        ours = np.asarray(scorer.predict(list(judged.pairs), activation="identity"))
        systems = {"PyTorch fp32": every.logits[-len(judged.pairs) :, 0], "int8": ours}
        figures = {name: ranking_figures(judged.pairs, judged.labels, logits) for name, logits in systems.items()}
        variant = replace(variant, ranking={name: each for name, each in figures.items() if each})
    return variant


def _with_kept(
    scratch: Path,
    graph: Path,
    batches: Sequence[Batch],
    attempt: Callable[[Path, Collection[str]], Trial],
    say: Callable[[str], None],
) -> Trial:
    """Try again with the most sensitive products in fp32, more of them each time. Raises the last ParityError."""
    ranked = sensitivities(onnx.load(str(graph)), batches)
    for share in _KEPT_SHARES:
        keep = list(ranked)[: max(1, round(len(ranked) * share))]
        say(f"None keeps the promise: trying with the {len(keep)} most sensitive matrix products in fp32")
        try:
            return attempt(scratch, keep)
        except ParityError:
            if share == _KEPT_SHARES[-1]:
                raise
    raise AssertionError("unreachable")


def _batches(scorer: Scorer, calibration: Calibration) -> list[Batch]:
    tokenized = scorer.tokenize(calibration.pairs)
    return [tokenized.batch(rows) for rows in plan_batches(tokenized.lengths, _BATCH_TOKENS)]
