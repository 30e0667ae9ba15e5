"""The assembled ids of a pair equal what `tokenizers` gives for the pair, truncation included."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pairscore import PairscoreError
from pairscore.runtime.stream.batching import TokenizedPairs, plan_batches
from pairscore.runtime.text.tokenizer import PairTokenizer, truncated_lengths
from tests.checkpoints import FAMILIES

# Words that the tokenizers know, words that they do not, their special tokens, and characters of many kinds.
words = st.one_of(
    st.sampled_from(
        ["climate", "sea", "warming", "CO2", "rise", "of", "the", "café", "naïve", "1.5°C", "🌍", "南极", "بحر"]
    ),
    st.sampled_from(["[SEP]", "[CLS]", "</s>", "<s>", "<pad>", "[PAD]", "[MASK]", "##ing", "▁"]),
    st.text(max_size=12),
)
texts = st.one_of(
    st.lists(words, max_size=20).map(" ".join),
    st.text(max_size=60),
    st.sampled_from(["", " ", "\n", "\x00", "a" * 120, "é" * 60, "\u202eabc", "\ufeff"]),
)


@pytest.fixture(scope="module", params=FAMILIES)
def tokenizer_file(request: pytest.FixtureRequest, checkpoint: Callable[..., Path]) -> Path:
    return checkpoint(request.param) / "tokenizer.json"


def reference(path: Path, max_length: int, side: str) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length, strategy="longest_first", direction=side)
    return tokenizer


@settings(max_examples=25)
@given(data=st.data())
def test_assembled_ids_equal_the_library(tokenizer_file: Path, data: st.DataObject) -> None:
    side = data.draw(st.sampled_from(["right", "left"]))
    max_length = data.draw(st.sampled_from([6, 7, 8, 9, 16, 33, 512]))
    unique = data.draw(st.lists(texts, min_size=1, max_size=6))
    ours = PairTokenizer.from_file(tokenizer_file, max_length, side)
    library = reference(tokenizer_file, max_length, side)
    claim_of, evidence_of = (grid.ravel() for grid in np.indices((len(unique), len(unique))))
    encoded = ours.encode(unique)
    pairs = TokenizedPairs(ours, encoded, encoded, claim_of, evidence_of)
    seen = []
    for rows in plan_batches(pairs.lengths, 64):
        batch = pairs.batch(rows)
        for place, pair in enumerate(rows):
            row = int(np.flatnonzero(pairs.pair_of == pair)[0])
            expected = library.encode(unique[claim_of[row]], unique[evidence_of[row]])
            assert batch.input_ids[place].tolist() == expected.ids
            assert batch.token_type_ids[place].tolist() == expected.type_ids
            seen.append(int(pair))
    assert sorted(seen) == sorted(set(pairs.pair_of.tolist()))


@pytest.mark.parametrize("max_length", [64, 512])
def test_long_texts(tokenizer_file: Path, max_length: int) -> None:
    """Kept apart: of a long text cut short, the library also builds every overflowing piece."""
    ours = PairTokenizer.from_file(tokenizer_file, max_length)
    library = reference(tokenizer_file, max_length, "right")
    unique = ["a" * 3000, "sea level rise " * 300, "short claim", "é" * 700]
    encoded = ours.encode(unique)
    for claim, evidence in [(0, 1), (1, 0), (2, 1), (1, 2), (1, 1), (3, 0)]:
        pairs = TokenizedPairs(ours, encoded, encoded, np.array([claim]), np.array([evidence]))
        ids = pairs.batch(np.array([0])).input_ids[0].tolist()
        assert ids == library.encode(unique[claim], unique[evidence]).ids


def slow_longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """The rule in words: the longer text gives way, to the shorter one's length at most; then both halve."""
    if first + second <= room:
        return first, second
    shorter = min(first, second)
    if shorter + max(shorter, room - shorter) <= room:
        kept_short, kept_long = shorter, room - shorter
    else:
        kept_short, kept_long = room // 2, room - room // 2
    return (kept_long, kept_short) if first > second else (kept_short, kept_long)


@given(st.integers(0, 700), st.integers(0, 700), st.integers(2, 512))
def test_truncated_lengths_against_the_rule(first: int, second: int, room: int) -> None:
    got = truncated_lengths(np.array([first]), np.array([second]), room)
    assert (int(got[0][0]), int(got[1][0])) == slow_longest_first(first, second, room)
    assert int(got[0][0] + got[1][0]) == min(first + second, room)


def test_worked_example() -> None:
    """Room for 10 tokens: 3 + 20 gives 3 + 7; 20 + 30 gives 5 + 5; 7 + 6 in room 11 gives 6 for the longer."""
    first, second = truncated_lengths(np.array([3, 20]), np.array([20, 30]), 10)
    assert first.tolist() == [3, 5]
    assert second.tolist() == [7, 5]
    first, second = truncated_lengths(np.array([7]), np.array([6]), 11)
    assert (first.tolist(), second.tolist()) == ([6], [5])


def test_encoding_in_chunks_changes_nothing(tokenizer_file: Path) -> None:
    tokenizer = PairTokenizer.from_file(tokenizer_file, 64)
    many = [f"sea level {number}" * (number % 7) for number in range(100)]
    whole = tokenizer.encode(many)
    cut = PairTokenizer(Tokenizer.from_file(str(tokenizer_file)), 64, chunk_texts=7, chunk_characters=50)
    pieces = cut.encode(many)
    assert np.array_equal(whole.values, pieces.values)
    assert np.array_equal(whole.offsets, pieces.offsets)


def test_a_max_length_without_room_is_refused(tokenizer_file: Path) -> None:
    with pytest.raises(PairscoreError, match="max length 3 leaves no room"):
        PairTokenizer.from_file(tokenizer_file, 3)


def test_a_tokenizer_that_does_not_parse_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(PairscoreError, match="cannot read tokenizer"):
        PairTokenizer.from_file(path, 64)


def test_a_pair_template_in_another_order_is_refused(tokenizer_file: Path, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    some = tokenizer.id_to_token(1)
    tokenizer.post_processor = TemplateProcessing(
        single=f"{some} $A", pair=f"{some} $B {some} $A", special_tokens=[(some, 1)]
    )
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    with pytest.raises(PairscoreError, match="does not put a pair together"):
        PairTokenizer.from_file(path, 64)


def test_a_token_that_the_model_has_no_embedding_for_is_named(tokenizer_file):
    known = Tokenizer.from_file(str(tokenizer_file))
    last = known.get_vocab_size() - 1
    tokenizer = PairTokenizer.from_file(tokenizer_file, 64, vocabulary=last)
    text = known.id_to_token(last)
    limited = PairTokenizer.from_file(
        tokenizer_file, 64, vocabulary=known.encode(text, add_special_tokens=False).ids[0]
    )
    with pytest.raises(PairscoreError, match=r"has no embedding for the token .* \(id \d+ of \d+\)"):
        limited.encode([text])
    assert tokenizer.encode(["a"]).values.max() < last
