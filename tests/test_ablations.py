"""The benchmarks of single ideas and of size, on a tiny model: they run, and what they tell adds up."""

import json
import sys

import pytest

from pairscore.benchmarks import ablations, scaling
from tests.pairs_files import write_pairs


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


def test_ablations_refuse_settings_that_score_differently(checkpoint, tmp_path, monkeypatch):
    """The graph without the rewrite is given another classifier bias."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    write_pairs(tmp_path / "pairs.parquet", 20)
    honest = ablations.export_graph

    def shifted(*arguments):
        written = honest(*arguments)
        model = onnx.load(str(written[0]))
        bias = next(weight for weight in model.graph.initializer if weight.name.endswith("classifier.bias"))
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.5), bias.name))
        onnx.save(model, str(written[0]))
        return written

    monkeypatch.setattr(ablations, "export_graph", shifted)
    common = ["--checkpoint", checkpoint("bert"), "--pairs", tmp_path / "pairs.parquet", "--rounds", 1]
    with pytest.raises(ValueError, match="unmodified graph"):
        run(ablations, monkeypatch, *common, "--output", tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_scaling_makes_pairs_of_about_the_length(checkpoint, tmp_path, monkeypatch):
    write_pairs(tmp_path / "pairs.parquet", 60)
    monkeypatch.setattr(scaling, "LENGTHS", (64, 400))
    common = ["--checkpoint", checkpoint("bert"), "--pairs", tmp_path / "pairs.parquet"]
    run(scaling, monkeypatch, *common, "--counts", 50, "--by-length", 20, "--output", tmp_path / "out.json")
    points = json.loads((tmp_path / "out.json").read_text())["points"]
    assert [point["pairs"] for point in points] == [50, 20, 20]
    assert points[1]["mean_tokens"] < points[2]["mean_tokens"]
    assert all(point["peak_memory_bytes"] > 0 and point["tokens_per_second"] > 0 for point in points)
