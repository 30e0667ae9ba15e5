"""`--refine`: the exact variant's best rows, byte for byte, though most rows are computed by the other one alone."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from pairscore import PairscoreError, Scorer
from pairscore.runtime.bundle.activation import Activation
from pairscore.runtime.bundle.manifest import sha256
from pairscore.runtime.job.refine import Refiner
from pairscore.runtime.job.run import run_job
from pairscore.runtime.stream.exact_best import exact_best
from pairscore.runtime.stream.score_columns import ScoreColumns
from tests.pairs_files import AtPart, job, pairs_table, read_output, same, write_pairs

GRAPH = "onnx/model_int8.onnx"


@pytest.fixture(scope="module")
def two(small_bundle, tmp_path_factory):
    """`two(share)`: fp32, and an "int8" that is a little off. Its report has `share` of the largest difference."""

    def build(share=1.0):
        folder = shutil.copytree(small_bundle(), tmp_path_factory.mktemp("two") / "bundle")
        model = onnx.load(folder / "onnx" / "model.onnx")
        for each in model.graph.initializer:
            if each.name == "embeddings":
                exact = numpy_helper.to_array(each)
                noise = np.random.default_rng(7).uniform(-0.02, 0.02, exact.shape)
                each.CopyFrom(
                    numpy_helper.from_array((exact + np.round(noise * 2**16) / 2**16).astype("f4"), each.name)
                )
        onnx.save(model, folder / GRAPH)
        manifest = json.loads((folder / "pairscore.json").read_text())
        manifest["files"][GRAPH] = sha256(folder / GRAPH)
        variant = manifest["variants"]["fp32"]
        loose = {"max_logit_difference": 9.0}
        manifest["variants"]["int8"] = {**variant, "precision": "int8", "files": [GRAPH], "promise": loose}
        (folder / "pairscore.json").write_text(json.dumps(manifest))
        pairs = [(row["claim"], row["evidence"]) for seed in (0, 1) for row in pairs_table(150, seed).to_pylist()]
        logits = [
            Scorer.from_pretrained(folder, precision=each).predict(pairs, activation="identity")
            for each in ("fp32", "int8")
        ]
        manifest["variants"]["int8"]["parity"] = {
            **variant["parity"],
            "max_logit_difference": share * float(np.abs(logits[0] - logits[1]).max()),
        }
        (folder / "pairscore.json").write_text(json.dumps(manifest))
        return folder

    return build


@pytest.fixture(scope="module")
def bundle(two):
    return two()


@pytest.fixture
def data(tmp_path):
    for place in range(2):
        write_pairs(tmp_path / "data" / f"{place}.parquet", 150, seed=place, null_every=40)
    return tmp_path / "data"


def both(bundle, data, tmp_path, name="out.parquet", **more):
    """The options of a run that refines, and the output of fp32 alone."""
    options = {"on_null": "null", "top_k": 2, "part_rows": 150, **more}
    run_job(job(bundle, data, tmp_path / "fp32.parquet", **options))
    return (
        job(bundle, data, tmp_path / name, precision="int8", refine="fp32", **options),
        read_output(tmp_path / "fp32.parquet"),
    )


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"top_k": 1},
        {"top_k": 500},
        {"part_rows": 20},
        {"by": "relevant"},
        {"filter": "relevant"},
        {"activation": "identity"},
        {"long_evidence": "split", "max_length": 32, "overlap": 2, "passage_columns": True},
        {"long_evidence": "split", "max_length": 32, "overlap": 2, "combine": "mean"},
    ],
)
def test_the_best_rows_are_those_of_fp32(bundle, data, tmp_path, more):
    options, expected = both(bundle, data, tmp_path, **more)
    summary = run_job(options)
    assert same(read_output(tmp_path / "out.parquet"), expected)
    assert summary.refined.rows <= 294
    if not more:
        assert summary.refined.rows < 200
        assert "Computed" in "\n".join(summary.lines())
    assert run_job(options).nothing_to_do


def test_int8_alone_would_not_do(bundle, data, tmp_path):
    """Or the tests above would say nothing."""
    options, expected = both(bundle, data, tmp_path)
    run_job(replace(options, refine=None))
    assert not same(read_output(tmp_path / "out.parquet"), expected)


def test_a_margin_that_proves_too_small_is_widened(two, data, tmp_path):
    options, expected = both(two(share=0.01), data, tmp_path)
    refined = run_job(options).refined
    assert same(read_output(tmp_path / "out.parquet"), expected)
    assert refined.margin == pytest.approx(2 * refined.largest_difference)
    assert refined.margin > 0.02 * refined.largest_difference


def test_shards_and_stops_change_nothing(bundle, data, tmp_path):
    options, expected = both(bundle, data, tmp_path, name="out", part_rows=30)
    with pytest.raises(KeyError):
        run_job(replace(options, shard=(1, 2)), log=AtPart(2, {}.popitem))
    for shard in ((2, 2), (1, 2)):
        summary = run_job(replace(options, shard=shard))
    assert (summary.earlier_parts, summary.whole) == (2, True)
    assert same(read_output(tmp_path / "out"), expected)
    with pytest.raises(PairscoreError, match="--refine was"):
        run_job(replace(options, refine=None))


def test_old_scores_of_either_precision_are_taken(bundle, data, tmp_path):
    options, expected = both(bundle, data, tmp_path)
    for precision in ("fp32", "int8"):
        old = tmp_path / f"old-{precision}"
        run_job(job(bundle, data / "0.parquet", old, precision=precision, on_null="null"))
        summary = run_job(replace(options, reuse=(str(old),), output=str(tmp_path / f"new-{precision}.parquet")))
        assert summary.reused > 100
        assert same(read_output(tmp_path / f"new-{precision}.parquet"), expected)
    refined = tmp_path / "refined.parquet"
    run_job(replace(options, output=str(refined)))
    run_job(job(bundle, data, tmp_path / "again.parquet", on_null="null", top_k=2, reuse=(str(refined),)))
    assert same(read_output(tmp_path / "again.parquet"), expected)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"top_k": None}, "--refine fp32 is of the best rows: say how many with --top-k"),
        ({"precision": "fp32"}, "--refine fp32 needs another precision to begin with"),
        ({"precision": "auto"}, "--refine fp32 needs another precision to begin with"),
        ({"refine": "bf16"}, "has no bf16 variant"),
    ],
)
def test_what_makes_no_sense_is_refused(bundle, data, tmp_path, more, message):
    options = {"precision": "int8", "refine": "fp32", "top_k": 2, **more}
    with pytest.raises(PairscoreError, match=message):
        run_job(job(bundle, data, tmp_path / "out", on_null="null", **options))
    assert not (tmp_path / "out").exists()


@given(
    st.sampled_from(["identity", "sigmoid", "tanh"]),
    st.lists(st.floats(-40, 40, width=32), min_size=2, max_size=9),
    st.floats(0, 3, width=32),
)
def test_no_row_within_the_distance_is_passed_over(name, logits, distance):
    """Also where scores round to 0 or 1, so that many logits have one score."""

    class Stub:
        chosen_activation = Activation(name)

    refiner = Refiner(Stub(), ScoreColumns(("a",)), 1.0, 0, 1)
    values = np.array(logits, np.float32)
    scores = Activation(name)(values[:, None])[:, 0]
    lowest = refiner._lowest(scores.astype(np.float64), float(distance))
    for place, limit in enumerate(lowest):
        assert (scores[values >= values[place] - np.float32(distance)] >= limit).all()


def test_every_row_has_a_type_and_no_first_score_is_left(bundle, data, tmp_path):
    options, _ = both(bundle, data, tmp_path)
    run_job(options)
    written = read_output(tmp_path / "out.parquet")
    scorer = Scorer.from_pretrained(bundle)
    pairs = list(zip(written["claim"].to_pylist(), written["evidence"].to_pylist(), strict=True))
    assert written["score"].to_pylist() == scorer.predict(pairs).tolist()
    assert written.schema.field("score").type == pa.float32()


@pytest.mark.parametrize("top_k", [1, 3, 30, 999])
def test_rank_refines_too(bundle, top_k):
    documents = pairs_table(200, 3)["evidence"].to_pylist()
    query = pairs_table(1, 4)["claim"][0].as_py()
    exact = Scorer.from_pretrained(bundle)
    first = Scorer.from_pretrained(bundle, precision="int8")
    expected = exact.rank(query, documents, top_k=top_k, return_documents=True)
    assert first.rank(query, documents, top_k=top_k, return_documents=True, refine="fp32") == expected
    assert first.rank(query, documents, top_k=top_k) != expected
    with pytest.raises(PairscoreError, match="refine 'fp32' is of the best documents: say how many with top_k"):
        first.rank(query, documents, refine="fp32")


@given(
    st.lists(st.tuples(st.integers(-160, 160), st.integers(-9, 9)), min_size=1, max_size=30),
    st.integers(1, 9),
    st.floats(0, 2),
    st.sampled_from(["identity", "sigmoid", "tanh"]),
)
def test_the_best_few_are_exact_whatever_the_differences(rows, top_k, difference, name):
    """Also where many scores round to one number."""
    exact = np.array([value / 4 for value, _ in rows], np.float32)
    first = exact + np.array([off / 10 for _, off in rows], np.float32)
    difference = max(difference, float(np.abs(first - exact).max()))
    computed = []

    def compute(wanted):
        computed.extend(wanted.tolist())
        return exact[wanted]

    activation = Activation(name)
    best = exact_best(first, top_k, difference, compute, activation)
    scores = activation(exact[:, None])[:, 0]
    assert best.tolist() == sorted(np.argsort(-scores, kind="stable")[:top_k].tolist())
    assert len(set(computed)) == len(computed)
