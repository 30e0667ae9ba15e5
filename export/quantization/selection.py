"""int8 for one model and one user's pairs: fit every candidate, judge each, take the fastest that keeps the promise."""

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from pairscore.export.encoder.formula import EncoderWeights, Rows
from pairscore.export.encoder.read import UnknownEncoderError, read_encoder
from pairscore.export.errors import ParityError
from pairscore.export.graphs.editing import data_file, load_graph
from pairscore.export.model import LogitsModel, logits_model
from pairscore.export.parity.gate import Trial, choose, try_out
from pairscore.export.parity.measure import ParitySet, open_unproven
from pairscore.export.parity.ranking import ranking_figures
from pairscore.export.quantization.calibration import CalibrationPairs, Seen, observe, rows_of_weights
from pairscore.export.quantization.int8 import ENGINES as GRAPH_ENGINES
from pairscore.export.quantization.int8 import GROUP_SIZES, Candidate, candidates, products, sensitivities, weights
from pairscore.export.quantization.native import ENGINE as NATIVE
from pairscore.export.quantization.native import native_candidates, unfit
from pairscore.export.reference import Reference
from pairscore.export.variants import unmeasured
from pairscore.runtime.bundle.manifest import Variant
from pairscore.runtime.bundle.parity import Tier
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.engines.registry import is_installed
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.stream.batching import plan_batches

# Tokens of a batch whose activations are kept at once while int8 is fitted.
_BATCH_TOKENS = 1024
_EXTRAS = {NATIVE: "kernels", "openvino": "openvino", "onnxruntime": "cpu"}
# Where no candidate keeps the promise, these shares of the matrix products stay in fp32, the most sensitive ones.
_KEPT_SHARES = (0.25, 0.5)


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
    observed = _observed_model(open_unproven(folder, "fp32"), reference, fitted, engines)
    notes = [f"{NATIVE} left out: {observed.left_out}"] if observed.left_out else []
    for each in notes:
        if engine == NATIVE:
            raise PairscoreError(each)
        say(f"  {each}")
    targets: dict[str, tuple[str, ...]] = {}

    def attempt(scratch: Path, keep: Collection[str]) -> Trial:
        tried = []
        for each in observed.candidates(scratch, keep):
            names = tuple(file.relative_to(folder).as_posix() for file in each.files)
            variant = unmeasured(folder, "int8", names, (each.engine,), (each.note,), each.settings, each.inputs)
            tried.append((each.name, replace(variant, promise=promise)))
            targets[each.name] = each.targets
        if not tried:
            left_out = f"{observed.left_out}; " if observed.left_out else ""
            sizes = sorted({each.inputs for each in products(observed.model)})
            raise PairscoreError(
                f"no int8 candidate can be made here: {left_out}groups have {min(GROUP_SIZES)} channels or more, "
                f"and the matrix products {', '.join(map(str, sizes))}"
            )
        trials = try_out(folder, tried, reference, every)
        for trial in trials:
            say(f"  {trial}")
            notes.append(f"tried: {trial}")
        return choose(trials, "int8")

    def first_that_keeps_it(scratch: Path) -> Trial:
        keep: list[str] = []
        ranked: list[str] = []
        for share in _KEPT_SHARES:
            try:
                return attempt(scratch, keep)
            except ParityError:
                if engine == NATIVE:  # that has no product in fp32 to fall back to
                    raise
            folder_of_weights = observed.outside and observed.outside.parent
            ranked = ranked or list(sensitivities(observed.model, observed.batches, folder_of_weights))
            keep = ranked[: max(1, round(len(ranked) * share))]
            say(f"None keeps the promise: trying with the {len(keep)} most sensitive matrix products in fp32")
        return attempt(scratch, keep)

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        chosen = first_that_keeps_it(Path(scratch))
        for file, target in zip(chosen.variant.files, targets[chosen.name], strict=True):
            (folder / target).parent.mkdir(exist_ok=True)
            (folder / file).replace(folder / target)
    note = f"chosen: {chosen.name}, {chosen.ratio_to_fp32:.2f} times as fast as fp32 on this processor"
    say(note[0].upper() + note[1:])
    variant = replace(chosen.variant, files=targets[chosen.name], notes=(*chosen.variant.notes, note, *notes))
    scorer = open_unproven(folder, "int8", variant.engines[0], variant=variant)
    if variant.engines[0] == NATIVE:
        variant = replace(variant, golden_logits=_golden_logits(scorer))
    if judged.labels and len(reference.labels) == 1:
        ours = np.asarray(scorer.predict(list(judged.pairs), activation="identity"))
        systems = {"PyTorch fp32": every.logits[-len(judged.pairs) :, 0], "int8": ours}
        figures = {name: ranking_figures(judged.pairs, judged.labels, logits) for name, logits in systems.items()}
        variant = replace(variant, ranking={name: each for name, each in figures.items() if each})
    return variant


