"""Replay pairs whose PyTorch logits are known, before a variant scores anything else.

A processor whose int8 arithmetic saturates, a tokenizer release that splits differently, an engine that
picks a precision of its own: all of them show here, as an error instead of wrong scores.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from pairscore.runtime.bundle import GoldenRows
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.parity import compare
from pairscore.runtime.streaming import Window

if TYPE_CHECKING:
    from pairscore.runtime.scorer import Scorer


def replay_golden_rows(scorer: "Scorer", golden: GoldenRows) -> None:
    """Raise PairscoreError unless token ids are equal and logits keep the precision's promise."""
    claims, evidence = pa.array(golden.claims, pa.string()), pa.array(golden.evidence, pa.string())
    pairs = scorer.tokenize(claims, evidence)
    for row, expected in enumerate(golden.input_ids):
        if pairs.batch(pairs.pair_of[[row]]).input_ids[0].tolist() != list(expected):
            made_with = scorer.bundle.manifest.versions.get("tokenizers", "another release")
            raise PairscoreError(
                f"golden row {row} of bundle {str(scorer.bundle.folder)!r} gets other token ids here than at its "
                f"export: install tokenizers=={made_with}, or export the bundle again"
            )
    (scored,) = scorer.stream([Window(claims, evidence, None)])
    report = compare(scored.logits, golden.logits, scorer.scores(scored.logits), scorer.scores(golden.logits))
    # A rank correlation over a few dozen rows is no measure: only the differences count here.
    broken = report.violations(replace(scorer.bundle.variant(scorer.precision).tier, min_spearman=None))
    if broken:
        raise PairscoreError(
            f"the {scorer.precision} variant of bundle {str(scorer.bundle.folder)!r} does not reproduce its golden "
            f"rows with {scorer.engine.name} on this machine ({'; '.join(broken)}): use --precision fp32, or "
            "export the variant again on this machine"
        )
