"""Long evidence in passages: the same tokens and scores as cutting by hand, and as the library's own windows."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification

from pairscore import PairscoreError, Scorer
from pairscore.runtime.stream.batching import TokenizedPairs, plan_batches, tokenize_pairs
from pairscore.runtime.stream.passages import OVERLAP, LongEvidence, Passages, choose_long_evidence
from pairscore.runtime.stream.pipeline import Window, stream
from pairscore.runtime.text.tokenizer import PairTokenizer
from tests import corpus
from tests.conftest import Exported
from tests.stream.test_batching import word_tokenizer

WORDS = ["a", "b", "c"]
LIMIT = 16
ROOM = LIMIT - 3


def text(words: int) -> str:
    return " ".join(WORDS[place * place % 7 % 3] for place in range(words))


def by_hand(claim: list[int], evidence: list[int], room: int, overlap: int) -> list[tuple[list[int], int, int]]:
    """(the claim's ids, begin, end) of each passage, one after the other, as the module's docstring says it."""
    if len(claim) + len(evidence) <= room:
        return [(claim, 0, len(evidence))]
    width = max(room - len(claim), room // 2)
    found, begin = [], 0
    while True:
        end = min(begin + width, len(evidence))
        found.append((claim[: room - (end - begin)], begin, end))
        if end == len(evidence):
            return found
        begin += width - overlap


def assembled(pairs: TokenizedPairs) -> list[list[int]]:
    rows: dict[int, list[int]] = {}
    for batch in map(pairs.batch, plan_batches(pairs.lengths, 60)):
        rows |= dict(zip(batch.rows.tolist(), batch.input_ids.tolist(), strict=True))
    return [rows[row] for row in range(len(pairs))]


@given(
    lengths=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60)), min_size=1, max_size=6),
    overlap=st.integers(0, ROOM // 2 - 1),
    evidence_first=st.booleans(),
    left=st.booleans(),
)
def test_passages_are_those_of_cutting_by_hand(lengths, overlap, evidence_first, left) -> None:
    order = "evidence-claim" if evidence_first else "claim-evidence"
    tokenizer = PairTokenizer(word_tokenizer(), LIMIT, "left" if left else "right", pair_order=order)
    claims, evidence = ([text(each[side]) for each in lengths] for side in (0, 1))
    pairs = tokenize_pairs(tokenizer, pa.array(claims), pa.array(evidence), LongEvidence(overlap))
    found = assembled(pairs)
    passages = pairs.passages
    assert passages is not None
    for row, pair in enumerate(pairs.pair_of):
        ids = [tokenizer.encode([each])[0].tolist() for each in (claims[row], evidence[row])]
        expected = by_hand(*ids, ROOM, overlap)
        mine = slice(passages.offsets[pair], passages.offsets[pair + 1])
        assert passages.begins[mine].tolist() == [begin for _, begin, _ in expected]
        assert passages.ends[mine].tolist() == [end for _, _, end in expected]
        for (kept, begin, end), have in zip(expected, found[mine], strict=True):
            texts = [ids[0][len(ids[0]) - len(kept) :] if left else kept, ids[1][begin:end]]
            first, second = texts[::-1] if evidence_first else texts
            assert have == [0, *first, 1, *second, 1]
        assert pairs.truncated[pair] == any(len(claim) < len(ids[0]) for claim, _, _ in expected)


@given(st.integers(0, ROOM - 6), st.integers(0, 200), st.integers(0, 5))
def test_passages_are_the_windows_of_the_library(claim: int, evidence: int, overlap: int) -> None:
    """`tokenizers` cuts the second text alone into windows that overlap; it needs a claim that leaves room."""
    assume(overlap < ROOM - claim)
    library: Tokenizer = word_tokenizer()
    library.enable_truncation(LIMIT, stride=overlap, strategy="only_second")
    encoded = library.encode(text(claim), text(evidence))
    tokenizer = PairTokenizer(word_tokenizer(), LIMIT)
    pairs = tokenize_pairs(tokenizer, pa.array([text(claim)]), pa.array([text(evidence)]), LongEvidence(overlap))
    assert assembled(pairs) == [each.ids for each in (encoded, *encoded.overflowing)]
    assert not pairs.truncated[0]


@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=4), max_size=5),
    st.sampled_from(["max", "mean"]),
    st.integers(0, 1),
)
def test_scores_of_passages_are_combined_one_pair_after_the_other(groups, combine, label) -> None:
    flat = [score for group in groups for score in group]
    scores = np.array([[score, 1 - score] for score in flat], np.float32).reshape(-1, 2)
    offsets = np.cumsum([0, *map(len, groups)])
    none = np.zeros(len(flat), np.int64)
    found = Passages(offsets, none, none, LongEvidence(0, combine, label)).combine(scores)
    for row, group in enumerate(groups):
        both = [[score, 1 - score] for score in group]
        best = max(both, key=lambda each: each[label])
        np.testing.assert_allclose(found[row], best if combine == "max" else np.mean(both, axis=0), rtol=1e-6)


def test_overlap_that_leaves_no_new_token_is_refused() -> None:
    LongEvidence(5).check(ROOM)
    with pytest.raises(PairscoreError, match=r"passages of 6 tokens, .* cannot overlap by 6: use .* from 0 to 5"):
        LongEvidence(6).check(ROOM)
    with pytest.raises(PairscoreError, match="cannot overlap by -1"):
        LongEvidence(-1).check(ROOM)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("shorten", 64, "max", None, ["a"]), "unknown --long-evidence 'shorten': use cut or split"),
        (("split", 64, "sum", None, ["a"]), "unknown --combine 'sum': use max or mean"),
        (("split", 64, "max", None, ["a", "b"]), "one of the labels a, b: name it with --rank-by LABEL"),
        (("cut", 8, "max", None, ["a"]), "--overlap and --combine are of passages: give --long-evidence split"),
        (("split", 64, "max", "c", ["a", "b"]), "--rank-by 'c' is no label of this model: it has a, b"),
    ],
)
def test_options_that_mean_nothing(options, message) -> None:
    with pytest.raises(PairscoreError, match=message):
        choose_long_evidence(*options)
    assert choose_long_evidence("split", 8, "mean", "b", ["a", "b"]) == LongEvidence(8, "mean", 1)
    assert choose_long_evidence("cut", OVERLAP, "max", None, ["a", "b"]) is None


class Sums:
    """Logits that tell any two passages apart, computed from ids alone."""

    name, device, callers, token_budget = "sums", "none", 2, 4096

    def run(self, batch):
        ids = batch.input_ids.astype(np.int64)
        return (ids * (np.arange(ids.shape[1]) + 1) % 8191).sum(axis=1, keepdims=True).astype(np.float32)


def test_texts_of_twenty_thousand_words_equal_cutting_by_hand() -> None:
    """Pairs, each row against its own passages put together in lists; windows hold a few such texts."""
    draw = np.random.default_rng(0)
    sizes = [50, 20_000, *draw.integers(50, 20_000, 30).tolist()]
    evidence = [" ".join(draw.choice(WORDS, size)) for size in sizes]
    claims = [text(int(words)) for words in draw.integers(0, 300, len(sizes))]
    tokenizer = PairTokenizer(word_tokenizer(), 128)
    windows = [Window(pa.array(claims[at : at + 4]), pa.array(evidence[at : at + 4]), at) for at in range(0, 32, 4)]
    scored = list(stream(windows, tokenizer, Sums(), 1, long=LongEvidence(32)))
    found = np.concatenate([each.logits for each in scored])[:, 0]
    engine = Sums()
    for row, (claim, piece) in enumerate(zip(claims, evidence, strict=True)):
        ids = [tokenizer.encode([each])[0].tolist() for each in (claim, piece)]
        best = -np.inf
        for kept, begin, end in by_hand(*ids, 125, 32):
            whole = np.array([[0, *kept, 1, *ids[1][begin:end], 1]])
            best = max(best, float((whole * (np.arange(whole.shape[1]) + 1) % 8191).sum()))
        assert found[row] == best
    assert sum(each.statistics.passages for each in scored) > 32 * 100
    assert engine.callers == 2


@pytest.fixture(scope="module")
def made(exported: Callable[..., Exported]) -> Exported:
    return exported("bert", labels=3)


def long_pairs() -> list[tuple[str, str]]:
    sentences = corpus.SENTENCES
    return [
        (sentences[0], " ".join(sentences[1:12])),
        (sentences[3], sentences[4]),
        (" ".join(sentences[:8]), " ".join(sentences[8:20])),
        (sentences[5], ""),
        (sentences[2], " ".join(sentences[::-1])),
        (sentences[2], " ".join(sentences[::-1])),
    ]


def pytorch_by_hand(made: Exported, overlap: int) -> Iterator[list[list[float]]]:
    """PyTorch's logits of each pair's passages, from ids put together here."""
    library = Tokenizer.from_file(str(made.bundle / "tokenizer.json"))
    model = AutoModelForSequenceClassification.from_pretrained(made.checkpoint).eval()
    start, stop = (library.token_to_id(name) for name in ("[CLS]", "[SEP]"))
    for claim, evidence in long_pairs():
        ids = [library.encode(each, add_special_tokens=False).ids for each in (claim, evidence)]
        logits = []
        for kept, begin, end in by_hand(*ids, 61, overlap):
            whole = [start, *kept, stop, *ids[1][begin:end], stop]
            types = [0] * (len(kept) + 2) + [1] * (end - begin + 1)
            with torch.no_grad():
                logits.append(model(torch.tensor([whole]), token_type_ids=torch.tensor([types])).logits[0].tolist())
        yield logits


@pytest.mark.parametrize("combine", ["max", "mean"])
def test_predict_equals_pytorch_on_passages_cut_by_hand(made: Exported, combine: str) -> None:
    scorer = Scorer.from_pretrained(made.bundle, activation="softmax")
    found = scorer.predict(long_pairs(), long_evidence="split", overlap=16, combine=combine, rank_by="LABEL_1")
    for row, logits in enumerate(pytorch_by_hand(made, 16)):
        scores = torch.softmax(torch.tensor(logits), dim=1).numpy()
        expected = scores[scores[:, 1].argmax()] if combine == "max" else scores.mean(axis=0)
        np.testing.assert_allclose(found[row], expected, atol=1e-5)
    cut = scorer.predict(long_pairs())
    assert np.abs(cut - found).max() > 1e-3  # it does make a difference
    np.testing.assert_array_equal(cut[[1, 3]], found[[1, 3]])  # pairs that fit


def test_columns_say_what_was_cut_and_where_the_best_passage_lies(made: Exported) -> None:
    scorer = replace(Scorer.from_pretrained(made.bundle), window_pairs=4)
    rows = [*long_pairs(), (None, "x")]
    table = pa.table({"claim": [claim for claim, _ in rows], "evidence": [text for _, text in rows]})
    options = {"long_evidence": "split", "overlap": 16, "rank_by": "LABEL_2", "on_null": "null"}
    more = {"truncated_column": "cut", "passage_columns": True, "prediction_column": "label"}
    scored = scorer.score_table(table, **options, **more)
    assert scored.schema.names[2:] == [
        "score_LABEL_0",
        "score_LABEL_1",
        "score_LABEL_2",
        "label",
        "cut",
        "passage_begin",
        "passage_end",
    ]
    assert scored["cut"].to_pylist() == [False, False, True, False, False, False, None]
    scores = np.stack([scored.column(2 + label).to_numpy()[:6] for label in range(3)], axis=1)
    assert scored["label"].to_pylist() == [scorer.labels[place] for place in scores.argmax(axis=1)] + [None]
    library = Tokenizer.from_file(str(made.bundle / "tokenizer.json"))
    for row, logits in enumerate(pytorch_by_hand(made, 16)):
        claim, evidence = rows[row]
        encoded = [library.encode(each, add_special_tokens=False) for each in (claim, evidence)]
        best = int(np.argmax([each[2] for each in logits]))
        _, begin, end = by_hand(encoded[0].ids, encoded[1].ids, 61, 16)[best]
        offsets = encoded[1].offsets
        first = offsets[begin][0] if begin else 0
        last = len(evidence) if end == len(offsets) else offsets[end - 1][1]
        assert (scored["passage_begin"][row].as_py(), scored["passage_end"][row].as_py()) == (first, last)
    cut = scorer.score_table(table, truncated_column="cut", on_null="null")["cut"].to_pylist()
    assert cut == [True, False, True, False, True, True, None]
    with pytest.raises(PairscoreError, match="give long_evidence='split' with it"):
        scorer.score_table(table, passage_columns=True)
    with pytest.raises(PairscoreError, match="already has a column 'claim': use truncated_column NAME"):
        scorer.score_table(table, truncated_column="claim")


def test_statistics_count_cut_pairs_and_passages(exported: Callable[..., Exported]) -> None:
    scorer = Scorer.from_pretrained(exported("bert").bundle)
    rows = long_pairs()
    claims, evidence = (pa.array([row[side] for row in rows]) for side in (0, 1))
    done: list[int] = []
    (cut,) = scorer.stream([Window(claims, evidence, None)])
    (split,) = scorer.stream(
        [Window(claims, evidence, None)], long=LongEvidence(16), on_progress=lambda pairs, _: done.append(pairs)
    )
    assert (cut.statistics.truncated, cut.statistics.passages) == (4, 0)
    assert split.statistics.truncated == 1
    assert split.statistics.passages == len(split.computed) - 5
    assert sum(done) == len(rows)
    assert split.truncated.tolist() == [False, False, True, False, False, False]
    with pytest.raises(PairscoreError, match="cannot overlap by 40"):
        scorer.predict(rows, long_evidence="split", overlap=40)


def test_an_activation_function_and_rank_see_passages(exported: Callable[..., Exported]) -> None:
    scorer = Scorer.from_pretrained(exported("bert").bundle)
    rows = long_pairs()
    own = scorer.predict(rows, long_evidence="split", overlap=16)
    called = scorer.predict(rows, long_evidence="split", overlap=16, activation_fn=torch.nn.Sigmoid())
    np.testing.assert_allclose(called, own, atol=1e-6)
    evidence = [each for _, each in rows[:5]]
    ranked = scorer.rank(rows[0][0], evidence, long_evidence="split", overlap=16)
    scores = scorer.predict([(rows[0][0], each) for each in evidence], long_evidence="split", overlap=16)
    assert [hit["corpus_id"] for hit in ranked] == np.argsort(-scores, kind="stable").tolist()
