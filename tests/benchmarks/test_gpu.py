"""The GPU's benchmark, rehearsed on the CPU, and what it reads from logs."""

import json
import shutil
import sys

import pytest

from pairscore.benchmarks.work import activation_bytes
from pairscore.export.api import export_bundle
from studies import gpu
from tests.pairs_files import write_pairs


@pytest.mark.every_combination
def test_a_rehearsal_runs_every_section_that_needs_no_gpu(exported, tmp_path, monkeypatch):
    texts = tmp_path / "pairs.parquet"
    write_pairs(texts, 60)
    checkpoint, bundle = exported("bert")
    made = shutil.copytree(bundle, tmp_path / "bundle")
    export_bundle(str(checkpoint), made, precision="fp16", min_spearman=0.9)
    output = tmp_path / "results" / "gpu.json"
    arguments = ["--bundle", made, "--checkpoint", checkpoint, "--pairs", texts, "--output", output, "--device", "cpu"]
    numbers = ["--judged", str(texts), "--sample", "40", "--job", "45", "--repeats", "2"]
    monkeypatch.setattr(sys, "argv", ["gpu", *map(str, arguments), *numbers])
    gpu.main()
    result = json.loads(output.read_text())
    assert [name for name, found in result.items() if isinstance(found, dict) and "error" in found] == []
    assert set(gpu.SECTIONS) <= set(result)
    assert result["limits"]["matrix_flops_per_second"]["fp16"] > 0
    assert result["engine"]["pairs"] == 40
    assert len(result["engine"]["seconds"]) == 2
    assert result["engine"]["matrix_share"] > 0
    assert result["engine"]["bandwidth_share"] > 0
    assert result["job"]["pairs"] == 45
    assert result["job"]["driver_busy_share"] is None
    reference, *ours = result["systems"]["systems"]
    assert reference["name"] == "sentence-transformers, torch fp32, batch 32"
    assert {each["tier"] for each in ours} == {"fp32", "fp16"}
    for each in ours:
        assert len(each["crossed"]["seconds"]) == 2
        assert each["crossed"]["pairs"] == 40
        for name, pairs in (("judged", 60), ("long", 400)):
            parity = each[name]["parity"]
            assert parity["pairs"] == pairs
            # fp32 repeats the reference; a bundle in fp16 does not.
            assert (parity["max_logit_difference"] < 1e-4) == (each["tier"] == "fp32")


def test_samples_of_the_job_are_those_before_the_last_kernel():
    loading, job, end = [0.0, 0.1, 0.0], [0.0, 0.7, 0.0, 0.9], [0.0, 0.0]
    assert gpu.last_seconds(loading + job + end, 0.4) == job
    assert gpu.last_seconds(job, 5) == job
    assert gpu.last_seconds([0.0, 0.0], 1) == gpu.last_seconds([], 1) == []


def test_activation_bytes_by_hand():
    """Two layers, h = 2, i = 3, 10 tokens of 2 bytes: 22h + 4i = 56 numbers in the first, 6h = 12 in the last."""
    config = {"hidden_size": 2, "intermediate_size": 3, "num_hidden_layers": 2}
    assert activation_bytes(config, [4, 6], 2) == (56 + 12) * 10 * 2
    assert activation_bytes({"unknown": 1}, [4], 2) is None
