"""Pairs to batches: every batch holds pairs of one token length, so nothing is padded or masked."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view

from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.stream.passages import LongEvidence, Passages
from pairscore.runtime.text.ragged import Ragged, offsets_of
from pairscore.runtime.text.tokenizer import PairTokenizer, truncated_lengths
from pairscore.runtime.types import Int64Array


class TokenizedPairs:
    """The different pairs of one window, tokenized. A pair's token ids are assembled when a batch needs them.

    A pair that occurs several times is scored once. The rows of a batch are passages: the whole evidence of a pair, or,
    where `long` asks for it, a part of evidence that does not fit (`stream/passages.py`).

    `pair_of`: Shape (window,), which of the different pairs stands in each row. `truncated`: Shape (pairs,), whether
    tokens of a pair are in none of its passages. `passages`: None where every pair is one passage. `lengths`: Shape
    (passages,), in tokens, after truncation. `copies`: Shape (passages,), rows of the window that are done with a
    passage: those of its pair for the first passage, 0 for the others. `texts`: how many texts were tokenized.

    So a window of 65,536 pairs of 512 tokens costs the memory of its unique texts' tokens and of a few
    batches, not of 33 million ids.
    """

    def __init__(  # noqa: PLR0917
        self,
        tokenizer: PairTokenizer,
        claims: Ragged,
        evidence: Ragged,
        claim_of: Int64Array,
        evidence_of: Int64Array,
        long: LongEvidence | None = None,
    ) -> None:
        """`claims`, `evidence`: unique texts. `claim_of`, `evidence_of`: Shape (window,), which of them."""
        self.texts = len(claims) + len(evidence)
        full = np.concatenate([claims.lengths, evidence.lengths])
        codes = claim_of * len(evidence) + evidence_of
        different, self.pair_of, copies = np.unique(codes, return_inverse=True, return_counts=True)
        claim_of, evidence_of = np.divmod(different, max(1, len(evidence)))
        evidence_of += len(claims)
        begins, ends = np.zeros(len(different), dtype=np.int64), full[evidence_of]
        self.passages = None if long is None else Passages.of(full[claim_of], ends, tokenizer.room, long)
        if self.passages is not None:
            pair, begins, ends = self.passages.pair, self.passages.begins, self.passages.ends
            claim_of, evidence_of = claim_of[pair], evidence_of[pair]
            copies = np.where(begins == 0, copies[pair], 0)
        self.copies = copies
        lengths = full[claim_of], ends - begins
        starts = offsets_of(full)
        places = starts[claim_of], starts[evidence_of] + begins
        first, second = (1, 0) if tokenizer.pair_order == "evidence-claim" else (0, 1)
        first_length, second_length = truncated_lengths(lengths[first], lengths[second], tokenizer.room)
        self._first_length = first_length
        self._template = tokenizer.template
        self.lengths: Int64Array = first_length + second_length + tokenizer.template.specials
        cut = self.lengths < lengths[0] + lengths[1] + tokenizer.template.specials
        self.truncated = cut if self.passages is None else self.passages.any(cut)
        # `batch` reads whole pairs' lengths of ids, beginning before the text or ending after it.
        around = np.zeros(int(self.lengths.max(initial=0)), dtype=np.int32)
        self._values = np.concatenate([around, claims.values, evidence.values, around])
        self._first_start, self._second_start = places[first] + len(around), places[second] + len(around)
        if tokenizer.truncation_side == "left":
            self._first_start += lengths[first] - first_length
            self._second_start += lengths[second] - second_length

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: Int64Array) -> Batch:
        """Assemble the passages at `rows`, Shape (n,), all of one length, each with its claim."""
        template = self._template
        length = int(self.lengths[rows[0]])
        first_stop = len(template.prefix) + self._first_length[rows]
        second_start = first_stop + len(template.middle)
        # Row i of `spans` holds the ids from place i on, so taking rows copies neighbouring ids at once: those of the
        # first text, then those of the second one behind it. Places of special tokens hold other texts' ids until they
        # are set at the end.
        spans = sliding_window_view(self._values, length)
        input_ids = spans[self._first_start[rows] - len(template.prefix)]
        position = np.arange(length, dtype=np.int32)
        stop = first_stop.astype(np.int32)[:, None]
        np.copyto(input_ids, spans[self._second_start[rows] - second_start], where=position >= stop)
        input_ids[:, : len(template.prefix)] = template.prefix
        input_ids[:, length - len(template.suffix) :] = template.suffix
        each = np.arange(len(rows))
        for place, token in enumerate(template.middle):
            input_ids[each, first_stop + place] = token
        if template.type_boundary is None:
            token_type_ids = np.zeros_like(input_ids)
        else:
            token_type_ids = (position >= stop + template.type_boundary).astype(np.int32)
        return Batch(rows, input_ids, token_type_ids)


def tokenize_pairs(
    tokenizer: PairTokenizer, claims: pa.StringArray, evidence: pa.StringArray, long: LongEvidence | None = None
) -> TokenizedPairs:
    """Tokenize each unique text once. claims, evidence: Shape (pairs,), without nulls."""
    claim_codes, evidence_codes = claims.dictionary_encode(), evidence.dictionary_encode()
    return TokenizedPairs(
        tokenizer,
        tokenizer.encode_claims(claim_codes.dictionary.to_pylist()),
        tokenizer.encode(evidence_codes.dictionary.to_pylist()),
        claim_codes.indices.to_numpy().astype(np.int64),
        evidence_codes.indices.to_numpy().astype(np.int64),
        long,
    )


def plan_batches(lengths: Int64Array, token_budget: int, most_pairs: int | None = None) -> list[Int64Array]:
    """Group pairs of one length into batches of at most `token_budget` tokens (or one pair), and `most_pairs` pairs.

    lengths: Shape (pairs,), in tokens; pairs of none are in no batch. Returns the rows of each batch, longest pairs
    first. So the engine's memory reaches its size with the first batches, and the last batches to finish are short.
    """
    order = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    bounds = [*np.flatnonzero(np.diff(lengths[order], prepend=-1)), len(order)]
    batches: list[Int64Array] = []
    for start, stop in pairwise(bounds):
        pairs = max(1, token_budget // int(lengths[order[start]]))
        pairs = pairs if most_pairs is None else min(pairs, most_pairs)
        batches.extend(order[first : min(first + pairs, stop)] for first in range(start, stop, pairs))
    return batches
