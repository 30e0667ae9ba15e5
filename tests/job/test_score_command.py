"""`pairscore score` and `pairscore info` as a user types them."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import duckdb
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.bundle.manifest import sha256
from pairscore.runtime.engines.registry import ENGINES, EngineSpec
from pairscore.runtime.job.progress.display import ProgressBar, ProgressLines
from pairscore.runtime.job.progress.events import EventLog
from pairscore.runtime.job.progress.meter import Meter, Progress, duration, reported
from pairscore.runtime.job.run import run_job
from pairscore.runtime.scorer import Scorer
from tests import gpu_fakes
from tests.command_line import run
from tests.pairs_files import files_below, job, pairs_table, read_output, same, write_pairs


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return small_bundle()


@pytest.fixture
def data(working_folder):
    for place, rows in enumerate((130, 60)):
        write_pairs(working_folder / "data" / f"{place}.parquet", rows, seed=place)
    return working_folder / "data"


def test_score_says_what_it_did(capsys, bundle, data, working_folder):
    code, out, said = run(capsys, "score", bundle, "data", "--output", "out", "--part-rows", 50)
    assert (code, out) == (0, "")
    assert "190 pairs scored" in said
    assert "5 parts" in said
    assert "fp32 on onnxruntime (cpu), at most 64 tokens a pair" in said
    assert said.rstrip().endswith("Wrote out")
    run_job(job(bundle, data, working_folder / "expected"))
    assert same(read_output(working_folder / "out"), read_output(working_folder / "expected"))


def test_json_is_the_only_thing_on_standard_output(capsys, bundle, data):
    code, out, said = run(capsys, "score", bundle, "data", "-o", "out.parquet", "--json", "--quiet")
    summary = json.loads(out)
    assert (code, said) == (0, "")
    assert summary["pairs"] == summary["rows"] == 190
    assert summary["nulls"] == 0
    assert summary["whole"] is True
    assert (summary["precision"], summary["engine"], summary["device"]) == ("fp32", "onnxruntime", "cpu")
    assert summary["peak_memory_bytes"] > 50_000_000
    assert set(summary["seconds_by_stage"]) == {"read", "tokenize", "engine", "write"}
    assert 0 <= summary["share_outside_engine"] <= 1


WITHOUT_UNIX = """
import sys
sys.modules["fcntl"] = sys.modules["resource"] = None
from pairscore.cli import main
main(sys.argv[1:])
"""


def test_scoring_needs_no_module_of_unix_alone(bundle, data, working_folder):
    command = [sys.executable, "-c", WITHOUT_UNIX, "score", str(bundle), "data", "--output"]
    for output in (["out"], ["out.parquet"], ["shards", "--shard", "1/2"], ["shards", "--shard", "2/2"]):
        done = subprocess.run([*command, *output], check=False, cwd=working_folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    run_job(job(bundle, data, working_folder / "expected"))
    for output in ("out", "out.parquet", "shards"):
        assert same(read_output(working_folder / output), read_output(working_folder / "expected"))


def test_quiet_says_nothing(capsys, bundle, data):
    assert run(capsys, "score", bundle, "data", "-o", "out", "--quiet") == (0, "", "")


def test_options_reach_the_job(capsys, bundle, data, working_folder):
    names = {"claim": "statement", "evidence": "passage"}
    table = pairs_table(90, null_every=30)
    table = table.rename_columns([names.get(name, name) for name in table.schema.names])
    pq.write_table(table, "renamed.parquet")
    code, _, _ = run(
        capsys, "score", bundle, "renamed.parquet", "--output", "out.parquet", "--claim-column", "statement",
        "--evidence-column", "passage", "--score-column", "p", "--keep", "id,relevant", "--keep", "passage",
        "--on-null", "null", "--max-length", 32, "--limit", 80, "--filter", "relevant", "--compression", "snappy",
        "--precision", "fp32", "--engine", "onnxruntime", "--device", "cpu", "--quiet",
    )  # fmt: skip
    assert code == 0
    result = pq.read_table("out.parquet")
    assert result.schema.names == ["id", "passage", "relevant", "p"]
    expected = [row for row in table.slice(0, 80).to_pylist() if row["relevant"]]
    assert result["id"].to_pylist() == [row["id"] for row in expected]
    assert pq.read_metadata("out.parquet").row_group(0).column(0).compression == "SNAPPY"
    scorer = Scorer.from_pretrained(bundle, max_length=32)
    pairs = [(row["statement"], row["passage"]) for row in expected if row["passage"] is not None]
    scores = [score for score in result["p"].to_pylist() if score is not None]
    assert len(scores) == len(pairs)
    assert scores == pytest.approx(scorer.predict(pairs).tolist(), abs=1e-6)


def test_shards_from_the_command_line(capsys, bundle, data, working_folder):
    for number in (1, 2):
        code, out, said = run(capsys, "score", bundle, "data", "-o", "out", "--shard", f"{number}/2", "--part-rows", 50)
        assert (code, out) == (0, "")
        assert ("other shards still lack 3 parts" in said) is (number == 1)
    assert duckdb.sql(f"select count(score) from '{working_folder}/out/*.parquet'").fetchall() == [(190,)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "BUNDLE", "data"], "no output: name one with --output"),
        (["score", "BUNDLE", "nothing.parquet", "-o", "out"], "no input 'nothing.parquet'"),
        (["score", "data", "data", "-o", "out"], "'data' is not a bundle"),
        (["score", "BUNDLE", "data", "-o", "out", "--claim-column", "x"], "no column 'x'"),
        (["score", "BUNDLE", "data", "-o", "out", "--shard", "3"], "--shard '3' is not I/N: write, for example, 3/16"),
        (["score", "BUNDLE", "data", "-o", "out", "--filter", "id <"], "--filter 'id <' cannot be read"),
        (["score", "BUNDLE", "data", "-o", "out", "--limit", "x"], "'x' is not a valid integer"),
        (["score", "BUNDLE", "data", "-o", "out", "--log-json", "no/such/log"], "cannot write the log 'no/such/log'"),
        (["score", "BUNDLE"], "Missing argument"),
        (
            ["info", "data"],
            "'data' is not a bundle (it has no pairscore.json): it holds Parquet files: `pairscore show data`",
        ),
        (["info", "data/0.parquet"], "'data/0.parquet' is a file, and a bundle is a folder: `pairscore show`"),
        (["info", "nothing"], "no bundle at 'nothing'"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(capsys, bundle, data, working_folder, arguments, message):  # noqa: PLR0917
    before = files_below(working_folder)
    code, out, said = run(capsys, *(str(bundle) if each == "BUNDLE" else each for each in arguments))
    assert (code, out) == (2, "")
    assert message in said
    assert said.startswith("pairscore: error: ")
    assert said.count("\n") == 1
    assert files_below(working_folder) == before


def test_dry_run_counts_and_writes_nothing(capsys, bundle, data, working_folder):
    before = files_below(working_folder)
    code, out, said = run(capsys, "score", bundle, "data", "-o", "out", "--dry-run", "--part-rows", 50)
    assert (code, out) == (0, "")
    assert "190 rows in 2 files, 5 parts; about 190 pairs" in said
    assert "nothing was written" in said
    code, out, _ = run(capsys, "score", bundle, "data", "--dry-run", "--json", "--filter", "id < 65")
    estimate = json.loads(out)
    assert estimate["rows"] == 190
    assert estimate["sampled_pairs"] == 65
    assert estimate["pairs"] == 65
    pairs = [(row["claim"], row["evidence"]) for row in pairs_table(130).to_pylist()[:65]]
    lengths = [len(ids) for ids in _token_ids(bundle, pairs)]
    assert estimate["mean_tokens"] == pytest.approx(sum(lengths) / 65)
    assert estimate["seconds"] > 0
    assert files_below(working_folder) == before


def _token_ids(bundle, pairs):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    tokenizer.enable_truncation(64)
    return [encoding.ids for encoding in tokenizer.encode_batch(pairs)]


def test_a_dry_run_on_an_output_that_is_whole(capsys, bundle, data):
    """It says what a run would: nothing to do for the same settings, an error for others."""
    assert run(capsys, "score", bundle, "data", "-o", "out", "--quiet")[0] == 0
    code, _, said = run(capsys, "score", bundle, "data", "-o", "out", "--dry-run")
    assert code == 0
    assert "Nothing to do" in said
    code, _, said = run(capsys, "score", bundle, "data", "-o", "out", "--dry-run", "--limit", 3)
    assert code == 2
    assert "exists and is whole" in said


def test_the_same_command_again_does_nothing_and_says_so(capsys, bundle, data, working_folder):
    for output in ("out", "out.parquet"):
        command = ("score", bundle, "data", "--output", output, "--part-rows", 50)
        assert run(capsys, *command)[0] == 0
        before = files_below(working_folder)
        code, out, said = run(capsys, *command)
        assert (code, out) == (0, "")
        assert said == f"Nothing to do: {output} is whole, from the same input and settings (fp32)\n"
        code, out, _ = run(capsys, *command, "--json")
        summary = json.loads(out)
        assert (code, summary["nothing_to_do"], summary["whole"], summary["pairs"]) == (0, True, True, 0)
        assert files_below(working_folder) == before


def test_events_are_json_lines_that_add_up(capsys, bundle, data, working_folder):
    run(capsys, "score", bundle, "data", "-o", "out", "--part-rows", 50, "--log-json", "log", "--quiet")
    events = [json.loads(line) for line in (working_folder / "log").read_text().splitlines()]
    assert "pairs were cut to 64 tokens" in events.pop(-2)["message"]
    assert [each["event"] for each in events] == ["start", *["part"] * 5, "end"]
    assert sum(each["pairs"] for each in events[1:-1]) == events[-1]["pairs"] == 190
    assert [each["done"] for each in events[1:-1]][-1] == events[0]["rows"] == 190
    assert all(re.fullmatch(r"2\d{3}-.*\+00:00", each["time"]) for each in events)


def test_info_tells_what_a_bundle_holds(capsys, bundle):
    code, out, _ = run(capsys, "info", bundle)
    assert code == 0
    for words in ("bert cross-encoder", "sigmoid", "64 tokens", "fp32:", "logits within", "onnxruntime runs here"):
        assert words in out
    code, out, _ = run(capsys, "info", bundle, "--json")
    told = json.loads(out)
    assert told["labels"] == ["LABEL_0"]
    assert told["variants"]["fp32"]["bytes"] == (bundle / "onnx" / "model.onnx").stat().st_size
    assert told["variants"]["fp32"]["parity"]["max_logit_difference"] <= 1e-4
    assert told["variants"]["fp32"]["runs_here"] == {"onnxruntime": None, "openvino": None}


def test_info_says_why_a_variant_does_not_run_here(capsys, bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    golden = json.loads((copy / "golden.json").read_text())
    golden[0]["logits"] = [99.0]
    (copy / "golden.json").write_text(json.dumps(golden))
    manifest = json.loads((copy / "pairscore.json").read_text())
    manifest["files"]["golden.json"] = sha256(copy / "golden.json")
    (copy / "pairscore.json").write_text(json.dumps(manifest))
    code, out, _ = run(capsys, "info", copy)
    assert code == 0
    assert "does not run here: the fp32 variant" in out


def test_info_opens_an_engine_on_a_device_that_it_serves(capsys, bundle, monkeypatch):
    monkeypatch.setitem(ENGINES, "onnxruntime", EngineSpec("tests.gpu_fakes", "onnxruntime", ("cuda",)))
    gpu_fakes.opened.clear()
    code, out, _ = run(capsys, "info", bundle)
    assert code == 0
    assert "onnxruntime runs here" in out
    assert [each.device for each in gpu_fakes.opened] == ["cuda"]


def test_info_finds_a_changed_file(capsys, bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    (copy / "config.json").write_text("{}")
    code, _, said = run(capsys, "info", copy)
    assert code == 2
    assert "has changed since its export" in said


# Progress ----------------------------------------------------------------------------------------------


def test_a_terminal_gets_a_bar(bundle, working_folder):
    """A real terminal: the bar shows counts and rate, and leaves the summary behind."""
    write_pairs(working_folder / "data" / "0.parquet", 3000)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pairscore.cli", "score", str(bundle), "data", "-o", "out", "--part-rows", "10"]
    process = subprocess.Popen(command, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"})
    os.close(theirs)
    said = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:
            break
        if not chunk:
            break
        said += chunk
    assert process.wait() == 0
    text = said.decode()
    assert "of 3,000 pairs" in text
    assert "pairs/s" in text
    assert "\x1b[" in text
    assert "3,000 pairs scored" in text


def _meter():
    meter = Meter()
    meter.start(1000, 200)
    meter.add(400)
    return meter


def test_a_meter_counts_this_run_and_those_before():
    meter = _meter()
    progress = meter.progress()
    assert (progress.done, progress.total, progress.share) == (600, 1000, 0.6)
    assert progress.pairs_per_second > 0
    assert progress.seconds_left == pytest.approx(400 / progress.pairs_per_second)
    fresh = Meter()
    fresh.start(5, 0)
    assert fresh.progress().seconds_left is None


def test_the_time_left_is_told_by_tokens_since_the_longest_pairs_come_first(monkeypatch):
    now = 100.0
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr("pairscore.runtime.job.progress.meter.time", clock)
    meter = Meter()
    meter.start(1000, 200)
    meter.expect(400, 40_000)  # half of the rows left; as much is expected of the others
    meter.add(20, 10_000)
    now = 110.0
    progress = meter.progress()
    assert progress.pairs_per_second == 2
    assert progress.seconds_left == pytest.approx(70)
    meter.add(380, 30_000)
    meter.expect(400, 0)  # all of them have old scores
    assert meter.progress().seconds_left == 0


def test_plain_lines(capsys):
    ProgressLines(seconds=0).update(_meter().progress())
    ProgressLines().update(_meter().progress())  # too early for a line
    assert re.fullmatch(r"600 of 1,000 pairs \(60\.0%\), [\d,]+ pairs/s, .* left\n", capsys.readouterr().err)


def test_a_bar_is_kept_up_to_date_while_the_block_runs(capsys):
    from rich.console import Console

    bar = ProgressBar(Console(file=sys.stderr, force_terminal=True, width=120))
    seen = threading.Event()

    def update(progress: Progress) -> None:
        bar.update(progress)
        seen.set()

    with reported(_meter(), update, seconds=0.001):
        assert seen.wait(60)
    bar.close()
    assert "600 of 1,000 pairs" in capsys.readouterr().err


def test_a_callback_that_fails_is_not_called_again_and_the_block_goes_on(caplog):
    calls: list[Progress] = []

    def fail(progress: Progress) -> None:
        calls.append(progress)
        raise KeyError("no display")

    with reported(_meter(), fail, seconds=0.001):
        while not caplog.records:
            time.sleep(0.001)
    assert len(calls) == 1
    assert "the progress callback failed" in caplog.text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.9, "9.9 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (16_100, "4 h 28 min")],
)
def test_durations_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_an_event_log_is_appended_to(tmp_path):
    for number in (1, 2):
        log = EventLog(tmp_path / "log")
        log.write("x", number=number)
        log.close()
    assert [json.loads(line)["number"] for line in (tmp_path / "log").read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("x" * 300, "-o", "out"), "File name too long"),
        (("in.parquet", "-o", "out", "--claim-column", "\udcff"), "is not UTF-8"),
    ],
)
def test_what_the_system_refuses_is_one_line(capsys, bundle, working_folder, arguments, reason):
    write_pairs(working_folder / "in.parquet", 3)
    code, _, said = run(capsys, "score", bundle, *arguments)
    assert code == 2
    assert said.startswith("pairscore: error: ")
    assert reason in said
    assert len(said.splitlines()) == 1
