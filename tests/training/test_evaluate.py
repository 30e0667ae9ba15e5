"""Ranking figures: those of a slow reference, the same for a checkpoint and for its export, with clear refusals."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from pairscore import PairscoreError
from pairscore.cli import main
from pairscore.training.annotations import read_annotations
from pairscore.training.bm25 import Bm25
from pairscore.training.evaluate import CANDIDATES, Start, evaluate, reranking_evaluator
from tests.climate import build_bi_encoder, rows, write


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Six claims to evaluate, and a file with the sentences of twenty others: 78 candidates in all."""
    folder = tmp_path_factory.mktemp("tables")
    table = rows(claims=26)
    return write(folder / "dev.parquet", table[:18]), write(folder / "more.parquet", table[18:])


def average_precision(relevant: list[bool]) -> float:
    """Of a ranking without ties: precision at each relevant place, averaged."""
    places = [place for place, hit in enumerate(relevant, 1) if hit]
    return sum(found / place for found, place in enumerate(places, 1)) / len(places)


def reciprocal_rank(relevant: list[bool]) -> float:
    return next((1 / place for place, hit in enumerate(relevant[:5], 1) if hit), 0.0)


def discounted_gain(relevant: list[bool]) -> float:
    gain = sum(1 / np.log2(place + 1) for place, hit in enumerate(relevant[:5], 1) if hit)
    return gain / sum(1 / np.log2(place + 1) for place in range(1, min(5, sum(relevant)) + 1))


def slow_figures(model: CrossEncoder, files, pool_files) -> list[float]:
    """MAP, MRR@5 and NDCG@5, claim by claim."""
    annotations = read_annotations(files)
    pool = list(dict.fromkeys([*annotations.evidence, *read_annotations(pool_files).evidence]))
    ranking = Bm25(pool)
    figures = []
    for claim in annotations.claims:
        best = [pool[place] for place in ranking.top(claim.text, CANDIDATES)]
        documents = [*claim.relevant, *(sentence for sentence in best if sentence not in claim.relevant)]
        scores = model.predict([(claim.text, document) for document in documents])
        found, missed = np.split(scores, [len(claim.relevant)])
        assert not set(found.tolist()) & set(missed.tolist())  # the figures below know no ties
        relevant = [documents[place] in claim.relevant for place in np.argsort(-scores)]
        figures.append((average_precision(relevant), reciprocal_rank(relevant), discounted_gain(relevant)))
    return np.mean(figures, axis=0).tolist()


def test_figures_are_the_reference_s(checkpoint, tables):
    dev, more = tables
    evaluation = evaluate(str(checkpoint("bert")), [dev], pool=[more], name="tiny")
    bm25, tiny = evaluation.systems
    model = CrossEncoder(str(checkpoint("bert")), model_kwargs={"torch_dtype": torch.float32})
    assert [tiny.map, tiny.mrr_at_5, tiny.ndcg_at_5] == pytest.approx(slow_figures(model, [dev], [more]), abs=1e-9)
    assert (bm25.system, tiny.system) == ("BM25", "tiny")
    assert bm25.map > 0.5  # the relevant sentences share their claim's words
    assert (evaluation.claims, evaluation.relevant_pairs, evaluation.pool_sentences) == (6, 12, 78)
    assert [each["file"] for each in evaluation.files + evaluation.pool_files] == ["dev.parquet", "more.parquet"]


def test_candidates_are_the_best_of_the_pool_and_the_relevant_ones(tables):
    """A claim whose relevant evidence shares no word with it, so that BM25 ranks it last."""
    dev, more = tables
    annotations = read_annotations([dev, more])
    evaluator = reranking_evaluator(annotations, annotations.evidence)
    for claim, sample in zip(annotations.claims, evaluator.samples, strict=True):
        assert sample["positive"] == list(claim.relevant)
        best = Bm25(annotations.evidence).top(claim.text, CANDIDATES)
        assert sample["documents"] == [annotations.evidence[place] for place in best]
        assert len(sample["documents"]) == CANDIDATES


def test_relevant_evidence_that_bm25_misses_is_ranked_too(checkpoint, tmp_path):
    table = [{"claim": "alpha beta", "evidence": f"alpha beta {number}", "relevant": False} for number in range(60)]
    table.append({"claim": "alpha beta", "evidence": "zulu", "relevant": True})
    evaluation = evaluate(str(checkpoint("bert")), [write(tmp_path / "pairs.parquet", table)])
    assert evaluation.scored_pairs == CANDIDATES + 1
    assert evaluation.systems[0].map == 0  # the evaluator gives nothing where BM25 found nothing
    assert evaluation.systems[1].map > 0


