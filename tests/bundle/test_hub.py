"""Bundles from a hub: fetched once, checked like any other, and one line for whatever goes wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest

from pairscore import PairscoreError, Scorer
from pairscore.runtime.bundle.hub import find_bundle
from pairscore.runtime.bundle.manifest import sha256
from tests.hub import running_hub

PAIRS = [("Sea level rises.", "Tide gauges show a rise of 20 cm."), ("Ice melts.", "It is warm.")]
EXAMPLES = Path(__file__).parents[2] / "examples" / "claims.parquet"


@pytest.fixture
def hub():
    with running_hub() as (hub, address):
        hub.address = address
        yield hub


@pytest.fixture
def program(hub, tmp_path):
    """`program("score", ...)`: run pairscore in a process of its own against the hub, with a cache of its own."""

    def run(*arguments, code=None):
        environment = os.environ | {
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_TOKEN": "hf_test",
        }
        environment |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        command = ["-m", "pairscore"] if code is None else ["-c", code]
        return subprocess.run(
            [sys.executable, *command, *map(str, arguments)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_score_from_a_hub_fetches_once(hub, program, exported, tmp_path):
    bundle = exported("bert").bundle
    commit = hub.put("org/model", bundle)
    first = program("score", "org/model", EXAMPLES, "--output", tmp_path / "first.parquet", "--limit", 20)
    assert first.returncode == 0, first.stderr
    files = json.loads((bundle / "pairscore.json").read_text())["files"]
    assert sorted(hub.downloads()) == sorted(
        [
            next(each for each in hub.downloads() if each.endswith("pairscore.json")),
            *(f"{commit}/{name}" for name in files),
        ]
    )
    fetched = len(hub.downloads())
    second = program("score", "org/model", EXAMPLES, "--output", tmp_path / "second.parquet", "--limit", 20)
    assert second.returncode == 0, second.stderr
    assert len(hub.downloads()) == fetched
    local = program("score", bundle, EXAMPLES, "--output", tmp_path / "local.parquet", "--limit", 20)
    assert local.returncode == 0, local.stderr
    scores = [pq.read_table(tmp_path / f"{name}.parquet")["score"].to_pylist() for name in ("first", "second", "local")]
    assert scores[0] == scores[1] == scores[2]


def test_the_files_of_other_variants_are_not_fetched(hub, program, small_bundle, tmp_path):
    folder = shutil.copytree(small_bundle(), tmp_path / "bundle")
    manifest = json.loads((folder / "pairscore.json").read_text())
    graph = folder / "onnx" / "model_int8.onnx"
    model = onnx.load(folder / "onnx" / "model.onnx")
    model.doc_string = "the same graph in another file"  # a cache keeps equal files once
    onnx.save(model, graph)
    manifest["files"]["onnx/model_int8.onnx"] = sha256(graph)
    exact = manifest["variants"]["fp32"]
    manifest["variants"]["int8"] = {**exact, "precision": "int8", "files": ["onnx/model_int8.onnx"]}
    (folder / "pairscore.json").write_text(json.dumps(manifest))
    hub.put("org/two", folder)
    for precision, fetched in (("fp32", False), ("int8", True), ("auto", True)):
        done = program("score", "org/two", EXAMPLES, "-o", tmp_path / precision, "--limit", 9, "--precision", precision)
        assert done.returncode == 0, done.stderr
        assert any(each.endswith("model_int8.onnx") for each in hub.downloads()) is fetched


def test_revisions_and_a_file_that_changed(hub, program, exported, tmp_path):
    old = hub.put("org/model", exported("bert").bundle, "v1")
    changed = shutil.copytree(exported("bert").bundle, tmp_path / "changed")
    (changed / "tokenizer.json").write_text((changed / "tokenizer.json").read_text() + "\n")
    hub.put("org/model", changed)
    told = program("info", "org/model", "--revision", "v1", "--json")
    assert told.returncode == 0, told.stderr
    assert old in json.loads(told.stdout)["bundle"]
    broken = program("info", "org/model")
    assert (broken.returncode, "has changed since its export" in broken.stderr) == (2, True)
    absent = program("info", "org/model", "--revision", "v2")
    assert (absent.returncode, absent.stderr) == (
        2,
        "pairscore: error: 'org/model' has no revision 'v2': check --revision\n",
    )


def test_what_is_not_there(hub, program, exported):
    hub.put("org/checkpoint", exported("bert").checkpoint)
    for name, message in {
        "org/checkpoint": "'org/checkpoint' on the hub is not a bundle (it has no pairscore.json): `pairscore export",
        "org/nothing": "no bundle folder and no Hugging Face model 'org/nothing': check the name",
    }.items():
        told = program("info", name)
        assert told.returncode == 2
        assert message in told.stderr
        assert told.stderr.count("\n") == 1


def test_hf_upload_is_all_that_sharing_takes(hub, program, exported):
    """The line that README gives, then a scorer from what it uploaded."""
    bundle = exported("bert").bundle
    tool = "from huggingface_hub.cli.hf import main; main()"
    uploaded = program("upload", "org/shared", bundle, code=tool)
    assert uploaded.returncode == 0, uploaded.stderr
    opened = "Scorer.from_pretrained('org/shared', revision='main')"
    code = f"from pairscore import Scorer; print(*{opened}.predict({PAIRS!r}))"
    scored = program(code=code)
    assert scored.returncode == 0, scored.stderr
    expected = Scorer.from_pretrained(bundle).predict(PAIRS)
    np.testing.assert_allclose([float(each) for each in scored.stdout.split()], expected, atol=1e-6)


def test_a_checkpoint_of_modules_comes_from_a_hub_with_its_modules(hub, program, checkpoint):
    hub.put("org/ettin", checkpoint("ettin"))
    code = "from pairscore.export.checkpoint import open_checkpoint; print(open_checkpoint('org/ettin').source.digest)"
    told = program(code=code)
    assert told.returncode == 0, told.stderr
    from pairscore.export.checkpoint import open_checkpoint

    assert told.stdout.strip() == open_checkpoint(str(checkpoint("ettin"))).source.digest
    assert not any(path.endswith("README.md") for path in hub.downloads())


def test_a_folder_is_never_looked_for_on_a_hub(working_folder):
    """Neither one that is there, nor a name whose first part is a folder here: that is a mistyped path."""
    Path("out").mkdir()
    assert find_bundle("out/bundle") == Path("out/bundle")
    with pytest.raises(PairscoreError, match="no bundle at 'out/bundle'"):
        Scorer.from_pretrained("out/bundle")
    with pytest.raises(PairscoreError, match="only those have revisions: drop --revision"):
        find_bundle("out", "main")


def test_without_a_network():
    with pytest.raises(
        PairscoreError, match="no bundle folder 'org/model', and the Hugging Face hub cannot be reached"
    ):
        Scorer.from_pretrained("org/model")
