"""The benchmarks of single ideas and of size, on a tiny model: they run, and what they tell adds up."""

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.bundle.manifest import Bundle
from studies import ablations, chapters, exporters, harness, scaling
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


def test_exporters_are_compared_on_one_checkpoint(exported, tmp_path, monkeypatch):
    bundle, other = exported("bert").bundle, exported("roberta").bundle
    write_pairs(tmp_path / "pairs.parquet", 20)
    common = ["--pairs", tmp_path / "pairs.parquet", "--rounds", 1, "--limit", 10, "--output", tmp_path / "out.json"]
    run(exporters, monkeypatch, bundle, bundle, *common)
    result = json.loads((tmp_path / "out.json").read_text())
    assert [[each["engine"] for each in found["systems"]] for found in result["bundles"]] == [
        ["onnxruntime", "openvino"]
    ] * 2
    first, again = (found["systems"][0] for found in result["bundles"])
    assert (first["ratio"], first["max_logit_difference"]) == (1.0, 0.0)
    assert (again["ratio"] > 0, again["max_logit_difference"]) == (True, 0.0)
    assert len(chapters.exporters_table(result).rows) == 4
    with pytest.raises(ValueError, match="of different checkpoints"):
        run(exporters, monkeypatch, bundle, other, *common)


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


def test_scaling_measures_every_chapter_and_keeps_those_of_before(checkpoint, tmp_path, monkeypatch):
    """The last length is the most that the model takes, so every pair has it."""
    write_pairs(tmp_path / "pairs.parquet", 60)
    common = ["--checkpoint", checkpoint("bert"), "--pairs", tmp_path / "pairs.parquet"]
    common += ["--output", tmp_path / "out.json"]
    points = ["--lengths", 24, 40, 64, "--by-length", 30, "--row-group", 300, "--rates", 40]
    run(scaling, monkeypatch, *common, *points, "--chapters", "length", "row-group", "rate")
    first = json.loads((tmp_path / "out.json").read_text())["chapters"]
    assert list(first) == ["rate", "length", "row-group"]
    for point, length in zip(first["length"]["points"], [24, 40, 64], strict=True):
        assert point["pairs"] == 30
        assert point["mean_tokens"] == pytest.approx(length, abs=1.5)
        assert point["peak_memory_bytes"] > 0
        assert point["tokens_per_second"] > 0
    assert first["length"]["points"][-1]["mean_tokens"] == 64
    assert first["row-group"]["points"][0]["pairs"] == 300
    assert (first["rate"]["layers"], first["row-group"]["layers"]) == (None, 1)
    run(scaling, monkeypatch, *common, "--chapters", "memory", "--counts", 30, 50)
    result = json.loads((tmp_path / "out.json").read_text())
    assert list(result["chapters"]) == list(scaling.CHAPTERS)
    assert {name: result["chapters"][name] for name in first} == first
    table = chapters.scaling_table(result)
    assert [row.cells[0] for row in table.rows] == ["40", "30", "50", "30", "30", "30", "300"]
    assert table.rows[0].cells[2] == "all"
    assert "300 pairs in one row group, 1 of the model's layers" in chapters.row_group_line(result)
    assert chapters.million_line(result).startswith("50 pairs of ")


def test_scaling_pictures_show_the_points_of_each_series():
    def chapter(*points):
        keys = ("pairs", "mean_tokens", "pairs_per_second", "tokens_per_second", "peak_memory_bytes", "input_bytes")
        return {"points": [dict(zip(keys, (*point, 1, 2, 3, 4), strict=True)) for point in points]}

    memory, length = chapter((500, 32), (1000, 32), (10_000, 33)), chapter((500, 32), (500, 64))
    result = {"chapters": {"memory": memory, "length": length}}
    assert chapters.rate_picture(result) is None
    assert _points(chapters.rate_picture({"chapters": {"rate": memory}})) == [3]
    assert _points(chapters.memory_picture(result)) == [3, 3]
    assert _points(chapters.length_picture(result)) == [2]


def _points(picture):
    """How many each series has."""
    series = re.split(r'id="[\w-]+-series-\d+"', picture)[1:]
    return [each.split("</g>")[0].count("<use ") for each in series]


def test_crossed_pairs_are_all_different(tmp_path):
    write_pairs(tmp_path / "pairs.parquet", 60)
    harness.write_crossed(tmp_path / "pairs.parquet", tmp_path / "data", 500, 3, 100)
    tables = [pq.read_table(path) for path in sorted((tmp_path / "data").iterdir())]
    assert [table.num_rows for table in tables] == [166, 167, 167]
    rows = [tuple(row.values()) for table in tables for row in table.to_pylist()]
    assert [row[0] for row in rows] == list(range(500))
    assert len({row[1:] for row in rows}) == 500
    with pytest.raises(ValueError, match="fewer than 10000000 pairs"):
        harness.write_crossed(tmp_path / "pairs.parquet", tmp_path / "more", 10_000_000, 1, 100)


def test_a_job_that_fails_or_loses_rows_is_seen(exported, tmp_path, monkeypatch):
    write_pairs(tmp_path / "pairs.parquet", 20)
    bundle = exported("bert").bundle
    assert harness.score(bundle, tmp_path / "pairs.parquet", tmp_path / "out")["rows"] == 20
    with pytest.raises(RuntimeError, match=r"ended with 2: .*missing"):
        harness.score(bundle, tmp_path / "pairs.parquet", tmp_path / "none", "--claim-column", "missing")
    honest = json.loads
    monkeypatch.setattr(harness.json, "loads", lambda text: {**honest(text), "rows": 21})
    with pytest.raises(RuntimeError, match="wrote 20 rows instead of 21"):
        harness.score(bundle, tmp_path / "pairs.parquet", tmp_path / "again")
