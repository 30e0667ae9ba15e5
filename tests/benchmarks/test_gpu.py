"""The GPU's benchmark, rehearsed on the CPU; what it reads from logs, and the chapter that is made of it."""

import json
import shutil
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscore.benchmarks.studies import gpu
from pairscore.benchmarks.studies.attention_kernels import counted_kernels
from pairscore.benchmarks.studies.crossed import crossed_pairs, write_crossed
from pairscore.benchmarks.studies.gpu_torch import busy
from pairscore.benchmarks.tables.gpu import gpu_chapter
from pairscore.benchmarks.work import activation_bytes
from pairscore.export.bundle import export_bundle
from tests import corpus

CPU_RESULT = {
    "environment": {"cores": 2},
    "systems": [{"name": "pairscore fp32, x", "ours": True, "pairs_per_second": 200.0}, {"name": "y", "ours": False}],
}


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "pairs.parquet"
    rows = [(claim, text) for claim in corpus.SENTENCES[:6] for text in corpus.SENTENCES[6:16]]
    claims, evidence = map(list, zip(*rows, strict=True))
    pq.write_table(pa.table({"claim": claims, "evidence": evidence}), path)
    return path


def test_a_rehearsal_runs_every_section_that_needs_no_gpu(exported, texts, tmp_path, monkeypatch):
    checkpoint, bundle = exported("bert")
    made = shutil.copytree(bundle, tmp_path / "bundle")
    export_bundle(str(checkpoint), made, precision="fp16", min_spearman=0.9)
    output = tmp_path / "results" / "gpu.json"
    arguments = ["--bundle", made, "--checkpoint", checkpoint, "--pairs", texts, "--output", output, "--device", "cpu"]
    arguments += ["--rows", 50, "--sample", 40, "--seconds", 1, "--repeats", 2]
    monkeypatch.setattr(sys, "argv", ["gpu", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    result = json.loads(output.read_text())
    assert str(ended.value).startswith("failed: profile; see ")  # a CPU has no kernels
    assert {name for name, found in result.items() if isinstance(found, dict) and "error" in found} == {"profile"}
    assert set(gpu.SECTIONS) <= set(result)
    assert set(result["parity"]) >= {"fp32", "fp16"}
    assert result["parity"]["fp32"]["pairs"]["violations"] == []
    assert result["parity"]["fp32"]["long_pairs"]["pairs"] == 40
    assert [run["rows"] for run in result["job"]["runs"]] == [50, 50]
    assert result["engine"]["pairs"] == 40
    ours, theirs = result["peers"]["systems"]
    assert (ours["name"], theirs["name"].split(", batch")[0]) == (
        "pairscore fp16",
        "sentence-transformers, torch fp32, sdpa",
    )
    assert 0 < ours["max_logit_difference"] < 0.1
    assert theirs["max_logit_difference"] == 0
    chapter = gpu_chapter(result, CPU_RESULT)
    assert "| engine alone | " in chapter
    assert "Did not run: profile: ValueError" in chapter
    assert "| 2 CPU cores, fp32, x | 200 | 0.10 | 7,200,000 |" in chapter
    # What a GPU adds.
    result["profile"] = {"busy_share": 0.93, "kernels": [{"name": "gemm<x>", "share": 0.5, "seconds": 1.0}]}
    result["attention"] = {"kernels": counted_kernels(LOG)}
    result["job"]["runs"][0] |= {"pairs_per_second": 9e9, "gpu": {"memory_mib": 2048.0, "utilization": [90.0]}}
    chapter = gpu_chapter(result, CPU_RESULT)
    assert "FLASH_ATTENTION (MultiHeadAttention, fp16, 2 times), MATH (Attention, fp32, 1 times)" in chapter
    assert "A kernel ran in 93% of the time" in chapter
    assert "at most 2.0 GiB of the GPU's memory" in chapter
    assert "| `pairscore score`, Parquet to Parquet | 9,000,000,000 | 100,000 |" in chapter


LOG = """
\x1b[36mOperator=MultiHeadAttention Node=/layer.0/fused DataType=fp16 SdpaKernel=FLASH_ATTENTION\x1b[0m
\x1b[36mOperator=MultiHeadAttention Node=/layer.1/fused DataType=fp16 SdpaKernel=FLASH_ATTENTION\x1b[0m
something else
\x1b[36mOperator=Attention DataType=fp32 SdpaKernel=MATH\x1b[0m
"""


def test_kernels_are_counted_from_the_log():
    assert counted_kernels(LOG) == [
        {"operator": "MultiHeadAttention", "type": "fp16", "kernel": "FLASH_ATTENTION", "count": 2},
        {"operator": "Attention", "type": "fp32", "kernel": "MATH", "count": 1},
    ]
    assert counted_kernels("") == []


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20))))
def test_busy_time_is_counted_once(spans):
    moments = {moment for start, length in spans for moment in range(start, start + length)}
    assert busy([(float(start), float(start + length)) for start, length in spans]) == len(moments)


def test_activation_bytes_by_hand():
    """Two layers, h = 2, i = 3, 10 tokens of 2 bytes: 22h + 4i = 56 numbers in the first, 6h = 12 in the last."""
    config = {"hidden_size": 2, "intermediate_size": 3, "num_hidden_layers": 2}
    assert activation_bytes(config, [4, 6], 2) == (56 + 12) * 10 * 2
    assert activation_bytes({"unknown": 1}, [4], 2) is None


def test_crossed_pairs_are_those_of_the_files(texts, tmp_path):
    write_crossed(texts, tmp_path / "data", 45, 3, 10)
    written = pq.read_table(tmp_path / "data")
    pairs = crossed_pairs(texts, 45)
    assert list(zip(written["claim"].to_pylist(), written["evidence"].to_pylist(), strict=True)) == pairs
    assert len(set(pairs)) == 45
