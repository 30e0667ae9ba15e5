"""Replay pairs whose PyTorch logits are known, before a variant scores anything else.

Three things show here, as an error instead of wrong scores: a processor whose int8 arithmetic saturates, a tokenizer
release that splits differently, and an engine that chooses a precision by itself.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from pairscore.runtime.bundle.activation import activate
from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.bundle.parity import compare
from pairscore.runtime.engines.protocol import Engine
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.stream.batching import tokenize_pairs
from pairscore.runtime.stream.pipeline import Window, stream
from pairscore.runtime.text.tokenizer import PairTokenizer


def replay_golden_rows(bundle: Bundle, precision: str, tokenizer: PairTokenizer, engine: Engine) -> None:
    """Raise PairscoreError unless token ids are equal and logits keep the precision's promise.

    Where the variant knows its own logits, because its engine computes the same bytes everywhere, they must be equal.

    tokenizer: of the bundle's own maximum length. engine: with the graph of this precision.
    """
    golden, manifest = bundle.golden_rows(), bundle.manifest
    claims, evidence = pa.array(golden.claims, pa.string()), pa.array(golden.evidence, pa.string())
    pairs = tokenize_pairs(tokenizer, claims, evidence)
    for row, expected in enumerate(golden.input_ids):
        if pairs.batch(pairs.pair_of[[row]]).input_ids[0].tolist() != list(expected):
            made_with = manifest.versions.get("tokenizers", "another release")
            raise PairscoreError(
                f"golden row {row} of bundle {str(bundle.folder)!r} gets other token ids here than at its "
                f"export: install tokenizers=={made_with}, or export the bundle again"
            )
    (scored,) = stream([Window(claims, evidence, None)], tokenizer, engine, len(manifest.labels))
    scores, expected_scores = (activate(manifest.activation, each) for each in (scored.logits, golden.logits))
    report = compare(scored.logits, golden.logits, scores, expected_scores)
    # A few dozen rows are too few for a rank correlation, so only the differences count here.
    broken = report.violations(replace(bundle.variant(precision).tier, min_spearman=None))
    if broken:
        raise PairscoreError(
            f"the {precision} variant of bundle {str(bundle.folder)!r} does not reproduce its golden "
            f"rows with {engine.name} on this machine ({'; '.join(broken)}): use --precision fp32, or "
            "export the variant again on this machine"
        )
    own = bundle.variant(precision).golden_logits
    if own and not np.array_equal(scored.logits, np.array(own, dtype=np.float32)):
        raise PairscoreError(
            f"the {precision} variant of bundle {str(bundle.folder)!r} gives other bytes for its golden rows with "
            f"{engine.name} here than at its export, and has to give the same on every machine: install the release of "
            f"pairscore-kernels that `pairscore info` names, or export the variant again"
        )
