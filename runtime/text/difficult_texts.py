"""Texts on which two tokenizers are likely to differ. They are the same every time."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

_WORDS_A_TEXT = 32
_VOCABULARY_WORDS = 2000
# Every code point where letters, marks, spaces, controls and punctuation are densest, and a share of the others.
_DENSE = ((0x0, 0x600), (0x1E00, 0x2070), (0x3000, 0x3040), (0xFE00, 0xFE30), (0xFEF0, 0x10000), (0xE0000, 0xE0080))
_SPARSE_STEP, _ASTRAL_STEP = 17, 997
_SENTENCES = (
    "",
    " ",
    "\n",
    "\t \r\n\v\f\x85",
    "\x00",
    "a\x00b \x00",
    "The sea level rose by 20 cm, i.e. 0.2 m (since 1900)!",
    "It's the IPCC's \"AR6\"; don't -- can't -- won't: see https://example.org/a_b?c=d&e=%20#f",
    "CO2 is at 421.3ppm, +1.5°C, ½ of it; £3–€4…",
    "  leading, trailing and   double spaces  ",
    "Café naïve cafe\u0301 nai\u0308ve ÅNGSTRÖM Straße İstanbul ΣΑΣ ﬁne",
    "南极的冰 is 融化 中",
    "かな カタカナ ﾊﾝｶｸ 한국어 힣",
    "بحر مستوى 123 ١٢٣ שלום नमस्ते ไทย",
    "🌍🌡️ 👩‍🔬👨‍👩‍👧 🇫🇷🇩🇪 1️⃣",
    "zero\u200bwidth soft\u00adhyphen \u202eright-to-left\u202c \ufeffmark \u2028line\u2029",
    "e\u0301\u0302\u0303\u0304" * 4,
    "\u0301\u0302 \u0301a",
    "a\u00a0b\u2003c\u3000d",
    "x" * 5000,
)


def probe_texts(description: dict[str, Any]) -> list[str]:
    """Some hundreds of short texts, thousands of words, for the tokenizer that a WordPiece `tokenizer.json` describes.

    Sentences; code points of every category, alone and inside a word; words of the vocabulary, joined and in other
    case; words about as long as the longest that is split; and its special tokens, whole, broken and inside words.
    """
    model = description["model"]
    specials = [token["content"] for token in description.get("added_tokens") or []]
    specials = list(dict.fromkeys([*specials, model["unk_token"]]))
    points = list(_code_points())
    words = chain(
        (f"a{point}b" for point in points),
        points,
        _vocabulary(list(model["vocab"]), model["continuing_subword_prefix"]),
    )
    return [*_SENTENCES, *_long_words(model["max_input_chars_per_word"]), *_with_specials(specials), *_texts(words)]


def _code_points() -> Iterator[str]:
    dense = chain.from_iterable(range(*bounds) for bounds in _DENSE)
    rest = chain(range(0x600, 0x10000, _SPARSE_STEP), range(0x10000, 0x110000, _ASTRAL_STEP))
    return (chr(point) for point in chain(dense, rest) if not 0xD800 <= point < 0xE000)


def _vocabulary(tokens: list[str], prefix: str) -> Iterator[str]:
    for place in range(0, len(tokens), max(1, len(tokens) // _VOCABULARY_WORDS)):
        token, other = tokens[place], tokens[(place * 7 + 1) % len(tokens)]
        yield token
        yield token.upper() + other.removeprefix(prefix)


def _long_words(limit: int) -> Iterator[str]:
    for length in range(max(1, limit - 1), limit + 2):
        for unit in ("a", "é", "e\u0301", "中", "😀", "a-", "\x01a"):
            yield unit * length
            yield f"the {unit * length} end"


def _with_specials(specials: list[str]) -> Iterator[str]:
    for place, token in enumerate(specials):
        other = specials[place - 1]
        yield from (token, token.lower(), token * 2, token + other, f" {token} ", f"a{token}b", f"é {token}中")
        yield from (token[:-1], token[1:], f"[{token}]", f"{token[:2]} {token[2:]}", f"{token}\n{token}", f"##{token}")
        yield f"The sea{token} rose, {other}and {token.upper()}."


def _texts(words: Iterator[str]) -> Iterator[str]:
    together: list[str] = []
    for word in words:
        together.append(word)
        if len(together) == _WORDS_A_TEXT:
            yield " ".join(together)
            together = []
    yield " ".join(together)
