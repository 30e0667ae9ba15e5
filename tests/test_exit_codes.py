"""What a scheduler reads: exit codes, whatever becomes of the standard streams."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import pairscore
from pairscore.runtime.job import run as runs
from pairscore.runtime.job.output.layout import open_output
from pairscore.runtime.job.output.locks import hold
from tests.command_line import run
from tests.pairs_files import write_pairs


@pytest.fixture
def arguments(small_bundle, working_folder):
    write_pairs(working_folder / "in.parquet", 40)
    return ["score", small_bundle(), "in.parquet", "-o", "out"]


def test_a_held_lock_is_worth_another_try(capsys, arguments):
    with hold(open_output("out"), None):
        code, _, said = run(capsys, *arguments)
    assert code == 75
    assert "another run is writing to 'out'" in said
    assert run(capsys, *arguments)[0] == 0


def test_a_fault_of_ours_says_where_to_report_it(capsys, arguments, monkeypatch):
    def broken(*given):
        raise KeyError("nobody foresaw this")

    monkeypatch.setattr(runs, "find_work", broken)
    code, _, said = run(capsys, *arguments, "--log-json", "log")
    assert code == 70
    assert said.startswith(
        "pairscore: error: a fault of pairscore's own (KeyError: 'nobody foresaw this'): please report"
    )
    assert said.count("\n") == 1
    assert "https://" in said
    event = json.loads(Path("log").read_text().splitlines()[-1])
    assert event["event"] == "error"
    assert "in broken" in event["traceback"]
    monkeypatch.setenv("PAIRSCORE_DEBUG", "1")
    assert "in broken" in run(capsys, *arguments)[2]
    with pytest.raises(KeyError):
        pairscore.score_files(arguments[1], "in.parquet", "out")


def test_a_variable_has_the_name_of_its_option(capsys, arguments, monkeypatch):
    monkeypatch.setenv("PAIRSCORE_INFO_JSON", "1")
    assert json.loads(run(capsys, "info", arguments[1])[1])["bundle"] == str(arguments[1])


def test_memory_that_ran_out_is_worth_another_try(capsys, arguments, monkeypatch):
    def refused(*given):
        raise MemoryError("cannot allocate 8 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(runs, "find_work", refused)
        code, _, said = run(capsys, *arguments)
    assert (code, said.count("\n")) == (75, 1)
    assert "memory ran out (cannot allocate 8 GiB): give the same command again" in said
    assert run(capsys, *arguments)[0] == 0


@pytest.mark.parametrize(
    ("streams", "said"),
    [("| true", ""), (">/dev/full", ""), ("2>/dev/full", "pairs"), (">&- 2>&-", ""), ("2>&1 >/dev/full | true", "")],
)
def test_standard_streams_change_no_result(arguments, streams, said):
    command = " ".join(map(str, [sys.executable, "-m", "pairscore.cli", *arguments, "--json"]))
    done = subprocess.run(
        ["bash", "-c", f"{command} {streams}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert "Traceback" not in done.stderr
    assert pq.read_table("out").num_rows == 40


def test_other_commands_end_well_when_nobody_listens(arguments):
    command = f"{sys.executable} -m pairscore.cli info {arguments[1]} | true; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", command], check=False).returncode == 0


def test_what_metadata_holds_is_no_fault_of_ours(capsys, arguments, working_folder):
    table = pq.read_table("in.parquet")
    for number, figures in enumerate(
        [b"[1]", b'{"settings": 1, "source": []}', b'{"settings": {"precision": "\\u001b[31m"}}']
    ):
        scored = table.append_column("score", [[0.5] * table.num_rows])
        pq.write_table(scored.replace_schema_metadata({b"pairscore": figures}), f"{number}.parquet")
        code, out, _ = run(capsys, "show", f"{number}.parquet")
        assert (code, "\x1b" in out) == (0, False)
        assert run(capsys, *arguments[:3], "-o", f"{number}.parquet")[0] == 2
        assert run(capsys, *arguments, "--reuse", f"{number}.parquet")[0] == 2
