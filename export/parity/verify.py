"""Compare a bundle with the checkpoint that it was made of, on any pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pairscore.export.checkpoint import open_checkpoint
from pairscore.export.parity.measure import ParitySet, measure
from pairscore.export.reference import load_reference
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.bundle.parity import ParityReport, Tier
from pairscore.runtime.errors import PairscoreError, shorten
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.types import Pair


@dataclass(frozen=True)
class WorstPair:
    """A pair with one of the largest differences. `logits`, `reference_logits`: one a label."""

    row: int
    claim: str
    evidence: str
    logits: tuple[float, ...]
    reference_logits: tuple[float, ...]


@dataclass(frozen=True)
class Verification:
    """What was compared, how far apart it was, and which promises that breaks (none: `broken` is empty)."""

    bundle: str
    reference: str
    precision: str
    engine: str
    device: str
    report: ParityReport
    promise: Tier
    broken: tuple[str, ...]
    worst: tuple[WorstPair, ...]


def verify_bundle(
    bundle: Path,
    source: str,
    pairs: Sequence[Pair],
    *,
    revision: str | None = None,
    precision: str = "fp32",
    engine: str = "auto",
    device: str = "cpu",
) -> Verification:
    """Score `pairs` with the bundle and with `CrossEncoder.predict` on `source`, at the bundle's maximum length.

    Raises PairscoreError when `source` is not the checkpoint that the bundle was exported from.
    """
    manifest = Bundle.open(bundle).manifest
    checkpoint = open_checkpoint(source, revision)
    if checkpoint.source.digest != manifest.source.digest:
        raise PairscoreError(
            f"{source!r} is not what {str(bundle)!r} was exported from: its weights have the digest "
            f"{checkpoint.source.digest[:12]}…, those of {manifest.source.name!r} had {manifest.source.digest[:12]}…; "
            "give that checkpoint, or export this one"
        )
    scorer = Scorer.from_pretrained(bundle, precision=precision, engine=engine, device=device)
    reference = load_reference(checkpoint, manifest.max_length, manifest.pair_order)
    expected = reference.logits(pairs)
    promise = manifest.variants[precision].tier
    report, logits = measure(scorer, reference, ParitySet(pairs, expected))
    worst = tuple(
        WorstPair(
            row,
            shorten(pairs[row][0], 60),
            shorten(pairs[row][1], 60),
            tuple(map(float, logits[row])),
            tuple(map(float, expected[row])),
        )
        for row in report.worst_pairs
    )
    return Verification(
        bundle=str(bundle),
        reference=source,
        precision=precision,
        engine=scorer.engine.name,
        device=scorer.engine.device,
        report=report,
        promise=promise,
        broken=tuple(report.violations(promise)),
        worst=worst,
    )
