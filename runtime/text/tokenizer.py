"""Texts to token ids, each text once; and the special tokens that a tokenizer puts around the two texts of a pair.

A fast tokenizer encodes the two texts of a pair independently, truncates them together and then joins
them with special tokens. So a text that occurs in a thousand pairs is encoded once, and the rest is
arithmetic on lengths (`truncated_lengths`) and array copies (`stream/batching.py`).
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tokenizers import Encoding, Tokenizer

from pairscore.runtime.bundle.manifest import CLAIM_FIRST, Bundle, PairOrder
from pairscore.runtime.errors import PairscoreError, one_line
from pairscore.runtime.text.ragged import Ragged
from pairscore.runtime.text.wordpiece import CheckedNanotoken
from pairscore.runtime.types import FloatArray, Int64Array

# An `Encoding` holds far more than ids; encoding in chunks keeps only two chunks' worth of them alive.
CHUNK_TEXTS = 4096
CHUNK_CHARACTERS = 2_000_000


@dataclass(frozen=True)
class PairTemplate:
    """The special tokens around a pair: `prefix` first text `middle` second text `suffix`.

    `type_boundary`: how many of the `middle` tokens still have token type 0; everything after them has
    type 1. None where all token types are 0.
    """

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    type_boundary: int | None

    @property
    def specials(self) -> int:
        """How many special tokens a pair gets."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)


class PairTokenizer:
    """A `tokenizers.Tokenizer` seen as an encoder of single texts and a template for pairs."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        truncation_side: Literal["left", "right"] = "right",
        prompt: str = "",
        pair_order: PairOrder = CLAIM_FIRST,
        *,
        empty_logits: Sequence[float] = (),
        vocabulary: int | None = None,
        chunk_texts: int = CHUNK_TEXTS,
        chunk_characters: int = CHUNK_CHARACTERS,
    ) -> None:
        """`prompt`: what stands before every claim, part of its text. `pair_order`: which text the model reads first.
        `empty_logits`: of a pair without any token. `vocabulary`: how many token ids the model has embeddings for, if
        that is known. `chunk_texts`, `chunk_characters`: after how many of either another chunk of texts begins.
        """
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._fast = CheckedNanotoken(tokenizer, self._encode)
        self._chunk_texts = chunk_texts
        self._chunk_characters = chunk_characters
        self.max_length = max_length
        self.truncation_side = truncation_side
        self._prompt = prompt
        self.pair_order = pair_order
        self._empty_logits = empty_logits
        self.template = _find_template(tokenizer)
        # Only a tokenizer that has more tokens is looked after: engines on a GPU compute with an embedding of zeros.
        largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        self._vocabulary = vocabulary if vocabulary is not None and vocabulary <= largest else None
        if self.room < 2:
            raise PairscoreError(
                f"max length {max_length} leaves no room for a claim and evidence beside "
                f"{self.template.specials} special tokens: use at least {self.template.specials + 2}"
            )

    @staticmethod
    def from_file(
        path: Path,
        max_length: int,
        truncation_side: Literal["left", "right"] = "right",
        prompt: str = "",
        pair_order: PairOrder = CLAIM_FIRST,
        *,
        empty_logits: Sequence[float] = (),
        vocabulary: int | None = None,
    ) -> "PairTokenizer":
        """Open a `tokenizer.json`. Raises PairscoreError when this release of `tokenizers` cannot read it."""
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise PairscoreError(f"cannot read tokenizer {str(path)!r} ({error}): upgrade `tokenizers`") from error
        return PairTokenizer(
            tokenizer, max_length, truncation_side, prompt, pair_order, empty_logits=empty_logits, vocabulary=vocabulary
        )

    @staticmethod
    def of_bundle(bundle: Bundle, max_length: int | None = None) -> "PairTokenizer":
        """A bundle's tokenizer, its digest checked. `max_length`: in place of the bundle's."""
        manifest, path = bundle.manifest, bundle.path("tokenizer.json")
        length = max_length or manifest.max_length
        return PairTokenizer.from_file(
            path,
            length,
            manifest.truncation_side,
            manifest.prompt,
            manifest.pair_order,
            empty_logits=manifest.empty_logits,
            vocabulary=_vocabulary(bundle.path("config.json")),
        )

    @property
    def room(self) -> int:
        """Tokens left for claim and evidence together."""
        return self.max_length - self.template.specials

    def logits_of_empty(self, lengths: Int64Array, labels: int) -> FloatArray:
        """Logits of Shape (pairs, labels) to be filled: pairs without any token, which no engine computes, have theirs.

        Only tokenizers without special tokens make such pairs, of two empty texts.
        """
        logits = np.empty((len(lengths), labels), dtype=np.float32)
        empty = lengths == 0
        if empty.any():
            if not self._empty_logits:
                raise PairscoreError(
                    "a pair has no token at all, and the bundle has no logits for that: leave the pair out, or export "
                    "the bundle again"
                )
            logits[empty] = self._empty_logits
        return logits

    def prepare(self, texts: int) -> None:
        """Open and check nanotoken now, if `encode` would use it for this many texts."""
        self._fast.prepare(texts)

    def encode_claims(self, claims: list[str]) -> Ragged:
        """As `encode`, each claim behind the prompt."""
        return self.encode([self._prompt + claim for claim in claims] if self._prompt else claims)

    def encode(self, texts: list[str]) -> Ragged:
        """The token ids of each text, whole and without special tokens, as `tokenizers` gives them.

        Raises PairscoreError for a token that the model has no embedding for.
        """
        encoded = self._fast.encode(texts)
        found = self._encode(texts) if encoded is None else encoded
        if self._vocabulary is not None and (largest := int(found.values.max(initial=0))) >= self._vocabulary:
            raise PairscoreError(
                f"the model has no embedding for the token {self._tokenizer.id_to_token(largest)!r} (id {largest} of "
                f"{self._vocabulary}): take it out of the texts, or resize the embeddings and export the model again"
            )
        return found

    def characters(self, text: str) -> Int64Array:
        """Where each token of `encode` begins and ends in a text, in characters. Shape (tokens, 2)."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return np.array(offsets, dtype=np.int64).reshape(-1, 2)

    def _encode(self, texts: list[str]) -> Ragged:
        chunks = self._chunks(texts)
        if len(chunks) < 2:
            return Ragged.concatenate(map(self._encode_chunk, chunks))
        # The library encodes on all cores; making lists of what it found is one thread's work. Two take turns.
        with ThreadPoolExecutor(2, thread_name_prefix="pairscore-encode") as pool:
            return Ragged.concatenate(pool.map(self._encode_chunk, chunks))

    def _chunks(self, texts: list[str]) -> list[list[str]]:
        chunks: list[list[str]] = []
        characters = self._chunk_characters
        for text in texts:
            if characters >= self._chunk_characters or len(chunks[-1]) >= self._chunk_texts:
                chunks.append([])
                characters = 0
            chunks[-1].append(text)
            characters += len(text)
        return chunks

    def _encode_chunk(self, texts: list[str]) -> Ragged:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return Ragged.from_lists([encoding.ids for encoding in encodings])


