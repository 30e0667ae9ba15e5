"""The benchmarks of single ideas and of size, on a tiny model: they run, and what they tell adds up."""

import json
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from pairscore.benchmarks.studies import ablations, scaling
from pairscore.benchmarks.tables import scaling as scaling_tables
from pairscore.runtime.bundle.manifest import Bundle
from tests import corpus
from tests.pairs_files import write_pairs

ENVIRONMENT = {"cores": 1, "processor": "p", "commit": "c", "time": "t"}
TEXTS = [(f"claim {place} {corpus.SENTENCES[place]}", " ".join(corpus.SENTENCES)) for place in range(8)]


def run(module, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
    module.main()


def test_ablations_compare_every_setting(checkpoint, tmp_path, monkeypatch):
    write_pairs(tmp_path / "pairs.parquet", 60)
    common = ["--checkpoint", checkpoint("bert"), "--pairs", tmp_path / "pairs.parquet"]
    limits = ["--limit", 30, "--rounds", 1, "--repeated", 0.5]
    run(ablations, monkeypatch, *common, *limits, "--output", tmp_path / "out.json")
    result = json.loads((tmp_path / "out.json").read_text())
    names = [each["name"] for each in result["settings"]]
    assert names[0] == "everything on"
    assert len(names) == len(set(names)) >= 11
    assert result["settings"][0]["ratio"] == 1.0
    assert all(each["pairs_per_second"] > 0 for each in result["settings"])
    assert not any("openvino" in name for name in names)


def test_ablations_of_a_bundle_compare_its_other_engines(exported, tmp_path, monkeypatch):
    checkpoint, bundle = exported("bert")
    write_pairs(tmp_path / "pairs.parquet", 20)
    common = ["--checkpoint", checkpoint, "--pairs", tmp_path / "pairs.parquet", "--rounds", 1, "--limit", 10]
    run(ablations, monkeypatch, *common, "--bundle", bundle, "--output", tmp_path / "out.json")
    names = [each["name"] for each in json.loads((tmp_path / "out.json").read_text())["settings"]]
    assert names[-1] == "fp32 on openvino"
    other = exported("roberta").bundle
    with pytest.raises(ValueError, match="was not exported from"):
        run(ablations, monkeypatch, *common, "--bundle", other, "--output", tmp_path / "none.json")


def test_a_precision_that_breaks_its_promise_is_refused(exported):
    """All logits are moved by 5: the ranking stays, the scores do not."""
    manifest = Bundle.open(exported("bert").bundle).manifest
    int8 = replace(manifest.variants["fp32"], precision="int8")
    manifest = replace(manifest, variants={**manifest.variants, "int8": int8})
    setting = replace(ablations.EVERYTHING, name="int8 on openvino", precision="int8", engine="openvino")
    pairs = [("claim", f"evidence {place}") for place in range(5)]
    logits = np.linspace(-1, 1, 5, dtype=np.float32)
    ablations.check(setting, manifest, pairs, logits, logits)
    with pytest.raises(ValueError, match="'int8 on openvino' breaks its promise"):
        ablations.check(setting, manifest, pairs, logits + 5, logits)


def test_ablations_refuse_settings_that_score_differently(checkpoint, tmp_path, monkeypatch):
    """The graph without the rewrite is given another classifier bias."""
    import onnx
    from onnx import numpy_helper

    write_pairs(tmp_path / "pairs.parquet", 20)
    honest = ablations.export_graph

    def shifted(*arguments):
        written = honest(*arguments)
        (graph, *_), _ = written
        model = onnx.load(str(graph))
        bias = next(weight for weight in model.graph.initializer if weight.name.endswith("classifier.bias"))
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.5), bias.name))
        onnx.save(model, str(graph))
        return written

    monkeypatch.setattr(ablations, "export_graph", shifted)
    common = ["--checkpoint", checkpoint("bert"), "--pairs", tmp_path / "pairs.parquet", "--rounds", 1]
    with pytest.raises(ValueError, match="unmodified graph"):
        run(ablations, monkeypatch, *common, "--output", tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_scaling_makes_different_pairs_of_the_wanted_length(checkpoint, tmp_path, monkeypatch):
    """The last length is the most that the model takes, so every pair has it."""
    write_pairs(tmp_path / "pairs.parquet", 60)
    common = ["--checkpoint", checkpoint("bert"), "--pairs", tmp_path / "pairs.parquet"]
    points = ["--counts", 50, "--lengths", 24, 40, 64, "--by-length", 30]
    run(scaling, monkeypatch, *common, *points, "--output", tmp_path / "out.json")
    result = json.loads((tmp_path / "out.json").read_text())
    assert [point["pairs"] for point in result["points"]] == [50, 30, 30, 30]
    for point, length in zip(result["points"], [24, 24, 40, 64], strict=True):
        assert point["mean_tokens"] == pytest.approx(length, abs=1.5)
        assert point["peak_memory_bytes"] > 0
        assert point["tokens_per_second"] > 0
    assert result["points"][-1]["mean_tokens"] == 64
    assert "| 30 | 64 |" in scaling_tables.scaling_table({**result, "environment": ENVIRONMENT})


def test_made_pairs_are_different(exported, tmp_path):
    bundle = exported("bert").bundle
    scaling.write_made(TEXTS, bundle, 90, 24, tmp_path / "made")
    table = pq.read_table(tmp_path / "made")
    pairs = set(zip(table["claim"].to_pylist(), table["evidence"].to_pylist(), strict=True))
    assert len(pairs) == 90
    with pytest.raises(ValueError, match="fewer than 100,000"):
        scaling.write_made(TEXTS, bundle, 100_000, 24, tmp_path / "more")


def test_scaling_pictures_show_the_points_of_each_series():
    points = [
        {"pairs": pairs, "mean_tokens": tokens, "pairs_per_second": 1, "tokens_per_second": 2, "peak_memory_bytes": 3}
        for pairs, tokens in [(1000, 32), (10_000, 33), (500, 32.5), (500, 64), (500, 511)]
    ]
    assert [point["pairs"] for point in scaling_tables.by_pairs(points)] == [500, 1000, 10_000]
    assert [point["mean_tokens"] for point in scaling_tables.by_length(points)] == [32.5, 64, 511]
    for draw in (scaling_tables.rate_picture, scaling_tables.memory_picture, scaling_tables.length_picture):
        assert draw({"points": points}).count('<circle cx="') == 3 + 1  # the points and the legend
    with_input = [{**point, "input_bytes": 1} for point in points]
    assert scaling_tables.memory_picture({"points": with_input}).count('<circle cx="') == 2 * (3 + 1)
