"""BM25 by the library is BM25 by the book."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pairscore.training.bm25 import Bm25

WORDS = ("bears", "ice", "warming", "carbon", "reef", "ocean", "coal", "storm")
texts = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)


def slow_score(claim: str, sentence: str, sentences: list[str]) -> float:
    """Lucene's BM25 with k1 = 1.5 and b = 0.75, word by word (Kamphuis et al. 2020, table 1)."""
    documents = [each.split() for each in sentences]
    mean_length = sum(map(len, documents)) / len(documents)
    words = sentence.split()
    score = 0.0
    for word in claim.split():
        holding = sum(word in document for document in documents)
        rarity = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
        count = words.count(word)
        score += rarity * count / (count + 1.5 * (1 - 0.75 + 0.75 * len(words) / mean_length)) if count else 0.0
    return score


@given(texts, st.lists(texts, min_size=1, max_size=8))
def test_scores_and_order_are_the_formula_s(claim, sentences):
    ranking = Bm25(sentences)
    expected = np.array([slow_score(claim, sentence, sentences) for sentence in sentences])
    scores = ranking.scores(claim)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    top = ranking.top(claim, 3)
    assert len(top) == min(3, len(sentences))
    assert list(top) == sorted(range(len(sentences)), key=lambda place: (-scores[place], place))[:3]


def test_case_and_stop_words_do_not_count():
    ranking = Bm25(["The ICE is melting", "the and is of", "coal"])
    assert list(ranking.scores("the ice") > 0) == [True, False, False]
