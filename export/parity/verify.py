"""`verify`: `pairscore verify` from Python. PyTorch is imported when it is called."""

from dataclasses import dataclass
from pathlib import Path

from pairscore.export.environment import require_export_extra
from pairscore.runtime.arguments import python_call
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.bundle.parity import ParityReport, Tier
from pairscore.runtime.errors import PairscoreError, shorten
from pairscore.runtime.pairs_file import Pairs, given_pairs
from pairscore.runtime.scorer import Scorer


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


@python_call(limit=1)
def verify(
    bundle: str | Path,
    reference: str | Path,
    pairs: Pairs,
    *,
    revision: str | None = None,
    claim_column: str = "claim",
    evidence_column: str = "evidence",
    limit: int | None = None,
    precision: str = "fp32",
    engine: str = "auto",
    device: str = "cpu",
) -> Verification:
    """Compare a bundle with the checkpoint that it was exported from, on pairs of your own.

    `reference`: the checkpoint, a folder or a Hugging Face id, at `revision`. `pairs`: a Parquet file or a list of
    pairs, of which the first `limit` are compared. The result's `report` has the differences; its `broken` lists what
    passes the precision's promise and is empty where nothing does.

    Raises PairscoreError where `reference` is another checkpoint or the pairs cannot be read.
    """
    require_export_extra()
    from pairscore.export.checkpoint import open_checkpoint
    from pairscore.export.parity.measure import ParitySet, measure
    from pairscore.export.reference import load_reference

    rows = given_pairs(pairs, claim_column, evidence_column, limit)
    if not rows:
        raise PairscoreError("--pairs is empty: give one pair or more")
    manifest = Bundle.open(Path(bundle)).manifest
    checkpoint = open_checkpoint(str(reference), revision)
    if checkpoint.source.digest != manifest.source.digest:
        raise PairscoreError(
            f"{str(reference)!r} is not what {str(bundle)!r} was exported from: its weights have the digest "
            f"{checkpoint.source.digest[:12]}…, those of {manifest.source.name!r} had {manifest.source.digest[:12]}…; "
            "give that checkpoint, or export this one"
        )
    scorer = Scorer.from_pretrained(bundle, precision=precision, engine=engine, device=device)
    pytorch = load_reference(checkpoint, manifest.max_length, manifest.pair_order)
    expected = pytorch.logits(rows)
    promise = manifest.variants[precision].tier
    report, logits = measure(scorer, pytorch, ParitySet(rows, expected))
    worst = tuple(
        WorstPair(
            row,
            shorten(rows[row][0], 60),
            shorten(rows[row][1], 60),
            tuple(map(float, logits[row])),
            tuple(map(float, expected[row])),
        )
        for row in report.worst_pairs
    )
    return Verification(
        bundle=str(bundle),
        reference=str(reference),
        precision=precision,
        engine=scorer.engine.name,
        device=scorer.engine.device,
        report=report,
        promise=promise,
        broken=tuple(report.violations(promise)),
        worst=worst,
    )
