"""Long evidence, cut into overlapping passages that are scored as pairs of their own.

What a passage is, in tokens. Let `room` be the tokens that a pair has for its two texts (the maximum length less the
special tokens), and `claim` those of the claim, its prompt included. A pair that fits is one passage: the whole
evidence. The evidence of any other pair is cut into windows of

    width = max(room - claim, room // 2)

of its token ids. The first window starts at its first token, each further one `width - overlap` tokens behind the one
before, and the last one is the first that reaches the end; it may be shorter. So the tokens that two neighbours share
are `overlap`, every token is in a passage, and no passage lies within another. Each passage is scored as a pair with
the claim, between the same special tokens as any pair. Truncation never cuts a passage. It cuts the claim, and only
where the claim has more than `room - room // 2` tokens; such a pair still counts as cut.

These are the windows that the `tokenizers` library gives for the strategy OnlySecond with a stride of `overlap`
(`Encoding::truncate`), where the claim leaves room for them.

The passages' scores, not their logits, are combined to the pair's score: see `LongEvidence`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.text.ragged import offsets_of
from pairscore.runtime.text.tokenizer import PairTokenizer
from pairscore.runtime.types import FloatArray, Int64Array

OVERLAP = 64
LONG_EVIDENCE = ("cut", "split")
COMBINES = ("max", "mean")


@dataclass(frozen=True)
class LongEvidence:
    """How passages are cut and how their scores become one.

    `overlap`: tokens that neighbouring passages share. `combine`: "max" takes all scores of the best passage, "mean"
    the mean of each label's scores. `label`: place of the label whose largest score says which passage is the best; the
    first one of equals.
    """

    overlap: int = OVERLAP
    combine: Literal["max", "mean"] = "max"
    label: int = 0

    def check(self, room: int) -> None:
        """Raise PairscoreError unless every passage brings new tokens. room: tokens for both texts of a pair."""
        if not 0 <= self.overlap < room // 2:
            raise PairscoreError(
                f"passages of {room // 2} tokens, the shortest here, cannot overlap by {self.overlap}: use --overlap "
                f"from 0 to {room // 2 - 1}, or a larger --max-length"
            )


@dataclass(frozen=True)
class Passages:
    """The passages of some pairs. `offsets`: Shape (pairs + 1,); a pair's passages lie between two of them.

    `begins`, `ends`: Shape (passages,), tokens of the whole evidence. `long`: how they were asked for.
    """

    offsets: Int64Array
    begins: Int64Array
    ends: Int64Array
    long: LongEvidence

    @staticmethod
    def of(claims: Int64Array, evidence: Int64Array, room: int, long: LongEvidence) -> "Passages":
        """The passages as the top of this module defines them. claims, evidence: Shape (pairs,), in tokens.

        Raises PairscoreError for an overlap that `LongEvidence.check` refuses.
        """
        long.check(room)
        width = np.maximum(room - claims, room // 2)
        stride = width - long.overlap
        further = np.maximum(0, -((width - evidence) // stride))
        counts = 1 + np.where(claims + evidence <= room, 0, further)
        offsets = offsets_of(counts)
        pair = np.repeat(np.arange(len(counts)), counts)
        begins = (np.arange(offsets[-1]) - offsets[pair]) * stride[pair]
        return Passages(offsets, begins, np.minimum(begins + width[pair], evidence[pair]), long)

    @property
    def pair(self) -> Int64Array:
        """Which pair each passage belongs to. Shape (passages,)."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def best(self, scores: FloatArray) -> Int64Array:
        """The passage of each pair with the largest score, Shape (pairs,). scores: Shape (passages, labels)."""
        pair = self.pair
        # By pair, then by falling score, then by place: so a pair's first row is its best passage.
        order = np.lexsort((-scores[:, self.long.label], pair))
        best: Int64Array = order[self.offsets[:-1]]
        return best

    def any(self, marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which pairs have a marked passage, Shape (pairs,). marked: Shape (passages,)."""
        found = np.zeros(len(self.offsets) - 1, dtype=bool)
        found[self.pair[marked]] = True
        return found

    def combine(self, scores: FloatArray) -> FloatArray:
        """Scores of passages, Shape (passages, labels), to scores of pairs, Shape (pairs, labels)."""
        if self.long.combine == "max":
            return scores[self.best(scores)]
        if not len(scores):
            return scores
        sums = np.add.reduceat(scores.astype(np.float64), self.offsets[:-1], axis=0)
        return (sums / np.diff(self.offsets)[:, None]).astype(np.float32)


def characters(
    passages: Passages, scores: FloatArray, pair_of: Int64Array, evidence: pa.StringArray, tokenizer: PairTokenizer
) -> Int64Array:
    """Where the best passage of each row begins and ends in its evidence, in characters. Shape (rows, 2).

    scores: Shape (passages, labels). pair_of: Shape (rows,), which pair of `passages` stands in each row. The first
    passage begins at 0 and the last one ends with the evidence. One text after the other is tokenized again.
    """
    best = passages.best(scores)
    lengths = pc.call_function("utf8_length", [evidence]).to_numpy()
    spans = np.stack([np.zeros_like(lengths), lengths], axis=1).astype(np.int64)
    split = np.flatnonzero((np.diff(passages.offsets) > 1)[pair_of])
    texts = evidence.take(pa.array(split)).dictionary_encode()
    codes = texts.indices.to_numpy()
    for code, text in enumerate(texts.dictionary.to_pylist()):
        rows = split[codes == code]
        places = tokenizer.characters(text)
        begins, ends = passages.begins[best[pair_of[rows]]], passages.ends[best[pair_of[rows]]]
        spans[rows, 0] = np.where(begins == 0, 0, places[begins, 0])
        spans[rows, 1] = np.where(ends == len(places), len(text), places[ends - 1, 1])
    return spans


def choose_long_evidence(
    mode: str, overlap: int, combine: str, rank_by: str | None, labels: Sequence[str]
) -> LongEvidence | None:
    """What the options of `pairscore score` and `Scorer` ask for; None for evidence that is cut.

    rank_by: the label that names the best passage where there are several. Raises PairscoreError for a value that means
    nothing.
    """
    if mode not in LONG_EVIDENCE:
        raise PairscoreError(f"unknown --long-evidence {mode!r}: use {' or '.join(LONG_EVIDENCE)}")
    if combine not in COMBINES:
        raise PairscoreError(f"unknown --combine {combine!r}: use {' or '.join(COMBINES)}")
    if mode == "cut" and (overlap, combine) != (OVERLAP, "max"):
        raise PairscoreError("--overlap and --combine are of passages: give --long-evidence split with them")
    if mode == "cut":
        return None
    if rank_by is None and len(labels) > 1:
        raise PairscoreError(
            f"--long-evidence split takes the best passage by one of the labels {', '.join(labels)}: name it with "
            "--rank-by LABEL"
        )
    return LongEvidence(overlap, "max" if combine == "max" else "mean", label_place(rank_by, labels))


def label_place(rank_by: str | None, labels: Sequence[str]) -> int:
    """The place of the label `rank_by`; 0 for None. Raises PairscoreError for a name that is no label."""
    if rank_by is None:
        return 0
    if rank_by not in labels:
        raise PairscoreError(f"--rank-by {rank_by!r} is no label of this model: it has {', '.join(labels)}")
    return list(labels).index(rank_by)
