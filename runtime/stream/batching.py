"""Pairs to batches: every batch holds pairs of one token length, so nothing is padded or masked."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view

from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.text.ragged import Ragged, offsets_of
from pairscore.runtime.text.tokenizer import PairTokenizer, truncated_lengths
from pairscore.runtime.types import Int64Array


class TokenizedPairs:
    """The different pairs of one window, tokenized. A pair's token ids are assembled when a batch needs them.

    A pair that occurs several times is scored once. `pair_of`: Shape (window,), which of the different pairs
    stands in each row. `copies`: Shape (pairs,), how often each occurs. `lengths`: Shape (pairs,), in tokens,
    after truncation. `texts`: how many texts were tokenized.

    So a window of 65,536 pairs of 512 tokens costs the memory of its unique texts' tokens and of a few
    batches, not of 33 million ids.
    """

    def __init__(
        self,
        tokenizer: PairTokenizer,
        claims: Ragged,
        evidence: Ragged,
        claim_of: Int64Array,
        evidence_of: Int64Array,
    ) -> None:
        """`claims`, `evidence`: unique texts. `claim_of`, `evidence_of`: Shape (window,), which of them."""
        self.texts = len(claims) + len(evidence)
        full = np.concatenate([claims.lengths, evidence.lengths])
        codes = claim_of * len(evidence) + evidence_of
        different, self.pair_of, self.copies = np.unique(codes, return_inverse=True, return_counts=True)
        claim_of, evidence_of = np.divmod(different, max(1, len(evidence)))
        evidence_of += len(claims)
        claim_full, evidence_full = full[claim_of], full[evidence_of]
        self._claim_length, evidence_length = truncated_lengths(claim_full, evidence_full, tokenizer.room)
        self._template = tokenizer.template
        self.lengths: Int64Array = self._claim_length + evidence_length + tokenizer.template.specials
        # `batch` reads whole pairs' lengths of ids, beginning before the text or ending after it.
        around = np.zeros(int(self.lengths.max(initial=0)), dtype=np.int32)
        self._values = np.concatenate([around, claims.values, evidence.values, around])
        starts = len(around) + offsets_of(full)
        self._claim_start, self._evidence_start = starts[claim_of], starts[evidence_of]
        if tokenizer.truncation_side == "left":
            self._claim_start += claim_full - self._claim_length
            self._evidence_start += evidence_full - evidence_length

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: Int64Array) -> Batch:
        """Assemble the pairs at `rows`, Shape (n,), all of one length."""
        template = self._template
        length = int(self.lengths[rows[0]])
        claim_stop = len(template.prefix) + self._claim_length[rows]
        evidence_start = claim_stop + len(template.middle)
        # Row i of `spans` holds the ids from place i on, so taking rows copies neighbouring ids at once: first the
        # claim's, then the evidence's behind it. Places of special tokens hold other texts' ids until they are set at
        # the end.
        spans = sliding_window_view(self._values, length)
        input_ids = spans[self._claim_start[rows] - len(template.prefix)]
        position = np.arange(length, dtype=np.int32)
        stop = claim_stop.astype(np.int32)[:, None]
        np.copyto(input_ids, spans[self._evidence_start[rows] - evidence_start], where=position >= stop)
        input_ids[:, : len(template.prefix)] = template.prefix
        input_ids[:, length - len(template.suffix) :] = template.suffix
        each = np.arange(len(rows))
        for place, token in enumerate(template.middle):
            input_ids[each, claim_stop + place] = token
        if template.type_boundary is None:
            token_type_ids = np.zeros_like(input_ids)
        else:
            token_type_ids = (position >= stop + template.type_boundary).astype(np.int32)
        return Batch(rows, input_ids, token_type_ids)


def tokenize_pairs(tokenizer: PairTokenizer, claims: pa.StringArray, evidence: pa.StringArray) -> TokenizedPairs:
    """Tokenize each unique text once. claims, evidence: Shape (pairs,), without nulls."""
    claim_codes, evidence_codes = claims.dictionary_encode(), evidence.dictionary_encode()
    return TokenizedPairs(
        tokenizer,
        tokenizer.encode_claims(claim_codes.dictionary.to_pylist()),
        tokenizer.encode(evidence_codes.dictionary.to_pylist()),
        claim_codes.indices.to_numpy().astype(np.int64),
        evidence_codes.indices.to_numpy().astype(np.int64),
    )


def plan_batches(lengths: Int64Array, token_budget: int, most_pairs: int | None = None) -> list[Int64Array]:
    """Group pairs of one length into batches of at most `token_budget` tokens (or one pair), and `most_pairs` pairs.

    lengths: Shape (pairs,), in tokens. Returns the rows of each batch, longest pairs first. So the
    engine's memory reaches its size with the first batches, and the last batches to finish are short.
    """
    order = np.argsort(-lengths, kind="stable")
    bounds = [*np.flatnonzero(np.diff(lengths[order], prepend=-1)), len(order)]
    batches: list[Int64Array] = []
    for start, stop in pairwise(bounds):
        pairs = max(1, token_budget // int(lengths[order[start]]))
        pairs = pairs if most_pairs is None else min(pairs, most_pairs)
        batches.extend(order[first : min(first + pairs, stop)] for first in range(start, stop, pairs))
    return batches
