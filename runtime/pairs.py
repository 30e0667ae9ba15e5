"""Pairs to batches: every batch holds pairs of one token length, so nothing is padded or masked."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.ragged import Int32Array, Int64Array, Ragged, offsets_of
from pairscore.runtime.tokenizer import PairTokenizer, truncated_lengths


@dataclass(frozen=True)
class Batch:
    """Model inputs for pairs of one length.

    `rows`: Shape (n,), which of the window's different pairs. `input_ids`, `token_type_ids`: Shape (n, length).
    """

    rows: Int64Array
    input_ids: Int32Array
    token_type_ids: Int32Array

    def input(self, name: str) -> Int32Array:
        """The model input of this name, Shape (n, length). Raises PairscoreError for one that it cannot make.

        Graphs may want wider integers: that is for the engine to convert.
        """
        match name:
            case "input_ids":
                return self.input_ids
            case "token_type_ids":
                return self.token_type_ids
            case "attention_mask":
                return np.ones_like(self.input_ids)
        raise PairscoreError(f"the graph wants an input {name!r}, which no pair has: export the bundle again")

    def feeds(self, kinds: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """What a graph takes: each input of `kinds` in its type of number."""
        return {name: self.input(name).astype(kind, copy=False) for name, kind in kinds.items()}

    def part(self, rows: slice) -> "Batch":
        """Some of its pairs."""
        return Batch(self.rows[rows], self.input_ids[rows], self.token_type_ids[rows])


class TokenizedPairs:
    """The different pairs of one window, tokenized; nothing is assembled before a batch is asked for.

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
        # Row i of `spans` is the ids from place i on, so taking rows copies ids side by side: the claim's where claims
        # stand in a pair, and over it the evidence's. Places of special tokens hold other texts' ids until the end.
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


def plan_batches(lengths: Int64Array, token_budget: int) -> list[Int64Array]:
    """Group pairs of one length into batches of at most `token_budget` tokens (or one pair).

    lengths: Shape (pairs,), in tokens. Returns the rows of each batch, longest pairs first: the engine's
    arena reaches its size with the first batches, and the last ones to finish are short.
    """
    order = np.argsort(-lengths, kind="stable")
    bounds = [*np.flatnonzero(np.diff(lengths[order], prepend=-1)), len(order)]
    batches: list[Int64Array] = []
    for start, stop in pairwise(bounds):
        pairs = max(1, token_budget // int(lengths[order[start]]))
        batches.extend(order[first : min(first + pairs, stop)] for first in range(start, stop, pairs))
    return batches