def test_a_bundle_has_its_checkpoint_s_figures(exported, tables):
    checkpoint, bundle = exported("bert")
    dev, more = tables
    of_torch = evaluate(str(checkpoint), [dev], pool=[more]).systems[-1]
    of_onnx = evaluate(str(bundle), [dev], pool=[more], precision="fp32").systems[-1]
    for name in ("map", "mrr_at_5", "ndcg_at_5"):
        assert getattr(of_onnx, name) == pytest.approx(getattr(of_torch, name), abs=5e-5)


def test_the_untrained_start_stands_beside_the_model(checkpoint, tables, tmp_path):
    """A sentence embedding model as the start: its cosines, and its body under a head that the seed draws."""
    start = build_bi_encoder(checkpoint("bert"), tmp_path / "start")
    dev, more = tables

    def systems(seed: int) -> dict[str, tuple[float, ...]]:
        evaluation = evaluate(str(checkpoint("bert")), [dev], pool=[more], start=Start(str(start), seed))
        return {each.system: (each.map, each.mrr_at_5, each.ndcg_at_5) for each in evaluation.systems}

    first, again, other = systems(0), systems(0), systems(5)
    untrained = "start, with an untrained head"
    assert list(first) == ["BM25", "start, by cosine similarity", untrained, str(checkpoint("bert"))]
    assert first == again
    assert first[untrained] != other[untrained]


@pytest.mark.parametrize(("labels", "remedy"), [(3, "has 3 labels")])
def test_several_labels_cannot_rank(exported, tables, labels, remedy):
    for model in exported("bert", labels):
        with pytest.raises(PairscoreError, match=remedy):
            evaluate(str(model), [tables[0]])


# The command -------------------------------------------------------------------------------------------


def run_command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    assert isinstance(leaving.value.code, int)
    return leaving.value.code


def test_the_command_prints_json_or_a_table(checkpoint, tables, capfd):
    dev, more = tables
    model = checkpoint("bert")
    assert run_command("evaluate", model, "--pairs", dev, "--pool", more, "--no-start", "--json") == 0
    out, errors = capfd.readouterr()
    report = json.loads(out)
    assert report["pool_sentences"] == 78
    assert {"map", "mrr_at_5", "ndcg_at_5", "system"} == set(report["systems"][-1])
    assert run_command("evaluate", model, "--pairs", dev, "--pool", more) == 0
    out, errors = capfd.readouterr()
    assert f"{report['systems'][-1]['map']:.4f}" in out
    assert "--start NAME compares it" in errors


def test_a_checkpoint_s_own_account_names_its_start(checkpoint, tables, tmp_path, capfd):
    import shutil

    model = tmp_path / "model"
    shutil.copytree(checkpoint("bert"), model)
    account = {"start": str(checkpoint("bert", layers=1)), "seed": 3}
    (model / "training.json").write_text(json.dumps(account))
    assert run_command("evaluate", model, "--pairs", tables[0], "--json") == 0
    assert [each["system"] for each in json.loads(capfd.readouterr().out)["systems"]] == ["BM25", "start", str(model)]
    (model / "training.json").write_text(json.dumps({"start": "someone/of-no-such-name", "seed": 3}))
    assert run_command("evaluate", model, "--pairs", tables[0], "--json") == 0
    out, errors = capfd.readouterr()
    assert [each["system"] for each in json.loads(out)["systems"]] == ["BM25", str(model)]
    assert "the untrained start is left out" in errors


def test_bad_input_is_one_line(checkpoint, exported, tables, tmp_path, capfd):
    dev, _ = tables
    model = checkpoint("bert")
    lonely = write(tmp_path / "lonely.parquet", [{"claim": "a", "evidence": "x", "relevant": False}])
    cases = {
        "no relevant evidence": [model, "--pairs", lonely],
        "no file at": [model, "--pairs", tmp_path / "gone.parquet"],
        "no file at ": [model, "--pairs", dev, "--pool", tmp_path / "gone.parquet"],
        "only a bundle has precisions": [model, "--pairs", dev, "--precision", "int8"],
        "int4": [exported("bert").bundle, "--pairs", dev, "--precision", "int4"],
        "give its folder as MODEL": ["someone/of-no-such-name", "--pairs", dev],
        "give one of them": [model, "--pairs", dev, "--no-start", "--start", model],
    }
    for message, options in cases.items():
        assert run_command("evaluate", *options) == 2, message
        out, errors = capfd.readouterr()
        assert message in errors
        assert not out
        assert [line.startswith("pairscore: error: ") for line in errors.strip().splitlines()][-1]
