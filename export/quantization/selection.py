"""int8 for one model and one user's pairs: fit every candidate, judge each, take the fastest that keeps the promise."""

import math
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir

from pairscore.export.encoder.families import UnknownEncoderError
from pairscore.export.encoder.formula import EncoderWeights
from pairscore.export.encoder.read import read_encoder
from pairscore.export.errors import ParityError
from pairscore.export.model import LogitsModel
from pairscore.export.parity.gate import Trial, choose, try_out
from pairscore.export.parity.measure import ParitySet, logits_of, open_unproven
from pairscore.export.parity.ranking import ranking_figures
from pairscore.export.quantization.calibration import CalibrationPairs, observe
from pairscore.export.quantization.int8 import ENGINES as GRAPH_ENGINES
from pairscore.export.quantization.int8 import (
    GROUP_SIZES,
    Candidate,
    candidates,
    products,
    rows_of_weights,
    sensitivities,
)
from pairscore.export.quantization.native import ENGINE as NATIVE
from pairscore.export.quantization.native import native_candidates, unfit
from pairscore.export.reference import Reference
from pairscore.export.variants import unmeasured
from pairscore.runtime.bundle.manifest import Bundle, Variant
from pairscore.runtime.bundle.parity import Tier
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.registry import is_installed
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.stream.batching import plan_batches, tokenize_pairs
from pairscore.runtime.stream.columns import pair_arrays
from pairscore.runtime.text.tokenizer import PairTokenizer

# Tokens of a batch whose activations are kept at once while int8 is fitted.
_BATCH_TOKENS = 1024
_EXTRAS = {NATIVE: "kernels", "openvino": "openvino", "onnxruntime": "cpu"}
# Shares of the matrix products that stay in fp32, the most sensitive ones, until a candidate keeps the promise.
_KEPT_SHARES = (0.0, 0.25, 0.5)


def best_int8(
    folder: Path,
    reference: Reference,
    parity_set: ParitySet,
    calibration: CalibrationPairs,
    *,
    engine: str = "auto",
    promise: Tier | None,
    say: Callable[[str], None],
) -> Variant:
    """Try every candidate on the bundle in `folder`; return the best, measured, its files under their final names.

    parity_set: pairs that are judged in every export. engine: the only one that takes part, unless it is auto. Raises
    ParityError when no candidate keeps the promise, and PairscoreError for an engine that has none.
    """
    engines = _engines(engine)
    fitted, judged = calibration.split()
    every = ParitySet(
        [*parity_set.pairs, *judged.pairs], np.concatenate([parity_set.logits, reference.logits(judged.pairs)])
    )
    say(f"Fitting int8 to {len(fitted.pairs)} pairs and judging it on {len(every.pairs)} others")
    bundle = Bundle.open(folder)
    graph = bundle.graph(bundle.variant("fp32"))
    tokenized = tokenize_pairs(PairTokenizer.of_bundle(bundle), *pair_arrays(fitted.pairs))
    batches = [tokenized.batch(rows) for rows in plan_batches(tokenized.lengths, _BATCH_TOKENS)]
    notes: list[str] = []
    targets: dict[str, tuple[str, ...]] = {}

    def attempt(scratch: Path, ranked: Sequence[str] = (), shares: Sequence[float] = _KEPT_SHARES) -> Trial:
        keep = ranked[: math.ceil(len(ranked) * shares[0])]
        if keep:
            say(f"None keeps the promise: trying with the {len(keep)} most sensitive matrix products in fp32")
        made, left_out = _candidates(reference, graph, batches, scratch, engines, keep)
        if left_out:
            say(f"  {left_out}")
            notes.append(left_out)
        tried = []
        for each in made:
            variant = unmeasured(folder, "int8", each.files, (each.engine,), (each.note,), each.settings, each.inputs)
            tried.append((each.name, replace(variant, promise=promise)))
            targets[each.name] = each.targets
        trials = try_out(folder, tried, reference, every)
        for trial in trials:
            say(f"  {trial}")
            notes.append(f"tried: {trial}")
        try:
            return choose(trials, "int8")
        except ParityError:
            # The native engine has no product in fp32 to fall back to.
            if len(shares) == 1 or engine == NATIVE:
                raise
        return attempt(scratch, ranked or list(sensitivities(graph, batches)), shares[1:])

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        chosen = attempt(Path(scratch))
        for file, target in zip(chosen.variant.files, targets[chosen.name], strict=True):
            (folder / target).parent.mkdir(exist_ok=True)
            (folder / file).replace(folder / target)
    note = f"chosen: {chosen.name}, {chosen.ratio_to_fp32:.2f} times as fast as fp32 on this processor"
    say(note[0].upper() + note[1:])
    variant = replace(chosen.variant, files=targets[chosen.name], notes=(*chosen.variant.notes, note, *notes))
    scorer = open_unproven(folder, "int8", variant.engines[0], variant=variant)
    if variant.engines[0] == NATIVE:
        golden = bundle.golden_rows()
        logits = logits_of(scorer, zip(golden.claims, golden.evidence, strict=True))
        variant = replace(variant, golden_logits=tuple(map(tuple, logits.tolist())))
    if judged.labels and len(reference.labels) == 1:
        ours = logits_of(scorer, judged.pairs)
        systems = {"PyTorch fp32": every.logits[-len(ours) :, 0], "int8": ours[:, 0]}
        figures = {name: ranking_figures(judged.pairs, judged.labels, logits) for name, logits in systems.items()}
        variant = replace(variant, ranking={name: each for name, each in figures.items() if each})
    return variant


