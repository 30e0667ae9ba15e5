"""The benchmark of the host, with few pairs: its inputs, its checks, and a result that the report can show."""

import json
import sys
import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from studies import host
from studies.chapters import host_table
from studies.harness import write_crossed
from tests.pairs_files import write_pairs


def test_every_row_of_the_unique_pairs_has_its_own_evidence(tmp_path):
    write_pairs(tmp_path / "pairs.parquet", 60)
    write_crossed(tmp_path / "pairs.parquet", tmp_path / "crossed", 300, 2, 1000)
    host.write_unique(tmp_path / "crossed", tmp_path / "unique")
    crossed, unique = (pq.read_table(tmp_path / name) for name in ("crossed", "unique"))
    assert unique.schema == crossed.schema
    assert len(set(unique["evidence"].to_pylist())) == 300
    for row, old, new in zip(
        unique["id"].to_pylist(), *(t["evidence"].to_pylist() for t in (crossed, unique)), strict=True
    ):
        assert new == f"{old} {row}"


def test_rows_that_are_lost_or_moved_are_seen(tmp_path):
    for name, ids in (("in", [1, 2, 3]), ("out", [1, 2, 3]), ("moved", [1, 3, 2]), ("lost", [1, 2])):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"id": ids}), tmp_path / name / "part.parquet")
    host.check_rows(tmp_path / "in", tmp_path / "out")
    for name in ("moved", "lost"):
        with pytest.raises(ValueError, match="rows are not the input's"):
            host.check_rows(tmp_path / "in", tmp_path / name)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's scheduler")
def test_cpu_seconds_are_those_of_the_thread():
    def work():
        ends = time.monotonic() + 30
        while time.thread_time() < 0.2 and time.monotonic() < ends:
            pass
        time.sleep(1)  # its last moments are not missed

    with host.CpuSeconds() as seconds:
        thread = threading.Thread(target=work, name="pairscore-work_0")
        thread.start()
        thread.join()
    assert 0.15 < seconds.by_name()["work"] < 0.4


def test_the_benchmark_runs_the_job_and_its_result_can_be_shown(checkpoint, tmp_path, monkeypatch):
    write_pairs(tmp_path / "pairs.parquet", 60)
    arguments = {
        "--checkpoint": checkpoint("bert"),
        "--pairs": tmp_path / "pairs.parquet",
        "--rows": 300,
        "--files": 2,
        "--rounds": 1,
        "--callers": 3,
        "--token-budget": 512,
        "--tokens-per-second": 1e6,
        "--output": tmp_path / "result.json",
    }
    monkeypatch.setattr(sys, "argv", ["host", *(str(each) for pair in arguments.items() for each in pair)])
    host.main()
    result = json.loads((tmp_path / "result.json").read_text())
    assert [each["data"] for each in result["settings"]][-1] == "unique"
    for setting in result["settings"]:
        (run,) = setting["runs"]
        assert run["batches"] > 2
        assert 0 < run["batch_fill"] <= 1
        assert 0 <= run["engine_idle_share"] < 1
        assert 0 <= run["device_idle_share"] < 1
        assert run["texts"] > 300 if setting["data"] == "unique" else run["texts"] < 300
    table = host_table(result)
    assert len(table.rows) == len(result["settings"])
    assert "takes 1,000,000 tokens/s" in table.notes[0]
