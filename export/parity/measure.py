"""Measure a bundle's variant, through the runtime that will score with it, against PyTorch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pairscore.export.errors import ParityError
from pairscore.export.parity.builtin_pairs import truncated_pairs
from pairscore.export.reference import Reference
from pairscore.runtime.bundle.manifest import Bundle, Variant
from pairscore.runtime.bundle.parity import TIERS, ParityReport, Tier, compare
from pairscore.runtime.engines.protocol import EngineOptions
from pairscore.runtime.engines.registry import is_installed, open_variant
from pairscore.runtime.errors import PairscoreError, shorten
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.text.tokenizer import PairTokenizer
from pairscore.runtime.types import FloatArray, Pair

# Among fewer pairs, a few neighbours that change places break a promise of Spearman 0.9999: each swap costs 12 / n^3.
RANKED_PAIRS = 200
# Logits of PyTorch that differ by more between a pair alone and among others depend on the batch.
INDEPENDENT = 1e-4


@dataclass(frozen=True)
class ParitySet:
    """Pairs and PyTorch's logits for them, Shape (pairs, labels)."""

    pairs: Sequence[Pair]
    logits: FloatArray


def open_unproven(
    folder: Path, precision: str, engine: str = "auto", device: str = "cpu", *, variant: Variant | None = None
) -> Scorer:
    """Open a variant as `Scorer.from_pretrained` does, without the golden rows. They would stop a wrong variant before
    anything could be said about where it is wrong. `variant`: one that the manifest does not hold yet.
    """
    bundle = Bundle.open(folder)
    graph = None if variant is None else folder / variant.files[0]
    runner = open_variant(bundle, variant or bundle.variant(precision), engine, device, EngineOptions(), graph=graph)
    return Scorer(bundle, precision, runner, PairTokenizer.of_bundle(bundle))


def check_token_ids(scorer: Scorer, pairs: Sequence[Pair], reference: Reference) -> None:
    """Raise ParityError unless the runtime gives every pair the token ids that `transformers` gives it."""
    tokenized = scorer.tokenize(pairs)
    for row, expected in enumerate(reference.input_ids(pairs)):
        if expected and tokenized.batch(tokenized.pair_of[[row]]).input_ids[0].tolist() != list(expected):
            claim, text = (shorten(each, 40) for each in pairs[row])
            raise ParityError(
                f"pair {row} ({claim!r}, {text!r}) gets other token ids from tokenizer.json than from "
                f"{type(reference.tokenizer).__name__}: save the tokenizer again with a current `transformers`"
            )


def logits_of(scorer: Scorer, pairs: Iterable[Pair]) -> FloatArray:
    """The scorer's logits, Shape (pairs, labels)."""
    return np.asarray(scorer.predict(list(pairs), activation="identity"), np.float32).reshape(-1, len(scorer.labels))


def measure(scorer: Scorer, reference: Reference, parity_set: ParitySet) -> tuple[ParityReport, FloatArray]:
    """Compare the scorer's logits and scores with PyTorch's. Returns the report and the scorer's logits."""
    pairs, expected = parity_set.pairs, parity_set.logits
    logits, claims = logits_of(scorer, pairs), [claim for claim, _ in pairs]
    return compare(logits, expected, scorer.scores(logits), reference.scores(expected), claims), logits


def check_parity(folder: Path, variant: Variant, reference: Reference, parity_set: ParitySet) -> Variant:
    """Measure a variant in `folder`, and return it with its report.

    Its first engine has to keep the precision's promise: raises ParityError otherwise. A further engine that is
    installed and does not is taken off the variant, with a note that says why. With fewer than `RANKED_PAIRS` pairs the
    precision's own rank correlation is not demanded, and a note says so; one that the user asked for always is.
    """
    tier, notes = variant.tier, list(variant.notes)
    asked = tier.min_spearman != TIERS[variant.precision].min_spearman
    if not asked and tier.min_spearman is not None and len(parity_set.pairs) < RANKED_PAIRS:
        tier = replace(tier, min_spearman=None)
        notes.append(f"ranks not judged on {len(parity_set.pairs)} pairs: give {RANKED_PAIRS} or more with --pairs")
    reference.release()  # its logits are known
    engines: list[str] = []
    report = variant.parity
    for engine in variant.engines:
        try:
            if not engines or is_installed(engine):
                found = _parity_of(engine, folder, variant, tier, reference, parity_set)
                report = report if engines else found
            engines.append(engine)
        except PairscoreError as error:
            if not engines:
                raise
            notes.append(f"{engine} left out: {error}")
    return replace(variant, parity=report, engines=tuple(engines), notes=tuple(notes))


def _parity_of(  # noqa: PLR0917
    engine: str, folder: Path, variant: Variant, tier: Tier, reference: Reference, parity_set: ParitySet
) -> ParityReport:
    """Open an engine and measure it: when this returns, its memory is free for the next one."""
    scorer = open_unproven(folder, variant.precision, engine, variant=variant)
    if engine == variant.engines[0]:
        check_token_ids(scorer, [*parity_set.pairs, *truncated_pairs(reference.max_length)], reference)
    report, logits = measure(scorer, reference, parity_set)
    broken = report.violations(tier)
    if broken:
        _check_independence(report, reference, parity_set)
        raise ParityError(
            f"the {scorer.precision} export is too far from PyTorch: {'; '.join(broken)} over {report.pairs} pairs; "
            f"logits differ in {', '.join(_worst_pairs(report, logits, parity_set))}; no bundle was written"
        )
    return report


def _check_independence(report: ParityReport, reference: Reference, parity_set: ParitySet) -> None:
    """Raise PairscoreError if PyTorch itself gives the worst pairs other logits alone than among others."""
    rows = list(report.worst_pairs[:3])
    alone = np.concatenate([reference.logits([parity_set.pairs[row]]) for row in rows])
    difference = float(np.abs(alone - parity_set.logits[rows]).max())
    if difference > INDEPENDENT * max(1.0, float(np.abs(alone).max())):
        remedy = "its architecture computes with the padding of a batch: use a model of another"
        if reference.tokenizer.padding_side == "left":
            remedy = "its tokenizer pads on the left and so moves positions: save it with padding_side right"
        raise PairscoreError(
            f"PyTorch's own logits depend on the batch, by {difference:.2g} between a pair alone and among others; "
            f"{remedy}"
        )


def _worst_pairs(report: ParityReport, logits: FloatArray, parity_set: ParitySet) -> list[str]:
    """One phrase for each of the three pairs furthest off: its row, its texts shortened, its difference."""
    found = []
    for row in report.worst_pairs[:3]:
        difference = float(np.abs(logits[row].astype(np.float64) - parity_set.logits[row]).max())
        claim, evidence = (shorten(each, 40) for each in parity_set.pairs[row])
        found.append(f"pair {row} ({claim!r}, {evidence!r}) by {difference:.3g}")
    return found
