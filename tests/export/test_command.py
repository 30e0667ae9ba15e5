"""`pairscore export` as a user types it: exit codes, one-line errors, and nothing half-written."""

import signal
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.bundle.manifest import Bundle
from tests.checkpoints import build_checkpoint, scale_weights
from tests.command_line import run


def test_export_says_what_it_does(capsys, checkpoint, tmp_path):
    code, out, errors = run(capsys, "export", checkpoint("bert"), tmp_path / "bundle")
    assert (code, out) == (0, "")
    lines = errors.splitlines()
    assert lines[0].startswith("Reading ")
    assert any(line.startswith("Parity over ") and "logits differ by at most" in line for line in lines)
    assert lines[-1] == f"Wrote {tmp_path / 'bundle'}"
    assert Bundle.open(tmp_path / "bundle").manifest.max_length == 64


def test_options(capsys, checkpoint, tmp_path):
    pq.write_table(pa.table({"c": ["sea", "ice"], "e": ["level", "melt"]}), tmp_path / "pairs.parquet")
    arguments = ["export", checkpoint("bert"), tmp_path / "bundle", "--max-length", 32, "--quiet"]
    columns = ["--pairs", tmp_path / "pairs.parquet", "--claim-column", "c", "--evidence-column", "e"]
    assert run(capsys, *arguments, *columns) == (0, "", "")
    manifest = Bundle.open(tmp_path / "bundle").manifest
    assert manifest.max_length == 32
    code, _, errors = run(capsys, *arguments)
    assert code == 2
    assert "--overwrite" in errors
    assert run(capsys, *arguments, "--overwrite") == (0, "", "")
    again = Bundle.open(tmp_path / "bundle").manifest
    assert manifest.variants["fp32"].parity.pairs == again.variants["fp32"].parity.pairs + 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing", "bundle"], "hub cannot be reached"),
        (["{checkpoint}", "bundle", "--precision", "fp64"], "unknown precision 'fp64': use"),
        (["{checkpoint}", "bundle", "--pairs", "missing.parquet"], "no file 'missing.parquet'"),
        (["{checkpoint}", "bundle", "--revision", "main"], "local folder"),
        (["{checkpoint}", "bundle", "--max-length", "65"], "64 positions"),
        (["{checkpoint}", "bundle", "--max-length", "3"], "leaves no room"),
        (["{checkpoint}", "/"], "cannot be a bundle's name"),
        (["{checkpoint}", "{checkpoint}/config.json/bundle"], "cannot write the bundle"),
    ],
)
def test_bad_input_is_one_line_and_code_2(capsys, working_folder, checkpoint, arguments, message):
    source = str(checkpoint("bert"))
    code, out, errors = run(capsys, "export", "--quiet", *(each.format(checkpoint=source) for each in arguments))
    assert (code, out) == (2, "")
    assert errors.startswith("pairscore: error: ")
    assert errors.count("\n") == 1
    assert message in errors
    assert not list(working_folder.iterdir())


def test_a_broken_promise_is_one_line_and_code_1(capsys, tmp_path):
    checkpoint = build_checkpoint("bert", tmp_path / "checkpoint")
    scale_weights(checkpoint, "classifier.weight", 1e6)
    code, out, errors = run(capsys, "export", "--quiet", checkpoint, tmp_path / "bundle")
    assert (code, out) == (1, "")
    assert errors.count("\n") == 1
    assert "too far from PyTorch" in errors
    assert "pair " in errors
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_nothing(checkpoint, tmp_path, number, code):
    """Stopped once it says that it exports, which is after the staging folder was made."""
    command = [sys.executable, "-m", "pairscore.cli", "export", str(checkpoint("modernbert")), str(tmp_path / "bundle")]
    # A test run started in the background ignores SIGINT, and its children would inherit that.
    restored = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **restored) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("Reading")
        assert process.stderr.readline().startswith("Exporting")
        assert list(tmp_path.iterdir())
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == code
    assert not list(tmp_path.iterdir())


def test_help_needs_no_torch():
    """Help is quick: the heavy libraries are imported only by a run."""
    code = (
        "import sys\nfrom pairscore.cli import main\n"
        "for command in ('export', 'verify'):\n"
        "    try: main([command, '--help'])\n"
        "    except SystemExit as ended: assert ended.code == 0, ended.code\n"
        "assert not {'torch', 'transformers', 'onnx'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("absent", "arguments"),
    [
        ("torch", ["export", "a", "b"]),
        ("onnxscript", ["export", "a", "b"]),
        ("onnxruntime", ["verify", "a", "--reference", "b", "--pairs", "c"]),
    ],
)
def test_without_its_libraries_it_says_how_to_install_them(tmp_path, absent, arguments):
    code = (
        "import sys\n"
        f"sys.modules[{absent!r}] = None\n"  # Python's own way to make an import fail
        f"from pairscore.cli import main\nmain({arguments!r})\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert f"{absent}" in ended.stderr
    assert 'pip install "pairscore[export,cpu]"' in ended.stderr
