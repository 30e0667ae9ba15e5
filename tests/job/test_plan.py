"""What a plan reads to be made: each file's footer once, and rows only where a null is known to be."""

from collections import Counter

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.errors import PairscoreError, TryAgainError
from pairscore.runtime.job.plan import make_plan
from pairscore.runtime.job.run import run_job
from tests.pairs_files import job, pairs_table, write_pairs


class Counted(MemoryFileSystem):
    """An object store in memory that counts what is asked of it. `reads`: (path, whether up to the file's end)."""

    protocol = "counted"
    store: dict = {}  # noqa: RUF012 (as MemoryFileSystem declares its own)
    pseudo_dirs = [""]  # noqa: RUF012
    reads: Counter = Counter()  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("counted://", "memory://"))

    def cat_file(self, path, start=None, end=None, **options):
        self.reads[path, end == self.size(path)] += 1
        return super().cat_file(path, start=start, end=end, **options)


@pytest.fixture
def store():
    fsspec.register_implementation("counted", Counted, clobber=True)
    Counted.reads.clear()
    yield fsspec.filesystem("counted")
    Counted.store.clear()


def put(store, name, table, **options):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    store.pipe_file(f"/in/{name}", sink.getvalue().to_pybytes())


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return small_bundle()


def test_a_plan_reads_every_footer_once(store, bundle):
    table = pairs_table(3)
    for number in range(1000):
        put(store, f"{number:04d}.parquet", table)
    options = job(bundle, ("counted://in",), None)
    plan = make_plan(options, Bundle.open(bundle).manifest)
    assert plan.rows == 3000
    assert store.reads == {(f"/in/{number:04d}.parquet", True): 1 for number in range(1000)}


def test_a_job_reads_a_footer_once_more_with_the_rows(store, bundle, tmp_path):
    for number in range(3):
        put(store, f"{number}.parquet", pairs_table(120, number), row_group_size=40)
    run_job(job(bundle, ("counted://in",), tmp_path / "out"))
    assert {path: count for (path, at_end), count in store.reads.items() if at_end} == {
        f"/in/{number}.parquet": 2 for number in range(3)
    }


def test_rows_are_read_only_where_the_footer_tells_of_a_null(store, bundle):
    table = pairs_table(200)
    claims = table["claim"].to_pylist()
    claims[130] = None
    put(store, "0.parquet", pairs_table(200, 1), row_group_size=50)
    put(store, "1.parquet", table.set_column(1, "claim", pa.array(claims)), row_group_size=50)
    manifest = Bundle.open(bundle).manifest
    options = job(bundle, ("counted://in",), None)
    with pytest.raises(PairscoreError, match=r"row 130 of 'counted://.*1\.parquet' has a null in column 'claim'"):
        make_plan(options, manifest)
    assert store.reads["/in/0.parquet", False] == 0
    # Of four row groups, the two text columns of the one with the null.
    assert 0 < store.reads["/in/1.parquet", False] <= 2
    assert make_plan(job(bundle, ("counted://in",), None, limit=330), manifest).rows == 330
    with pytest.raises(PairscoreError, match="row 130 of"):
        make_plan(job(bundle, ("counted://in",), None, limit=331), manifest)


def test_files_that_fail_are_raised_or_skipped(bundle, tmp_path):
    for name in ("a", "c"):
        write_pairs(tmp_path / f"{name}.parquet", 5)
    (tmp_path / "b.parquet").write_bytes(b"broken")
    manifest = Bundle.open(bundle).manifest
    with pytest.raises(PairscoreError, match=r"b\.parquet"):
        make_plan(job(bundle, (tmp_path,), None), manifest)
    options = job(bundle, (tmp_path,), None, on_error="skip-file")
    plan = make_plan(options, manifest)
    assert [file is None for file in plan.files] == [False, True, False]
    ((place, reason),) = plan.skipped.items()
    assert place == 1
    assert "b.parquet" in reason
    lost = TryAgainError("the connection is lost")
    with pytest.raises(TryAgainError):  # a fault that may pass is no reason to go on without the file
        make_plan(options, manifest, lambda found, columns: (lost for _ in found))