def _candidates(  # noqa: PLR0917
    reference: Reference,
    graph: Path,
    batches: Sequence[Batch],
    scratch: Path,
    engines: Collection[str],
    keep: Collection[str],
) -> tuple[list[Candidate], str | None]:
    """All candidates, their files in `scratch`; and why the native engine has none, if the user wanted one.

    graph: that of fp32. keep: matrix products that stay in fp32, which the native engine cannot do. What the model and
    its products' rows take in memory is free when this returns, before any candidate is opened. Raises PairscoreError
    where there are none.
    """
    model = LogitsModel(reference.encoder)
    encoder, left_out = None, None
    if NATIVE in engines and not keep:
        try:
            encoder = _encoder(model, reference.max_length)
        except UnknownEncoderError as error:
            left_out = f"{NATIVE} left out: {error}"
            if len(engines) == 1:
                raise PairscoreError(left_out) from error
    rows_of = rows_of_weights(model, graph, encoder)
    read = [each.input for _, each in (encoder.products() if encoder else ())]
    seen = observe(model, [*rows_of.values(), *read], batches)
    seen_by = {name: seen[rows] for name, rows in rows_of.items()}
    libraries = [each for each in engines if each != NATIVE]
    made = [
        *(native_candidates(encoder, scratch, seen) if encoder else ()),
        *candidates(graph, scratch, seen_by, libraries, keep),
    ]
    if not made:
        sizes = ", ".join(map(str, sorted({each.inputs for each in products(onnx_ir.load(graph))})))
        raise PairscoreError(
            f"no int8 candidate can be made here: {f'{left_out}; ' if left_out else ''}groups have {min(GROUP_SIZES)} "
            f"channels or more, and the matrix products {sizes}"
        )
    return made, left_out


def _encoder(model: LogitsModel, max_length: int) -> EncoderWeights:
    """The encoder for the native engine. Raises UnknownEncoderError with the reason where that takes no part."""
    if not is_installed(NATIVE):
        raise UnknownEncoderError(f"pairscore-kernels is not installed: `pip install pairscore[{_EXTRAS[NATIVE]}]`")
    encoder = read_encoder(model, max_length)
    if reason := unfit(encoder):
        raise UnknownEncoderError(reason)
    return encoder


def _engines(engine: str) -> tuple[str, ...]:
    """The engines that take part. Raises PairscoreError for one that no int8 is made for, or that is not installed."""
    every = (NATIVE, *GRAPH_ENGINES)
    if engine == "auto":
        return every
    if engine not in every:
        raise PairscoreError(f"int8 is not made for the engine {engine!r}: use auto, {', '.join(every)}")
    if not is_installed(engine):
        raise PairscoreError(f"the engine {engine} is not installed: `pip install pairscore[{_EXTRAS[engine]}]`")
    return (engine,)
