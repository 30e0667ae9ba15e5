"""nanotoken, a faster way to the token ids of `tokenizers`, used only while both give the same ids.

nanotoken is many times as fast, and it is young, so its ids are compared with those of `tokenizers`: on a
fixed set of texts before its first use, and on some texts of every call. It is used only for WordPiece, the kind of
tokenizer that it was written for. At the first difference this process goes back to `tokenizers` for good and says so.
A wrong id leaves this module only if both comparisons miss it.
"""

import json
import logging
import threading
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from pairscore.runtime.text.difficult_texts import probe_texts
from pairscore.runtime.text.ragged import Ragged
from pairscore.runtime.types import Int64Array

EncodeTexts = Callable[[list[str]], Ragged]

# With fewer texts, the comparison is most of the work.
LEAST_TEXTS = 1024
# Each call compares this many texts, and half as many more that are not plain ASCII.
_SAMPLE = 256
_SAMPLE_SHARE = 128
# Words that nanotoken keeps in memory for each thread. Its own default is 16 times as many.
_WORDS_REMEMBERED = 1 << 16
_PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}

_log = logging.getLogger(__name__)
distrusted = threading.Event()
_telling = threading.Lock()


class CheckedNanotoken:
    """nanotoken, and the tokenizer whose ids it has to give. Safe to call from several threads."""

    def __init__(self, tokenizer: Tokenizer, reference: EncodeTexts) -> None:
        """`reference`: encodes with `tokenizer` itself. Nothing is imported before the first large call."""
        self._tokenizer = tokenizer
        self._reference = reference
        self._lock = threading.Lock()
        self._opened = False
        self._encode: EncodeTexts | None = None

    def encode(self, texts: list[str]) -> Ragged | None:
        """The ids of each text, some of them compared; None where `tokenizers` has to encode.

        `tokenizers` has to encode few texts, any text if nanotoken is not installed or does not implement the
        tokenizer, and every text after a difference.
        """
        encode = self.prepare(len(texts))
        return None if encode is None else _compared(encode, self._reference, texts, sampled)

    def prepare(self, texts: int) -> EncodeTexts | None:
        """The encoder of nanotoken if it serves for so many texts; opened and compared the first time."""
        if texts < LEAST_TEXTS or distrusted.is_set():
            return None
        with self._lock:
            if not self._opened:
                self._opened = True
                description = json.loads(self._tokenizer.to_str())
                if is_supported(description) and not self._tokenizer.encode_special_tokens:
                    self._encode = self._proved(description)
            return self._encode

    def _proved(self, description: dict[str, Any]) -> EncodeTexts | None:
        """Nanotoken's encoder once it agreed on the fixed texts."""
        try:
            encode = load(description)
        except BaseException as error:
            _distrust(error)
            return None
        if encode is None:
            return None
        texts = probe_texts(description)
        return encode if _compared(encode, self._reference, texts, lambda *_: np.arange(len(texts))) else None


def load(description: dict[str, Any]) -> EncodeTexts | None:
    """Nanotoken for a `tokenizer.json`; None where it is not installed."""
    if find_spec("nanotoken") is None:
        return None
    import nanotoken

    # Special tokens around texts and decoding do not matter for single texts, and nanotoken implements only some of
    # them.
    bare = {**description, "truncation": None, "padding": None, "post_processor": None, "decoder": None}
    nanotoken.set_cache_entries(_WORDS_REMEMBERED)
    tokenizer = nanotoken.Tokenizer.from_json(json.dumps(bare))

    def encode(texts: list[str]) -> Ragged:
        # One thread is faster than any engine, and a pool of threads does not survive a fork.
        found = tokenizer.encode_batch(texts, add_special_tokens=False, parallel=False)
        return Ragged(found.ids.astype(np.int32, copy=False), found.offsets.astype(np.int64, copy=False))

    return encode


def is_supported(description: dict[str, Any]) -> bool:
    """Whether a `tokenizer.json` is what nanotoken is used for: BERT's WordPiece with plain special tokens."""
    model, normalizer = description.get("model") or {}, description.get("normalizer") or {}
    return (
        set(model) == {"type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"}
        and model["type"] == "WordPiece"
        and model["unk_token"] in model["vocab"]
        and set(normalizer) == {"type", "clean_text", "handle_chinese_chars", "strip_accents", "lowercase"}
        and normalizer["type"] == "BertNormalizer"
        and description.get("pre_tokenizer") == {"type": "BertPreTokenizer"}
        and all(_PLAIN.items() <= token.items() for token in description.get("added_tokens") or [])
    )


def sampled(texts: list[str], encoded: Ragged) -> Int64Array:
    """Row numbers of the texts to compare, Shape (n,). The same texts give the same rows.

    Text beyond ASCII is where tokenizers differ, so it gets a share of its own.
    """
    generator = np.random.default_rng(zlib.crc32(encoded.offsets.tobytes()))
    count = min(len(texts), max(_SAMPLE, len(texts) // _SAMPLE_SHARE))
    foreign = np.array([row for row, text in enumerate(texts) if not text.isascii()], dtype=np.int64)
    return np.unique(
        np.concatenate(
            [
                generator.choice(len(texts), count, replace=False),
                generator.choice(foreign, min(len(foreign), count // 2), replace=False),
            ]
        )
    )


def _compared(
    encode: EncodeTexts, reference: EncodeTexts, texts: list[str], choose: Callable[[list[str], Ragged], Int64Array]
) -> Ragged | None:
    """The ids from `encode` if `reference` gives the same for the rows that `choose` names; else None, from then on."""
    try:
        encoded = encode(texts)
        if not _is_whole(encoded, len(texts)):
            raise ValueError("a result of the wrong shape")
        rows = choose(texts, encoded)
    except BaseException as error:
        _distrust(error)
        return None
    expected, found = reference([texts[row] for row in rows]), encoded.take(rows)
    if np.array_equal(expected.offsets, found.offsets) and np.array_equal(expected.values, found.values):
        return encoded
    different = next(row for place, row in enumerate(rows) if not np.array_equal(encoded[row], expected[place]))
    _distrust(f"other token ids for {texts[different]!r:.120}")
    return None


def _is_whole(encoded: Ragged, texts: int) -> bool:
    return (
        len(encoded) == texts
        and encoded.offsets[0] == 0
        and encoded.offsets[-1] == len(encoded.values)
        and bool((encoded.lengths >= 0).all())
    )


def _distrust(reason: BaseException | str) -> None:
    """Use nanotoken no more in this process, and say why the first time."""
    # A panic in its Rust code arrives as a BaseException of its own kind; signals are others, and must pass.
    if not isinstance(reason, str | Exception) and type(reason).__name__ != "PanicException":
        raise reason
    with _telling:
        if distrusted.is_set():
            return
        distrusted.set()
    _log.warning(
        "nanotoken does not do what tokenizers does (%s): going on with tokenizers alone, which is slower; "
        "`pip uninstall nanotoken` ends this warning",
        reason,
    )