@dataclass(frozen=True)
class _ObservedModel:
    """What candidates are made of. `outside`: the file of the model's weights, where they are not in it. `seen`: what
    products read in a run over `batches`; `seen_by`: the same by the names of the graph's weights. `encoder`: for the
    native engine; None where that takes no part, and `left_out` then says why if the user wanted it.
    """

    model: onnx.ModelProto
    outside: Path | None
    batches: Sequence[Batch]
    seen: Mapping[Rows, Seen]
    seen_by: Mapping[str, Seen]
    engines: tuple[str, ...]
    encoder: EncoderWeights | None
    left_out: str | None

    def candidates(self, scratch: Path, keep: Collection[str]) -> list[Candidate]:
        """All of them, their files in `scratch`. keep: matrix products that stay in fp32."""
        engines = [each for each in self.engines if each != NATIVE]
        graphs = candidates(self.model, scratch, self.seen_by, engines, keep, self.outside)
        if self.encoder is None or keep:
            return list(graphs)
        return [*native_candidates(self.encoder, scratch, self.seen), *graphs]


def _observed_model(
    fp32: Scorer, reference: Reference, fitted: CalibrationPairs, engines: tuple[str, ...]
) -> _ObservedModel:
    bundle = fp32.bundle
    path = bundle.graph(bundle.variant("fp32"))
    graph, outside = load_graph(path), data_file(path)
    model = logits_model(reference)
    encoder, left_out = None, None
    if NATIVE in engines:
        try:
            encoder = _encoder(model, bundle.manifest.max_length)
        except UnknownEncoderError as error:
            left_out = str(error)
    rows_of = rows_of_weights(model, weights(graph, path.parent), encoder)
    wanted = [*rows_of.values(), *(linear.input for _, linear in (encoder.products() if encoder else ()))]
    batches = _batches(fp32, fitted)
    seen = observe(model, wanted, batches)
    seen_by = {name: seen[rows] for name, rows in rows_of.items()}
    return _ObservedModel(
        graph, outside if outside.is_file() else None, batches, seen, seen_by, engines, encoder, left_out
    )


def _encoder(model: LogitsModel, max_length: int) -> EncoderWeights:
    """The encoder for the native engine. Raises UnknownEncoderError with the reason where that takes no part."""
    if not is_installed(NATIVE):
        raise UnknownEncoderError(f"pairscore-kernels is not installed: `pip install pairscore[{_EXTRAS[NATIVE]}]`")
    encoder = read_encoder(model, max_length)
    reason = unfit(encoder)
    if reason:
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


def _golden_logits(scorer: Scorer) -> tuple[tuple[float, ...], ...]:
    golden = scorer.bundle.golden_rows()
    pairs = list(zip(golden.claims, golden.evidence, strict=True))
    logits = np.asarray(scorer.predict(pairs, activation="identity"), dtype=np.float32).reshape(len(pairs), -1)
    return tuple(tuple(row) for row in logits.tolist())


def _batches(scorer: Scorer, calibration: CalibrationPairs) -> list[Batch]:
    tokenized = scorer.tokenize(calibration.pairs)
    return [tokenized.batch(rows) for rows in plan_batches(tokenized.lengths, _BATCH_TOKENS)]
