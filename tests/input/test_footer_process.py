"""A file whose footer ends the process that reads it is named at once, and left out when asked, every time."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.input.find import find_files
from pairscore.runtime.input.footer_process import read_footers
from pairscore.runtime.input.footers import read_here
from tests.pairs_files import files_below, pairs_table, read_output, same

# What damaged footers make Arrow do, at a place that a test chooses: every Python process that the test starts, and
# every one that these start, runs it first.
ABORTING = """
import os, signal, time
import pyarrow.parquet as pq

read_metadata = pq.read_metadata

def end(metadata):
    said = (metadata.metadata or {}).get(b"end", b"").decode()
    if said.startswith("/"):
        open(said, "w").write(str(os.getpid()))
        time.sleep(600)
    if said:
        os.kill(os.getpid(), getattr(signal, said))
        time.sleep(600)
    return metadata

pq.read_metadata = lambda *given, **named: end(read_metadata(*given, **named))
"""


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return small_bundle()


@pytest.fixture
def start(bundle, tmp_path):
    """`start(option, ...)`: start the command on `data`, in a process."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(ABORTING)
    paths = [str(tmp_path / "site"), *sys.path]

    def start(*options):
        command = ["score", bundle, tmp_path / "data", "--output", tmp_path / "out", "--part-rows", "20", "--json"]
        return subprocess.Popen(
            [sys.executable, "-m", "pairscore.cli", *map(str, [*command, *options])],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def score(start):
    """`score(option, ...)`: run the command to its end; its exit code and what it said."""

    def run(*options):
        ended = start(*options)
        out, err = ended.communicate()
        return ended.returncode, json.loads(out) if out else err

    return run


def write(path, seed, end="", rows=60):
    table = pairs_table(rows, seed)
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"end": end}), path, row_group_size=20)
    return table


def test_it_is_named_at_once_and_nothing_is_written(score, tmp_path):
    write(tmp_path / "data" / "0.parquet", 0)
    write(tmp_path / "data" / "1.parquet", 1, end="SIGABRT")
    before = files_below(tmp_path)
    for more in ((), ("--dry-run",)):
        code, said = score(*more)
        assert code == 2
        assert f"'{tmp_path / 'data' / '1.parquet'}' ends the process that reads it (SIGABRT)" in said
        assert "--on-error skip-file" in said
    assert files_below(tmp_path) == before


def test_every_such_file_is_left_out_however_often(score, tmp_path):
    """Also where the output is whole already: nothing reads such a footer in the process of the run."""
    for place, end in enumerate(["SIGABRT", "", "SIGSEGV", "SIGABRT"]):
        write(tmp_path / "data" / f"{place}.parquet", place, end=end)
    for attempt in range(3):
        code, summary = score("--on-error", "skip-file")
        assert code == 0
        assert summary["nothing_to_do"] is (attempt > 0)
        assert [each["file"] for each in summary["skipped"]] == ["0.parquet", "2.parquet", "3.parquet"]
        assert "SIGSEGV" in summary["skipped"][1]["reason"]
    assert same(read_output(tmp_path / "out").drop_columns("score"), pairs_table(60, 1))
    assert not (tmp_path / "out" / "_pairscore").exists()


def test_a_process_that_somebody_kills_accuses_no_file(score, tmp_path):
    """The system kills the largest process where memory ends: whatever that one was reading, no row may be lost."""
    write(tmp_path / "data" / "0.parquet", 0, end="SIGKILL")
    code, said = score("--on-error", "skip-file")
    assert code == 75
    assert f"the process that read the footer of '{tmp_path / 'data' / '0.parquet'}' was ended (SIGKILL)" in said
    table = write(tmp_path / "data" / "0.parquet", 0)
    code, summary = score("--on-error", "skip-file")
    assert (code, summary["skipped"]) == (0, [])
    assert same(read_output(tmp_path / "out").drop_columns("score"), table)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_process_that_reads_footers_ends_with_the_run(start, tmp_path):
    write(tmp_path / "data" / "0.parquet", 0, end=str(tmp_path / "pid"))
    run = start("--dry-run")
    deadline = time.monotonic() + 200
    while not (tmp_path / "pid").exists() or not (pid := (tmp_path / "pid").read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert int(pid) != run.pid
    run.kill()
    run.communicate()
    with suppress(FileNotFoundError):
        while ") Z" not in Path(f"/proc/{pid}/stat").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_schemas_come_back_as_they_are(tmp_path):
    table = pairs_table(30).append_column("more", pa.array([{"x": [1], "y": b"z"}] * 30))
    table = table.append_column("kind", pa.array(["a", None] * 15).dictionary_encode())
    (tmp_path / "data").mkdir()
    for place in range(40):
        pq.write_table(table.slice(0, place % 30), tmp_path / "data" / f"{place:02d}.parquet", row_group_size=7)
    (tmp_path / "data" / "07.parquet").write_bytes(b"no Parquet")
    found = find_files([str(tmp_path / "data")])
    here, there = (list(read(found, ("claim", "evidence"))) for read in (read_here, read_footers))
    assert str(here.pop(7)) == str(there.pop(7))
    assert here == there
    assert there[5].schema.equals(here[5].schema, check_metadata=True)
