"""BM25 over a set of sentences, by the bm25s library (Lù 2024, arXiv 2407.03618)."""

from collections.abc import Sequence
from typing import Any

import bm25s
import numpy as np
import numpy.typing as npt


class Bm25:
    """Ranks a fixed set of sentences for one claim after another. English stop words are left out."""

    def __init__(self, sentences: Sequence[str]) -> None:
        self._size = len(sentences)
        self._words: set[str] = set()
        tokens = [_words(sentence) for sentence in sentences]
        self._words.update(*tokens)
        self._index = bm25s.BM25()
        if self._words:
            self._index.index(tokens, show_progress=False)

    def scores(self, claim: str) -> npt.NDArray[np.float32]:
        """The score of every sentence. Shape (sentences,); zeros where no word is shared."""
        words = [word for word in _words(claim) if word in self._words]
        if not words:
            return np.zeros(self._size, dtype=np.float32)
        return np.asarray(self._index.get_scores(words), dtype=np.float32)

    def top(self, claim: str, count: int) -> npt.NDArray[np.int64]:
        """Row numbers of the best `count` sentences, best first.

        Of two equal sentences, the earlier one comes first.
        """
        return np.argsort(-self.scores(claim), kind="stable")[:count]


def _words(text: str) -> list[str]:
    tokens: Any = bm25s.tokenize([text], stopwords="en", return_ids=False, show_progress=False)
    return list(tokens[0])