def truncated_lengths(first: Int64Array, second: Int64Array, room: int) -> tuple[Int64Array, Int64Array]:
    """How many tokens of each text survive longest-first truncation to `room` tokens together.

    first, second: Shape (pairs,), lengths before. Source of the method: `truncate_encodings` of the
    `tokenizers` library, strategy LongestFirst. A pair that fits is kept. Otherwise the longer text gives
    way, down to `room` less the shorter one; where that would make it the shorter one, both are cut to
    half, and the text that was longer gets the odd token.
    """
    shorter = np.minimum(first, second)
    longer = np.maximum(shorter, room - shorter)
    halves = shorter + longer > room
    shorter = np.where(halves, room // 2, shorter)
    longer = np.where(halves, room - room // 2, longer)
    swapped = first > second
    fits = first + second <= room
    new_first = np.where(fits, first, np.minimum(first, np.where(swapped, longer, shorter)))
    new_second = np.where(fits, second, np.minimum(second, np.where(swapped, shorter, longer)))
    return new_first, new_second


def _find_template(tokenizer: Tokenizer) -> PairTemplate:
    """Read the template off two pairs that the tokenizer itself assembled.

    Probing, rather than parsing `tokenizer.json`, works for every post-processor there is; a tokenizer
    whose pairs are not `prefix claim middle evidence suffix` is refused.
    """
    templates = {
        _template_of(tokenizer.encode("climate", "warming ice", add_special_tokens=True)),
        _template_of(tokenizer.encode("sea level rise", "carbon", add_special_tokens=True)),
    }
    template = templates.pop()
    if templates or template is None:
        raise PairscoreError(
            "this tokenizer does not put a pair together as special tokens around claim, then evidence: "
            "no other order is supported; use a tokenizer with a pair template"
        )
    return template


def _template_of(encoding: Encoding) -> PairTemplate | None:
    places = encoding.sequence_ids  # 0 in the claim, 1 in the evidence, None for special tokens
    types = encoding.type_ids
    if 0 not in places or 1 not in places:
        return None
    claim_start, evidence_start = places.index(0), places.index(1)
    claim_stop = len(places) - places[::-1].index(0)
    evidence_stop = len(places) - places[::-1].index(1)
    whole = {0} == set(places[claim_start:claim_stop]) and {1} == set(places[evidence_start:evidence_stop])
    if not whole or claim_stop > evidence_start or types != sorted(types) or not set(types) <= {0, 1}:
        return None
    if 1 not in types:
        boundary = None
    else:
        boundary = types.index(1) - claim_stop
        if not 0 <= boundary <= evidence_start - claim_stop:
            return None
    ids = encoding.ids
    return PairTemplate(
        prefix=tuple(ids[:claim_start]),
        middle=tuple(ids[claim_stop:evidence_start]),
        suffix=tuple(ids[evidence_stop:]),
        type_boundary=boundary,
    )


def _vocabulary(config: Path) -> int | None:
    """How many tokens the model knows; None where its configuration names no number. Raises PairscoreError."""
    try:
        size = json.loads(config.read_text(encoding="utf-8")).get("vocab_size")
        if isinstance(size, bool) or not isinstance(size, int | None):
            raise ValueError(f"vocab_size is {size!r:.80}")
        return size
    except (ValueError, AttributeError, RecursionError) as error:
        raise PairscoreError(
            f"bundle file {str(config)!r} is no model's configuration ({one_line(error)}): export the bundle again"
        ) from error
