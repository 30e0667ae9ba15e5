"""Every code block of README.md and docs/ runs, page by page, in a folder as a reader would have it.

daily-jobs.md and verdicts.md have tests of their own; blocks on Ray and Spark run in tests/integrations.
What would install, build or take minutes is checked as far as that goes without doing it: `pip` has to name extras that
exist, `make` targets, `docker` a file, `pairscore bench` options.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pyarrow.parquet as pq
import pytest

from pairscore.benchmarks.command import bench
from tests.code_blocks import ROOT, code_blocks
from tests.command_line import run
from tests.hub import running_hub
from tests.pairs_files import write_pairs

OF_THEIR_OWN = {"docs/daily-jobs.md", "docs/verdicts.md"}
PAGES = sorted(
    {str(path.relative_to(ROOT)) for folder in (".", "docs", "benchmarks") for path in (ROOT / folder).glob("*.md")}
    - {"CHANGELOG.md", *OF_THEIR_OWN}
)  # fmt: skip
IN_INTEGRATIONS = ("integrations.ray", "integrations.spark")
SOURCE = "cross-encoder/ms-marco-MiniLM-L6-v2"


@pytest.fixture
def reader(exported, working_folder, monkeypatch):
    """A folder with a checkpoint, its bundle and pairs, as the pages name them."""
    checkpoint, bundle = exported("bert")
    Path(SOURCE).parent.mkdir()
    Path(SOURCE).symlink_to(checkpoint)
    shutil.copytree(bundle, "bundle")
    write_pairs(Path("pairs.parquet"), 60)
    table = pq.read_table("pairs.parquet")
    for language in ("en", "de"):
        folder = Path("pairs", f"lang={language}", "day=2024-02-01")
        folder.mkdir(parents=True)
        pq.write_table(table, folder / "0.parquet")
    monkeypatch.setenv("PAIRSCORE_CACHE", str(working_folder / "cache"))
    return working_folder


@pytest.mark.parametrize("page", [page for page in PAGES if code_blocks(page)])
def test_every_code_block_runs(page, reader, capsys):
    names: dict[str, object] = {}
    for language, code in code_blocks(page):
        if language == "python" and not any(name in code for name in IN_INTEGRATIONS):
            exec(compile(code, page, "exec"), names)
        elif language == "sh":
            if page == "README.md" and "pip install" in code:
                shutil.rmtree("bundle")  # a reader's first block makes it
            for line in code.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    follow(words, capsys)


def follow(words, capsys):
    """Do what a line of a shell block says."""
    program, *arguments = words
    if program == "pairscore" and arguments[0] == "bench":
        bench.make_context("bench", arguments[1:])
    elif program == "pairscore" and "org/name" in arguments:
        fetch_from_a_hub(arguments)
    elif program == "pairscore":
        if "int8" in arguments and arguments[0] == "export":
            # The logits of an untrained model lie so close together that rounding swaps some.
            arguments += ["--min-spearman", "0.95"]
        code, _, said = run(capsys, *arguments)
        if any(word.startswith("cuda") for word in arguments):
            assert code != 0
            assert "cuda" in said
        else:
            assert code == 0, f"{shlex.join(words)}: {said}"
    else:
        {"pip": named_by_pip, "make": named_by_make, "docker": named_by_docker}.get(program, is_a_program)(words)


def fetch_from_a_hub(arguments):
    with running_hub() as (hub, address):
        hub.put("org/name", Path("bundle"))
        environment = os.environ | {
            "HF_ENDPOINT": address, "HF_HOME": str(Path("hub").resolve()), "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "pairscore", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def named_by_pip(words):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words[2:]:
        named = re.match(r"pairscore\[(.*)\]$", word)
        assert not named or set(named[1].split(",")) <= extras.keys()


def named_by_make(words):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {word for word in words[1:] if "=" not in word} <= set(targets)


def named_by_docker(words):
    if words[1] == "build":
        assert (ROOT / words[words.index("-f") + 1]).is_file()


def is_a_program(words):
    assert os.access(ROOT / words[0], os.X_OK), words


def test_the_image_of_a_worker_starts_with_what_a_worker_needs():
    """What its instructions name is there; `make check-wheel` takes the same steps without Docker."""
    lines = (ROOT / "examples/Dockerfile").read_text().splitlines()
    installed = next(line for line in lines if "pip install" in line)
    named_by_pip(["pip", "install", *re.findall(r"pairscore\[.*?\]", installed.replace("-*.whl)", ""))])
    (entry,) = [line.removeprefix("ENTRYPOINT ") for line in lines if line.startswith("ENTRYPOINT")]
    assert entry == '["pairscore", "score", "/bundle"]'
    assert isinstance(bench, click.Command)
