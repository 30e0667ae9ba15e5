"""The benchmark of many pairs, with few: its input holds no pair twice, and its checks see what the command did."""

import sys

import pyarrow.parquet as pq
import pytest

from pairscore.benchmarks.studies import crossed
from pairscore.benchmarks.studies import large_jobs as scale
from tests.pairs_files import write_pairs


def test_crossed_pairs_are_all_different(tmp_path):
    write_pairs(tmp_path / "pairs.parquet", 60)
    crossed.write_crossed(tmp_path / "pairs.parquet", tmp_path / "data", 500, 3, 100)
    tables = [pq.read_table(path) for path in sorted((tmp_path / "data").iterdir())]
    assert [table.num_rows for table in tables] == [166, 167, 167]
    rows = [tuple(row.values()) for table in tables for row in table.to_pylist()]
    assert [row[0] for row in rows] == list(range(500))
    assert len({row[1:] for row in rows}) == 500
    with pytest.raises(ValueError, match="fewer than 10000000 pairs"):
        crossed.write_crossed(tmp_path / "pairs.parquet", tmp_path / "more", 10_000_000, 1, 100)


def test_peaks_by_share_of_the_run():
    assert scale.peaks([(0.0, 5), (1.0, 9), (2.5, 7), (4.0, 8)], 2) == [9, 8]


def test_the_benchmark_scores_what_it_made(checkpoint, tmp_path, monkeypatch, capsys):
    write_pairs(tmp_path / "pairs.parquet", 60)
    arguments = [
        "--checkpoint",
        checkpoint("bert"),
        "--layers",
        1,
        "--pairs",
        tmp_path / "pairs.parquet",
        "--rows",
        400,
        "--files",
        2,
        "--limit",
        300,
    ]
    monkeypatch.setattr(sys, "argv", ["scale", *map(str, arguments), "--output", str(tmp_path / "result.json")])
    scale.main()
    assert '"rows": 300' in (tmp_path / "result.json").read_text()
    assert '"pairs": 300' in capsys.readouterr().out
