"""Measure a bundle's variant, through the runtime that will score with it, against PyTorch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pairscore.export.errors import ParityError
from pairscore.export.parity_pairs import Pair
from pairscore.export.reference import Reference
from pairscore.runtime.bundle import Bundle
from pairscore.runtime.engines import EngineOptions, open_engine
from pairscore.runtime.parity import FloatArray, ParityReport, compare
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.tokenizer import PairTokenizer


def open_unproven(folder: Path, precision: str, engine: str = "auto", device: str = "cpu") -> Scorer:
    """Open a variant as `Scorer.from_pretrained` does, without the golden rows.

    They would stop a wrong variant before anything could be said about where it is wrong.
    """
    bundle = Bundle.open(folder)
    manifest = bundle.manifest
    variant = bundle.variant(precision)
    tokenizer = PairTokenizer.from_file(bundle.path("tokenizer.json"), manifest.max_length, manifest.truncation_side)
    options = EngineOptions(settings=variant.settings)
    runner = open_engine(engine, bundle.graph(variant), precision, device, variant.engines, options=options)
    return Scorer(bundle, precision, runner, tokenizer)


def check_token_ids(scorer: Scorer, pairs: Sequence[Pair], reference: Reference) -> None:
    """Raise ParityError unless the runtime gives every pair the token ids that `transformers` gives it."""
    claims, evidence = (pa.array([pair[side] for pair in pairs], pa.string()) for side in (0, 1))
    tokenized = scorer.tokenize(claims, evidence)
    for row, expected in enumerate(reference.input_ids(pairs)):
        if tokenized.batch(tokenized.pair_of[[row]]).input_ids[0].tolist() != list(expected):
            claim, text = map(shorten, pairs[row])
            raise ParityError(
                f"pair {row} ({claim!r}, {text!r}) gets other token ids from tokenizer.json than from "
                f"{type(reference.tokenizer).__name__}: save the tokenizer again with a current `transformers`"
            )


def measure(
    scorer: Scorer, pairs: Sequence[Pair], reference: Reference, reference_logits: FloatArray
) -> tuple[ParityReport, FloatArray]:
    """Compare the scorer's logits and scores with PyTorch's on `pairs`.

    reference_logits: Shape (pairs, labels). Returns the report and the scorer's logits.
    """
    shape = (len(pairs), len(scorer.labels))
    logits = np.asarray(scorer.predict(list(pairs), activation="identity"), dtype=np.float32).reshape(shape)
    report = compare(
        logits,
        reference_logits,
        scorer.scores(logits),
        reference.scores(reference_logits),
        [claim for claim, _ in pairs],
    )
    return report, logits


def worst_pairs(
    report: ParityReport, pairs: Sequence[Pair], logits: FloatArray, reference_logits: FloatArray, most: int = 3
) -> list[str]:
    """One phrase for each of the pairs furthest off: its row, its texts shortened, its difference."""
    found = []
    for row in report.worst_pairs[:most]:
        difference = float(np.abs(logits[row].astype(np.float64) - reference_logits[row]).max())
        claim, evidence = pairs[row]
        found.append(f"pair {row} ({shorten(claim)!r}, {shorten(evidence)!r}) by {difference:.3g}")
    return found


def shorten(text: str, width: int = 40) -> str:
    """`text` on one line of at most `width` characters."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= width else line[: width - 1] + "…"
