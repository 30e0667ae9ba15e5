"""A file that ends the process which reads it is named at the next start, and left out when asked."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.job.crash import noted
from pairscore.runtime.job.output.layout import open_output
from pairscore.runtime.job.parts import Block
from tests.pairs_files import files_below, pairs_table, read_output, same

# What damaged files make Arrow do, at a place that a test chooses: every Python process that the test starts, and
# every one that these start, runs it first.
ABORTING = """
import os, time
import pyarrow.parquet as pq

read_metadata, iter_batches = pq.read_metadata, pq.ParquetFile.iter_batches

def abort_at(phase, metadata):
    said = (metadata.metadata or {}).get(b"abort", b"")
    if said == phase:
        os.abort()
    if said.startswith(b"/"):
        open(said, "w").write(str(os.getpid()))
        time.sleep(600)
    return metadata

pq.read_metadata = lambda *given, **named: abort_at(b"footer", read_metadata(*given, **named))

def batches(self, *given, **named):
    abort_at(b"rows", self.metadata)
    yield from iter_batches(self, *given, **named)

pq.ParquetFile.iter_batches = batches
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


def write(path, seed, abort="", rows=60):
    table = pairs_table(rows, seed)
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"abort": abort}), path, row_group_size=20)
    return table


@pytest.mark.parametrize("phase", ["footer", "rows"])
def test_a_file_that_ends_the_process_is_named_and_can_be_left_out(score, tmp_path, phase):
    good = [write(tmp_path / "data" / f"{place}.parquet", place, rows=200) for place in (0, 2)]
    write(tmp_path / "data" / "1.parquet", 1, abort=phase)
    code, _ = score()
    assert code == -signal.SIGABRT
    parts = sorted(path.name for path in (tmp_path / "out").glob("part-*"))
    assert bool(parts) is (phase == "rows")
    for _ in range(2):  # it stays named
        code, said = score()
        assert code == 2
        told = [line for line in said.splitlines() if line.startswith("pairscore: error: ")]
        assert len(told) == 1
        assert f"'{tmp_path / 'data' / '1.parquet'}' ends the process that reads it (SIGABRT)" in told[0]
        assert "--on-error skip-file" in told[0]
        assert sorted(path.name for path in (tmp_path / "out").glob("part-*")) == parts
    code, summary = score("--on-error", "skip-file")
    assert code == 0
    assert [each["file"] for each in summary["skipped"]] == ["1.parquet"]
    assert summary["earlier_parts"] >= len([name for name in parts if name.startswith("part-00000")])
    assert same(read_output(tmp_path / "out").drop_columns("score"), pa.concat_tables(good))
    assert not (tmp_path / "out" / "_pairscore").exists()


def test_a_file_that_was_written_again_is_read(score, tmp_path):
    write(tmp_path / "data" / "0.parquet", 0, abort="footer")
    assert score()[0] == -signal.SIGABRT
    table = write(tmp_path / "data" / "0.parquet", 0)
    code, summary = score()
    assert (code, summary["skipped"]) == (0, [])
    assert same(read_output(tmp_path / "out").drop_columns("score"), table)


def test_a_dry_run_names_it_at_once_and_leaves_nothing(score, tmp_path):
    write(tmp_path / "data" / "0.parquet", 0, abort="footer")
    code, said = score("--dry-run")
    assert code == 2
    assert f"'{tmp_path / 'data' / '0.parquet'}' ends the process that reads it (SIGABRT)" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_process_that_reads_first_ends_with_the_run(start, tmp_path):
    write(tmp_path / "data" / "0.parquet", 0, abort=str(tmp_path / "pid"))
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


def test_every_such_file_is_left_out(score, tmp_path):
    for place in range(4):
        write(tmp_path / "data" / f"{place}.parquet", place, abort=["footer", "", "rows", "footer"][place])
    assert score("--on-error", "skip-file")[0] == -signal.SIGABRT
    while True:
        code, summary = score("--on-error", "skip-file")
        if code == 0:
            break
        assert code == -signal.SIGABRT  # of the file that the run came to after it had left out those that it knew
    assert [each["file"] for each in summary["skipped"]] == ["0.parquet", "2.parquet", "3.parquet"]
    assert same(read_output(tmp_path / "out").drop_columns("score"), pairs_table(60, 1))


@pytest.mark.parametrize("given", [b"null", b'{"file": 0, "start": 0, "stop": 20}', b'{"file": 9}', b"\xff", b""])
def test_the_note_of_a_run_that_was_killed_accuses_nobody(score, tmp_path, given):
    write(tmp_path / "data" / "0.parquet", 0)
    (tmp_path / "out" / "_pairscore").mkdir(parents=True)
    (tmp_path / "out" / "_pairscore" / "reading-whole").write_bytes(given)
    code, summary = score()
    assert (code, summary["skipped"]) == (0, [])


def test_a_tidy_end_takes_the_note_and_its_folders_away(tmp_path):
    output = open_output(str(tmp_path / "a" / "out"))
    with suppress(KeyError), noted(output, None) as note:
        note.set()
        assert list(files_below(tmp_path)) == ["a/out/_pairscore/reading-whole"]
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with noted(output, (2, 3)) as note:
        note.set(Block(0, 0, 1))
        assert list(files_below(tmp_path)) == ["a/out/_pairscore/reading-2-of-3"]
        note.clear()
        Path(output.folder, "part").write_text("")
    assert list(files_below(tmp_path)) == ["a/out/part"]
