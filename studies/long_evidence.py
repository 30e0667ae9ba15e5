"""Long evidence read in passages: against cutting by hand, in passages a second.

Texts of 50 to 20,000 words are put together from the evidence of --pairs. Each is scored split, and again as the pairs
of texts that somebody makes who cuts where the passages begin and end. A cut within a word gives other tokens there, so
a few of those scores differ. Run it with: python -m studies.long_evidence --bundle out/bundle --checkpoint
models/climate-claims-minilm-l6 --pairs train.parquet --output FILE
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pairscore.runtime.scorer import Scorer
from pairscore.runtime.stream.passages import LongEvidence
from pairscore.runtime.types import Pair
from studies.harness import study_options, study_result, time_in_turns, write_result

WORDS = (50, 20_000)
LONG = LongEvidence()


def long_pairs(file: Path, count: int) -> list[Pair]:
    """Claims of the file, each with words of its evidence column from somewhere on; the same every time."""
    table = pq.read_table(file, columns=["claim", "evidence"])
    words = " ".join(table["evidence"].to_pylist()).split()
    draw = np.random.default_rng(0)
    claims = table["claim"].to_pylist()
    pairs = []
    for row, size in enumerate(draw.integers(*WORDS, count, endpoint=True).tolist()):
        start = int(draw.integers(max(1, len(words) - size)))
        pairs.append((claims[row * 5 % len(claims)], " ".join(words[start : start + size])))
    return pairs


def cut_by_hand(scorer: Scorer, pairs: list[Pair]) -> tuple[list[Pair], list[int]]:
    """The pairs of all passages as texts, and how many each pair has."""
    tokenized = scorer.tokenize(pairs, LONG)
    passages, found, counts = tokenized.passages, [], []
    if passages is None:
        raise RuntimeError("nothing was split")
    for row, pair in enumerate(tokenized.pair_of):
        claim, evidence = pairs[row]
        places = scorer.tokenizer.characters(evidence)
        mine = range(passages.offsets[pair], passages.offsets[pair + 1])
        counts.append(len(mine))
        for place in mine:
            begin, end = passages.begins[place], passages.ends[place]
            found.append((claim, evidence[places[begin, 0] : places[end - 1, 1]] if end > begin else evidence))
    return found, counts


def main() -> None:
    """Measure and write the JSON."""
    parser = study_options(__doc__)
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    pairs = long_pairs(options.pairs, options.texts)
    scorer = Scorer.from_pretrained(options.bundle, precision=options.precision)
    by_hand, counts = cut_by_hand(scorer, pairs)
    ways: dict[str, Callable[[None], Any]] = {
        "split": lambda _: scorer.predict(pairs, long_evidence="split"),
        "by hand": lambda _: scorer.predict(by_hand),
    }
    seconds, last = time_in_turns(ways, None, options.rounds)
    best = np.maximum.reduceat(last["by hand"], np.cumsum([0, *counts[:-1]]))
    split = last["split"]
    rates = {name: len(by_hand) / min(each) for name, each in seconds.items()}
    data = {"texts": len(pairs), "words": list(WORDS), "passages": len(by_hand), "overlap": LONG.overlap}
    found = {
        "precision": options.precision,
        "engine": scorer.engine.name,
        "passages_per_second": rates,
        "split_to_by_hand": rates["split"] / rates["by hand"],
        "rows_with_the_same_score": int((best == split).sum()),
        "largest_difference": float(np.abs(best - split).max()),
    }
    write_result(options.output, study_result(options, data, **found))
    print(found)


if __name__ == "__main__":
    main()
