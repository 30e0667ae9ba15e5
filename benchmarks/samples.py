"""Which pairs are measured: a sample of whole claims, and pairs of wanted lengths."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from pairscore.benchmarks.loaders import Pairs, rows_by_claim

LONG = (256, 512)


def sample(pairs: Pairs, limit: int | None) -> list[int]:
    """Rows of at most `limit` pairs: whole claims in a seeded random order, so that rankings can be compared."""
    draw = random.Random(0)
    rows_of = rows_by_claim(pairs)
    claims = list(rows_of)
    draw.shuffle(claims)
    rows = [row for claim in claims for row in rows_of[claim]][:limit]
    draw.shuffle(rows)
    return rows


def long_pairs(tokenizer_file: Path, pairs: Pairs, count: int) -> tuple[Pairs, bool]:
    """`count` pairs of 256 to 512 tokens, and whether they had to be made: where `pairs` holds fewer."""
    lengths = token_lengths(tokenizer_file, pairs)
    found = [pair for pair, length in zip(pairs, lengths, strict=True) if LONG[0] <= length <= LONG[1]][:count]
    return (found, False) if len(found) == count else (made_pairs(tokenizer_file, pairs, count, *LONG), True)


def made_pairs(tokenizer_file: Path, pairs: Pairs, count: int, shortest: int, longest: int) -> Pairs:
    """`count` pairs of a claim and a stretch of all evidence's words, their tokens spread evenly between two bounds.

    No two are the same, where there are as many words. Of a claim that is long the first words are taken. Raises
    ValueError where there is no word at all.
    """
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    words = " ".join(dict.fromkeys(evidence for _, evidence in pairs)).split()
    sizes = _token_counts(tokenizer, [*words, *(word for claim, _ in pairs for word in claim.split())])
    if not words:
        raise ValueError("the evidence has no words to make pairs of")
    step = max(1, len(words) // max(1, count))
    double = words * 2  # a stretch may run over the end
    ends = np.cumsum([0, *(sizes[word] for word in double)])
    special, made = tokenizer.num_special_tokens_to_add(True), []
    for row in range(count):
        claim: list[str] = []
        tokens = special
        for word in pairs[row % len(pairs)][0].split():
            if tokens + sizes[word] > shortest // 2 + special:
                break
            claim.append(word)
            tokens += sizes[word]
        wanted = shortest + (longest - shortest) * (row * 0.618 % 1) - tokens  # the same every time
        first = row * step % len(words)
        last = max(first + 1, int(np.abs(ends - ends[first] - wanted).argmin()))
        made.append((" ".join(claim), " ".join(double[first:last])))
    return made


def token_lengths(tokenizer_file: Path, pairs: Pairs, max_length: int | None = None) -> list[int]:
    """Tokens of each pair, special tokens included, after truncation to `max_length`."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_padding()
    if max_length is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(max_length)
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(pairs)]


def _token_counts(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, int]:
    """Tokens of each different text by itself, special tokens excluded."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    different = list(dict.fromkeys(texts))
    encodings = tokenizer.encode_batch(different, add_special_tokens=False)
    return {text: len(encoding.ids) for text, encoding in zip(different, encodings, strict=True)}
