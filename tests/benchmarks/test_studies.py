"""What the studies share: made input, and a job that is scored and checked."""

import pyarrow.parquet as pq
import pytest

from studies import harness, kernel_profile, processors
from tests.pairs_files import write_pairs


def test_crossed_pairs_are_all_different(tmp_path):
    write_pairs(tmp_path / "pairs.parquet", 60)
    harness.write_crossed(tmp_path / "pairs.parquet", tmp_path / "data", 500, 3, 100)
    tables = [pq.read_table(path) for path in sorted((tmp_path / "data").iterdir())]
    assert [table.num_rows for table in tables] == [166, 167, 167]
    rows = [tuple(row.values()) for table in tables for row in table.to_pylist()]
    assert [row[0] for row in rows] == list(range(500))
    assert len({row[1:] for row in rows}) == 500
    assert [row[1:] for row in rows] == harness.crossed_pairs(tmp_path / "pairs.parquet", 500)
    with pytest.raises(ValueError, match="fewer than 10000000 pairs"):
        harness.write_crossed(tmp_path / "pairs.parquet", tmp_path / "more", 10_000_000, 1, 100)


def test_a_job_that_fails_is_seen(exported, tmp_path):
    write_pairs(tmp_path / "pairs.parquet", 20)
    bundle = exported("bert").bundle
    assert harness.score(bundle, tmp_path / "pairs.parquet", tmp_path / "out")["rows"] == 20
    with pytest.raises(RuntimeError, match=r"ended with 2: .*missing"):
        harness.score(bundle, tmp_path / "pairs.parquet", tmp_path / "none", "--claim-column", "missing")


def test_samples_are_counted_by_operation():
    lines = {
        "dot_tile<12ul, pairscore::x::ScaledSums<true, true, (pairscore::Activation)0> >": 40.0,
        "dot_tile<12ul, pairscore::x::ScaledSums<true, true, (pairscore::Activation)2> >": 20.0,
        "pairscore::x::attention_of<32ul>": 10.0,
        "_PyEval_EvalFrameDefault": 5.0,
        "handle_softirqs": 5.0,
    }
    found = kernel_profile.shares("\n".join(f"    {share:.2f}%  [.] {name}" for name, share in lines.items()))
    assert [share for share in found.values() if share] == pytest.approx([0.5, 0.25, 0.125, 0.125])
    assert list(found) == list(kernel_profile.OPERATIONS)
    with pytest.raises(SystemExit, match="perf took no samples"):
        kernel_profile.shares("")


def test_every_processor_of_the_first_table_has_its_machine():
    named = [line.removeprefix("- ").split(":")[0].split(" and ") for line in processors.machines_line().splitlines()]
    assert {row.processor.split(":")[0] for row in processors.measured_rates()} == {
        name for names in named for name in names
    }
