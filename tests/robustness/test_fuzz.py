"""Some dozens of damaged inputs, manifests, plans, records, parts, tunings and command lines: each ends as it should.

`make fuzz CASES=5000` runs more of them.
"""

import pytest

from tests.robustness.cases import KINDS, kind_of, tiny_bundle
from tests.robustness.fuzz import run_cases, run_command

CASES = 60


@pytest.mark.timeout(900)
def test_no_damage_ends_in_a_traceback(tmp_path_factory, tmp_path):
    pytest.importorskip("pairscore_kernels", reason="pairscore-kernels is not installed: pip install ./kernels")
    numbers = [f"0:{case}" for case in range(CASES)]
    results = list(run_cases(numbers, tiny_bundle(tmp_path_factory.mktemp("bundle")), tmp_path))
    assert sorted(result.number for result in results) == sorted(numbers)
    assert [result for result in results if result.problem] == []
    assert {kind_of(number) for number in numbers} == set(KINDS)
    assert {result.code for result in results} >= {0, 2}


def test_a_traceback_would_be_seen(monkeypatch):
    monkeypatch.setattr("pairscore.runtime.command.describe", {}.popitem)
    code, said = run_command(["info", "nothing"])
    assert code == 70
    assert "a fault of pairscore's own" in said
