"""The scorer gives what CrossEncoder gives: values, types, order, errors."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import CrossEncoder

from pairscore import PairscoreError, Scorer
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.stream.pipeline import Window
from pairscore.runtime.types import FloatArray
from tests.conftest import Exported
from tests.pairs_files import claimed_text

PAIRS = [
    ("Sea level rises.", "Tide gauges show a rise of 20 cm."),
    ("Ice melts", ""),
    ("", ""),
    ("🌍 warms", "درجة الحرارة ترتفع"),
    ("word " * 500, "The claim alone is too long."),
    ("The evidence is too long.", "heat " * 500),
    ("both " * 300, "long " * 300),
    ("control \x00\x07\n\t characters", "a\u202eb"),
    ("x" * 100_000, "y"),
    ("Sea level rises.", "Penguins live in the south."),
]


@pytest.fixture(scope="module")
def scorer(exported: Callable[..., Exported]) -> Scorer:
    return Scorer.from_pretrained(exported("bert").bundle)


@pytest.fixture(scope="module")
def encoder(exported: Callable[..., Exported]) -> CrossEncoder:
    return CrossEncoder(str(exported("bert").checkpoint), device="cpu")


def test_predict_equals_cross_encoder(scorer: Scorer, encoder: CrossEncoder) -> None:
    ours, theirs = scorer.predict(PAIRS), encoder.predict(PAIRS)
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.ptp(theirs) > 1e-3  # the pairs do differ, or the comparison would say nothing


@pytest.mark.parametrize("pair", [PAIRS[0], list(PAIRS[0]), np.array(PAIRS[0])], ids=["tuple", "list", "array"])
def test_single_pair(scorer: Scorer, encoder: CrossEncoder, pair: object) -> None:
    ours, theirs = scorer.predict(pair), encoder.predict(pair)
    assert type(ours) is type(theirs)
    assert ours.shape == theirs.shape == ()
    assert abs(ours - theirs) < 1e-5


def test_empty_list(scorer: Scorer, encoder: CrossEncoder) -> None:
    ours, theirs = scorer.predict([]), encoder.predict([])
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)


def test_array_of_pairs(scorer: Scorer) -> None:
    assert np.array_equal(scorer.predict(np.array(PAIRS[:4])), scorer.predict(PAIRS[:4]))


@pytest.mark.parametrize("labels", [1, 3])
def test_activations(exported, labels: int) -> None:
    import torch

    ours = Scorer.from_pretrained(exported("roberta", labels=labels).bundle)
    theirs = CrossEncoder(str(exported("roberta", labels=labels).checkpoint), device="cpu")
    for name, module in [(None, None), ("identity", torch.nn.Identity()), ("sigmoid", torch.nn.Sigmoid())]:
        got, expected = ours.predict(PAIRS, activation=name), theirs.predict(PAIRS, activation_fn=module)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_softmax_over_labels(exported) -> None:
    ours = Scorer.from_pretrained(exported("roberta", labels=3).bundle).predict(PAIRS, apply_softmax=True)
    theirs = CrossEncoder(str(exported("roberta", labels=3).checkpoint), device="cpu").predict(
        PAIRS, apply_softmax=True
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(ours.sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("top_k", [None, 2, 0, 99])
def test_rank_equals_cross_encoder(scorer: Scorer, encoder: CrossEncoder, top_k: int | None) -> None:
    documents = list(dict.fromkeys(evidence for _, evidence in PAIRS))  # equal texts would tie
    ours = scorer.rank("Sea level rises.", documents, top_k=top_k, return_documents=True)
    theirs = encoder.rank("Sea level rises.", documents, top_k=top_k, return_documents=True)
    assert [(hit["corpus_id"], hit["text"]) for hit in ours] == [(hit["corpus_id"], hit["text"]) for hit in theirs]
    assert [type(hit["score"]) for hit in ours] == [type(hit["score"]) for hit in theirs]
    np.testing.assert_allclose([hit["score"] for hit in ours], [hit["score"] for hit in theirs], atol=1e-5)
    assert "text" not in scorer.rank("a", ["b"])[0]
    assert scorer.rank("a", []) == []


def test_rank_by_a_label(exported) -> None:
    scorer = Scorer.from_pretrained(exported("roberta", labels=3).bundle)
    with pytest.raises(PairscoreError, match="3 labels: name one of LABEL_0, LABEL_1, LABEL_2 with rank_by"):
        scorer.rank("a", ["b"])
    documents = [evidence for _, evidence in PAIRS]
    scores = scorer.predict([("a", document) for document in documents], activation="softmax")[:, 2]
    hits = scorer.rank("a", documents, rank_by="LABEL_2", activation="softmax")
    assert [hit["corpus_id"] for hit in hits] == np.argsort(-scores, kind="stable").tolist()
    assert [hit["score"] for hit in hits] == sorted(scores.tolist(), reverse=True)
    assert scorer.rank("a", [], rank_by="LABEL_2") == []
    with pytest.raises(PairscoreError, match="'yes' is no label of this model"):
        scorer.rank("a", ["b"], rank_by="yes")


@pytest.mark.parametrize("name", ["identity", "sigmoid", "checkpoint", None])
def test_an_activation_for_everything_that_a_scorer_does(exported, name: str | None) -> None:
    made = exported("bert")
    ours = Scorer.from_pretrained(made.bundle, activation=name)
    expected = Scorer.from_pretrained(made.bundle).predict(PAIRS, activation=name)
    assert np.array_equal(ours.predict(PAIRS), expected)
    assert np.array_equal(ours.score_table(table(PAIRS))["score"].to_numpy(), expected)
    with pytest.raises(PairscoreError, match="unknown activation 'relu': use sigmoid, identity, tanh, softmax"):
        Scorer.from_pretrained(made.bundle, activation="relu")


@pytest.mark.parametrize(
    ("pairs", "place"),
    [([("a", "b"), ("a", None)], 1), ([("a",)], 0), ([("a", "b", "c")], 0), ([("a", 3)], 0), ([["a", "b"], "ab"], 1)],
)
def test_what_is_no_pair_is_named(scorer: Scorer, pairs: object, place: int) -> None:
    with pytest.raises(PairscoreError, match=f"pair {place} is"):
        scorer.predict(pairs)


def test_lone_surrogate(scorer: Scorer) -> None:
    with pytest.raises(PairscoreError, match="surrogate"):
        scorer.predict([("a", "\ud800")])


@settings(max_examples=15)
@given(order=st.permutations(range(len(PAIRS))), budget=st.integers(1, 300))
def test_a_score_does_not_depend_on_its_neighbours(scorer: Scorer, order: list[int], budget: int) -> None:
    expected = scorer.predict(PAIRS, activation="identity")
    scorer.engine.token_budget, kept = budget, scorer.engine.token_budget
    try:
        shuffled = scorer.predict([PAIRS[row] for row in order], activation="identity")
    finally:
        scorer.engine.token_budget = kept
    np.testing.assert_allclose(shuffled, expected[order], rtol=0, atol=1e-6)


def test_a_second_run_is_bit_identical(scorer: Scorer) -> None:
    assert np.array_equal(scorer.predict(PAIRS), scorer.predict(PAIRS))


def test_max_length(exported) -> None:
    ours = Scorer.from_pretrained(exported("bert").bundle, max_length=16)
    theirs = CrossEncoder(str(exported("bert").checkpoint), device="cpu", max_length=16)
    assert ours.max_length == 16
    np.testing.assert_allclose(ours.predict(PAIRS), theirs.predict(PAIRS), atol=1e-5)
    with pytest.raises(PairscoreError, match="max length 65 is more than this bundle's 64"):
        Scorer.from_pretrained(exported("bert").bundle, max_length=65)


def table(rows: list[tuple[str | None, str | None]]) -> pa.Table:
    return pa.table(
        {
            "id": list(range(len(rows))),
            "claim": pa.array([claim for claim, _ in rows], pa.string()),
            "evidence": pa.array([evidence for _, evidence in rows], pa.string()),
        },
        metadata={"origin": "test"},
    )


def test_score_table_keeps_rows_columns_and_metadata(scorer: Scorer) -> None:
    scored = scorer.score_table(table(PAIRS))
    assert scored.drop_columns(["score"]).equals(table(PAIRS))
    assert scored.schema.metadata == {b"origin": b"test"}
    assert scored.schema.field("score").type == pa.float32()
    assert np.array_equal(scored["score"].to_numpy(), scorer.predict(PAIRS))


def test_one_column_a_label(exported) -> None:
    several = Scorer.from_pretrained(exported("roberta", labels=3).bundle)
    scored = several.score_table(table(PAIRS), score_column="p")
    columns = np.stack([scored[f"p_{label}"].to_numpy() for label in several.labels], axis=1)
    assert np.array_equal(columns, several.predict(PAIRS))


def test_nulls(scorer: Scorer) -> None:
    rows = [PAIRS[0], (None, "a"), PAIRS[1], ("a", None), (None, None)]
    with pytest.raises(PairscoreError, match="row 1 has a null in column 'claim'"):
        scorer.score_table(table(rows))
    with pytest.raises(PairscoreError, match="row 1 has a null in column 'evidence'"):
        scorer.score_table(table([PAIRS[0], ("a", None)]))
    scored = scorer.score_table(table(rows), on_null="null")["score"].to_pylist()
    assert [score is None for score in scored] == [False, True, False, True, True]
    assert scored[0] == scorer.predict(PAIRS[0])
    all_null = scorer.score_table(table([(None, None)] * 3), on_null="null")
    assert all_null["score"].null_count == 3


def test_text_that_is_not_utf8(scorer: Scorer) -> None:
    scorer = replace(scorer, window_pairs=2)
    given = table([PAIRS[0], PAIRS[1], PAIRS[2], (None, "a")])
    broken = claimed_text([*(each.encode() for each in given["evidence"].to_pylist()[:2]), b"na\xefve", b"a"])
    given = given.set_column(given.schema.get_field_index("evidence"), "evidence", broken)
    with pytest.raises(PairscoreError, match="row 2 has bytes in column 'evidence' that are not UTF-8"):
        scorer.score_table(given, on_null="null")
    with pytest.raises(PairscoreError, match="row 3 has a null in column 'claim'"):
        scorer.score_table(given, on_invalid_utf8="null")
    scored = scorer.score_table(given, on_null="null", on_invalid_utf8="null")
    assert scored["score"].to_pylist() == [*scorer.predict(PAIRS[:2]).tolist(), None, None]
    assert scored["evidence"].cast(pa.binary())[2].as_py() == b"na\xefve"  # what came in goes out


def test_null_rows_are_counted_from_the_start_of_the_stream(scorer: Scorer) -> None:
    scorer = replace(scorer, window_pairs=4)
    rows: list[tuple[str | None, str | None]] = [("a", "b")] * 9
    rows[7] = ("a", None)
    with pytest.raises(PairscoreError, match="row 7 has a null"):
        scorer.score_table(table(rows))


def test_no_rows(scorer: Scorer) -> None:
    assert scorer.score_table(table([])).schema.names == ["id", "claim", "evidence", "score"]


def test_score_batches_is_lazy(scorer: Scorer) -> None:
    """Reads at most the windows in flight ahead of what was taken."""
    scorer = replace(scorer, window_pairs=4)
    drawn = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal drawn
        for _ in range(50):
            drawn += 1
            yield from table([("a", "b")] * 4).to_batches()

    reader = scorer.score_batches(pa.RecordBatchReader.from_batches(table(PAIRS).schema, batches()))
    assert drawn == 0
    reader.read_next_batch()
    assert drawn <= 4
    assert sum(batch.num_rows for batch in reader) == 49 * 4


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"claim_column": "nope"}, "no column 'nope': the input has 'id', 'claim', 'evidence'; use claim_column"),
        ({"evidence_column": "id"}, "column 'id' is of type int64, not text"),
        ({"score_column": "id"}, "already has a column 'id': use score_column"),
    ],
)
def test_columns_that_do_not_fit(scorer: Scorer, columns: dict[str, str], message: str) -> None:
    with pytest.raises(PairscoreError, match=message):
        scorer.score_table(table(PAIRS), **columns)


def test_stream_stops_its_threads_when_closed_early(scorer: Scorer) -> None:
    before = set(threading.enumerate())
    texts = pa.array(["some words"] * 100)
    windows = (Window(texts, texts, number) for number in range(100))
    stream = scorer.stream(windows)
    assert next(stream).payload == 0
    assert set(threading.enumerate()) - before
    stream.close()
    assert not set(threading.enumerate()) - before
    assert next(windows).payload < 5


def test_stream_reports_progress_and_statistics(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pa.array([evidence for _, evidence in PAIRS] * 3)
    windows = [Window(texts, texts, "a"), Window(texts, texts, "b")]
    expected: list[tuple[str, int]] = []
    seen: list[tuple[int, int]] = []
    computed: list[int] = []
    run = scorer.engine.run

    def counted(batch: Batch) -> FloatArray:
        computed.append(batch.input_ids.size)
        return run(batch)

    monkeypatch.setattr(scorer.engine, "run", counted)
    stream = scorer.stream(
        windows,
        on_tokenized=lambda *window: expected.append(window),
        on_progress=lambda *batch: seen.append(batch),
    )
    results = list(stream)
    assert [result.payload for result in results] == ["a", "b"]
    assert expected == [(result.payload, result.statistics.tokens) for result in results]
    pairs, tokens = zip(*seen, strict=True)
    assert sum(pairs) == 2 * len(texts)
    assert sorted(tokens) == sorted(computed)
    for result in results:
        assert result.statistics.pairs == len(texts)
        assert result.statistics.unique_pairs == len(set(texts.to_pylist()))
        assert result.statistics.texts == 2 * len(set(texts.to_pylist()))
        assert result.statistics.engine_seconds > 0
    assert sum(computed) == sum(result.statistics.tokens for result in results) > 0  # nothing is padded


def test_an_engine_that_fails_ends_the_stream(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(batch: object) -> None:
        raise RuntimeError("out of order")

    before = set(threading.enumerate())
    monkeypatch.setattr(scorer.engine, "run", broken)
    with pytest.raises(PairscoreError, match=r"onnxruntime cannot compute .* pairs of .* tokens \(out of order\)"):
        scorer.predict(PAIRS)
    assert not set(threading.enumerate()) - before


def test_a_logit_that_is_not_finite_is_an_error(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer.engine, "run", lambda batch: np.full((len(batch.rows), 1), np.nan, np.float32))
    with pytest.raises(PairscoreError, match="not finite"):
        scorer.predict(PAIRS)


def test_scoring_imports_neither_torch_nor_transformers(exported) -> None:
    program = (
        "import sys; from pairscore import Scorer; "
        f"print(Scorer.from_pretrained({str(exported('bert').bundle)!r}).predict([('a', 'b')])); "
        "found = {'torch', 'transformers', 'sentence_transformers', 'optimum', 'onnx'} & set(sys.modules); "
        "sys.exit(f'imported {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
