"""What a release says of itself agrees, and the command line can be started and set in every promised way."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from pairscore.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "pairscore", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_citation_is_of_this_release():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["title"], citation["version"]) == (PROJECT["name"], PROJECT["version"])
    assert (citation["license"], citation["repository-code"]) == (PROJECT["license"], PROJECT["urls"]["Homepage"])


def test_the_changelog_dates_this_release():
    dated = re.findall(r"^## \[(.+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert dated[0] == (PROJECT["version"], str(citation["date-released"]))


def test_the_kernels_name_their_own_release():
    kernels = ROOT / "kernels"
    release = tomllib.loads((kernels / "pyproject.toml").read_text())["project"]["version"]
    assert f'__version__ = "{release}"' in (kernels / "src/pairscore_kernels/__init__.py").read_text()


def test_the_workflow_checks_every_python_that_the_package_names():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    named = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", each)]
    check = workflow["jobs"]["check"]
    assert check["strategy"]["matrix"]["python"] == named
    assert named[0] == PROJECT["requires-python"].removeprefix(">=")
    assert any(step.get("run") == ".ci/run" for step in check["steps"])
    built = workflow["jobs"]["kernels"]["steps"][1]["env"]["CIBW_BUILD"]
    assert re.findall(r"cp3(\d+)-", built) == [each.partition(".")[2] for each in named]


def test_python_m_pairscore():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"pairscore, version {PROJECT['version']}\n")


def test_an_option_has_a_default_from_the_environment(tmp_path):
    done = run("info", "no-such-bundle", PAIRSCORE_INFO_REVISION="v9")
    assert (done.returncode, "only those have revisions: drop --revision" in done.stderr) == (2, True)
    assert "revision" not in run("info", "no-such-bundle").stderr
    done = run("score", "b", "i", PAIRSCORE_SCORE_ON_NULL="sometimes")
    assert (done.returncode, "'sometimes' is not one of 'error', 'null'" in done.stderr) == (2, True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell):
    script = run(_PAIRSCORE_COMPLETE=f"{shell}_source")
    assert script.returncode == 0
    assert "_PAIRSCORE_COMPLETE" in script.stdout
    words = {"COMP_WORDS": "pairscore ", "COMP_CWORD": "1"}
    if shell == "bash":
        offered = run(_PAIRSCORE_COMPLETE="bash_complete", **words).stdout.split()
        assert offered == [f"plain,{name}" for name in COMMANDS]
