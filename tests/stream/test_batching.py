"""Batches: every pair in exactly one, one length each, longest first, within the token budget."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import BertProcessing

from pairscore import PairscoreError
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.stream.batching import TokenizedPairs, plan_batches
from pairscore.runtime.text.ragged import Ragged
from pairscore.runtime.text.tokenizer import PairTemplate, PairTokenizer, truncated_lengths

TEXTS = ["", "a", "b a", "c b a a", "a b c a b c a b"]


def word_tokenizer() -> Tokenizer:
    vocabulary = {token: number for number, token in enumerate(["[CLS]", "[SEP]", "[UNK]", "a", "b", "c"])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    return tokenizer


TOKENIZER = PairTokenizer(word_tokenizer(), 12, "right")
LIBRARY = word_tokenizer()
LIBRARY.enable_truncation(12)


@given(st.lists(st.integers(2, 40), max_size=200), st.integers(1, 400))
def test_plan_is_a_partition_by_length_within_the_budget(lengths: list[int], budget: int) -> None:
    array = np.array(lengths, dtype=np.int64)
    batches = plan_batches(array, budget)
    assert sorted(int(row) for rows in batches for row in rows) == list(range(len(lengths)))
    widths = []
    for rows in batches:
        (width,) = set(array[rows].tolist())
        assert len(rows) * width <= budget or len(rows) == 1
        widths.append(width)
    assert widths == sorted(widths, reverse=True)


@given(st.lists(st.integers(2, 40), max_size=200), st.integers(1, 400))
def test_plan_wastes_no_batch(lengths: list[int], budget: int) -> None:
    """As few batches as the budget allows for each length, counted the slow way."""
    expected = 0
    for length in set(lengths):
        per_batch = max(1, budget // length)
        expected += -(-lengths.count(length) // per_batch)
    assert len(plan_batches(np.array(lengths, dtype=np.int64), budget)) == expected


@given(
    st.lists(st.tuples(st.sampled_from(TEXTS), st.sampled_from(TEXTS)), min_size=1, max_size=40),
    st.integers(1, 60),
)
def test_every_row_gets_its_own_pair_and_copies_are_assembled_once(rows: list[tuple[str, str]], budget: int) -> None:
    """Against the obvious reference: encode each row by itself with the library."""
    claims, evidence = (sorted({row[side] for row in rows}) for side in (0, 1))
    pairs = TokenizedPairs(
        TOKENIZER,
        TOKENIZER.encode(claims),
        TOKENIZER.encode(evidence),
        np.array([claims.index(claim) for claim, _ in rows]),
        np.array([evidence.index(text) for _, text in rows]),
    )
    assembled: dict[int, list[int]] = {}
    for batch in map(pairs.batch, plan_batches(pairs.lengths, budget)):
        assembled |= dict(zip(batch.rows.tolist(), batch.input_ids.tolist(), strict=True))
    assert len(assembled) == len(pairs) == len(set(rows))
    assert [pairs.copies[pair] for pair in pairs.pair_of] == [rows.count(row) for row in rows]
    for row, pair in zip(rows, pairs.pair_of.tolist(), strict=True):
        assert assembled[pair] == LIBRARY.encode(*row).ids


@pytest.mark.parametrize("side", ["right", "left"])
@given(
    prefix=st.lists(st.integers(100, 109), max_size=3),
    middle=st.lists(st.integers(110, 119), max_size=3),
    suffix=st.lists(st.integers(120, 129), min_size=1, max_size=3),
    lengths=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8),
    data=st.data(),
)
def test_any_template_against_putting_lists_together(side, prefix, middle, suffix, lengths, data) -> None:  # noqa: PLR0917
    """Every claim meets every piece of evidence; lists are cut and joined the obvious way."""
    boundary = data.draw(st.none() | st.integers(0, len(middle)))
    room = data.draw(st.integers(2, 20))
    template = PairTemplate(tuple(prefix), tuple(middle), tuple(suffix), boundary)
    tokenizer = SimpleNamespace(template=template, room=room, truncation_side=side, pair_order="claim-evidence")
    claims, evidence = ([list(range(k, k + n)) for k, n in enumerate(each)] for each in zip(*lengths, strict=True))
    claim_of, evidence_of = (grid.ravel() for grid in np.indices((len(claims), len(evidence))))
    pairs = TokenizedPairs(tokenizer, Ragged.from_lists(claims), Ragged.from_lists(evidence), claim_of, evidence_of)
    found = {}
    for batch in map(pairs.batch, plan_batches(pairs.lengths, 60)):
        assert batch.input_ids.dtype == batch.token_type_ids.dtype == batch.input("attention_mask").dtype == np.int32
        rows = zip(batch.rows, batch.input_ids.tolist(), batch.token_type_ids.tolist(), strict=True)
        found |= {int(row): (ids, types) for row, ids, types in rows}
    for row, pair in enumerate(pairs.pair_of):
        texts = claims[claim_of[row]], evidence[evidence_of[row]]
        kept = truncated_lengths(*(np.array([len(text)]) for text in texts), room)
        claim, piece = (
            text[: int(n[0])] if side == "right" else text[len(text) - int(n[0]) :]
            for text, n in zip(texts, kept, strict=True)
        )
        ids = [*prefix, *claim, *middle, *piece, *suffix]
        zeros = len(ids) if boundary is None else len(prefix) + len(claim) + boundary
        assert found[int(pair)] == (ids, [0] * zeros + [1] * (len(ids) - zeros))


def test_unknown_model_input_is_refused() -> None:
    ids = np.ones((1, 2), dtype=np.int64)
    with pytest.raises(PairscoreError, match="'bbox'"):
        Batch(np.array([0]), ids, ids).input("bbox")


def test_pairs_without_any_token_are_in_no_batch():
    assert [rows.tolist() for rows in plan_batches(np.array([0, 2, 0, 3]), 8)] == [[3], [1]]
