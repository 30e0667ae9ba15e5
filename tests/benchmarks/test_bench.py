"""`pairscore bench`: real systems in processes of their own, and the page that tells of them."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscore.benchmarks.tables.pages import throughput_table
from pairscore.benchmarks.tables.report_page import frontier, remarks, render_page
from pairscore.benchmarks.work import operations, padding_by_policy
from pairscore.benchmarks.worker import peak_memory, share_of_others
from pairscore.runtime.report.pictures import Series, plot
from tests import corpus
from tests.command_line import run


@pytest.fixture
def pairs_file(tmp_path):
    rows = [(claim, text) for claim in corpus.SENTENCES[:4] for text in corpus.SENTENCES[4:14]]
    claims, evidence = map(list, zip(*rows, strict=True))
    labels = [place % 3 == 0 for place in range(len(rows))]
    path = tmp_path / "<b>pairs.parquet"
    pq.write_table(pa.table({"claim": claims, "evidence": evidence, "relevant": labels}), path)
    return path


def test_a_benchmark_measures_and_tells(exported, pairs_file, tmp_path, capsys):
    checkpoint, bundle = exported("bert")
    output = tmp_path / "bench"
    arguments = ("bench", bundle, "--reference", checkpoint, "--pairs", pairs_file, "--output", output, "--rounds", 2)
    code, printed, _ = run(capsys, *arguments, "--limit", 30, "--label-column", "relevant", "--quiet")
    assert code == 0
    assert "pairs/s" in printed
    result = json.loads((output / "bench.json").read_text())
    assert result["data"]["pairs"] == 30
    reference, *ours = result["systems"]
    assert reference["name"] == result["reference"]
    assert reference["versions"]["torch"] == version("torch")
    assert "torch" not in ours[0]["versions"]
    assert {system["engine"] for system in ours} >= {"onnxruntime"}
    for system in ours:
        assert system["parity"]["max_logit_difference"] <= 1e-4
        assert system["violations"] == []
        assert len(system["seconds"]) == len(system["rounds"]) >= 2
        assert system["pairs_per_second"] == 30 / min(system["seconds"])
        assert system["ratio"] == min(reference["seconds"]) / min(system["seconds"])
        assert set(system["ranking"]) == {"MAP", "MRR@5", "NDCG@5"}
        assert system["stages"]["engine"]["seconds"] > 0
        assert system["gemm_share"] > 0
    assert {each["pairs"] for each in result["by_length"]} == {40}  # also of those that are not timed
    page = (output / "bench.html").read_text()
    assert "&lt;b&gt;pairs.parquet" in page
    assert "<b>" not in page
    assert page.count("<svg") == 6
    assert "<script" not in page
    links = set(re.findall(r"(?:https?:)?//[^\"'\s<]+", page))
    assert links <= {"http://www.w3.org/2000/svg"}  # a name, not an address that anything asks
    code, _, error = run(capsys, *arguments)
    assert code == 2
    assert "--overwrite" in error


def test_another_checkpoint_is_refused(exported, pairs_file, tmp_path, capsys):
    bundle = exported("bert").bundle
    other = exported("roberta").checkpoint
    code, _, error = run(
        capsys, "bench", bundle, "--reference", other, "--pairs", pairs_file, "--output", tmp_path / "out"
    )
    assert code == 2
    assert "give that checkpoint" in error
    assert not (tmp_path / "out").exists()


def test_a_peer_that_cannot_run_says_why():
    result = _result()
    result["systems"].append({"name": "x<y", "tier": "fp32", "ours": False, "error": "no <module>"})
    page = render_page(result)
    assert "x&lt;y" in page
    assert "did not run: no &lt;module&gt;" in page


def test_what_a_reader_has_to_know_stands_below_both_tables():
    result = _result()
    result["rounds"] = 2
    peer = {**result["systems"][0], "name": "peer", "note": "leaves <out> half", "confirmed": False}
    result["systems"].append(peer)
    result["systems"][0] = {**result["systems"][0], "seconds": [1.0, 2.0], "confirmed": False}
    assert remarks(result) == [
        "peer: leaves <out> half.",
        "Much slower than the reference, so measured in fewer rounds: peer.",
        "The fastest run is faster than all others by more than 3%: reference.",
    ]
    assert "leaves &lt;out&gt; half" in render_page(result)
    result["systems"][0]["others_share"] = [0.0, 0.5]  # the second run is the slower one
    peer["others_share"] = [0.06]
    assert remarks(result)[3:] == ["Other processes took more than 5% of the processors during the fastest run: peer."]
    peer["others_share"] = [None]
    assert remarks(result)[3:] == []
    for system in result["systems"]:
        system["parity"]["spearman"] = 1.0
    result["environment"]["commit"] = "c"
    assert "\npeer: leaves &lt;out> half.\n" in throughput_table(result)


def test_memory_is_that_of_a_process_and_of_those_that_it_started():
    before = peak_memory()
    program = "held = bytearray(b'1' * 100_000_000); print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        together = peak_memory()
        child.stdin.write(b"\n")
        child.stdin.flush()
    assert together - before > 90_000_000


def test_theshare_of_others_is_what_neither_process_nor_idleness_took():
    """In 2 s, the machine worked 2.5 s a core, of which this process worked 1.5 s a core."""
    cores = os.cpu_count() or 1
    assert share_of_others((10.0, 1.0), (10.0 + 2.5 * cores, 1.0 + 1.5 * cores), 2.0) == pytest.approx(0.5)
    assert share_of_others((10.0, 1.0), (10.0, 1.1), 2.0) == 0.0
    assert share_of_others(None, (1.0, 1.0), 2.0) is None


def test_a_broken_promise_stands_below_the_table():
    result = _result()
    own = {**result["systems"][0], "name": "pairscore bf16", "ours": True, "violations": ["spearman 0.9 (promised 1)"]}
    theirs = {**own, "name": "a peer", "ours": False}
    result["systems"] += [own, theirs]
    assert remarks(result) == ["Breaks its promise on these pairs: pairscore bf16: spearman 0.9 (promised 1)."]


def test_the_frontier_holds_what_nothing_beats():
    def system(name, rate, difference):
        return {"name": name, "pairs_per_second": rate, "parity": {"max_score_difference": difference}}

    systems = [system("exact", 10, 0.0), system("fast", 20, 0.1), system("beaten", 9, 0.1), system("equal", 20, 0.1)]
    assert frontier(systems) == ["fast", "equal", "exact"]


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [1e-9, 1e4], [-3.0, 2.0]])
def test_a_plot_stays_inside_its_frame(values):
    picture = plot("t", "x", "y", [Series("s", [(value, value) for value in values])])
    for x, y in re.findall(r'<circle cx="([-\d.]+)" cy="([-\d.]+)"', picture)[: len(values)]:
        assert 0 <= float(x) <= 400
        assert 0 <= float(y) <= 240


@given(st.lists(st.integers(1, 60), min_size=1, max_size=100), st.integers(1, 300))
def test_padding_is_counted_right(lengths, budget):
    found = {each["policy"]: each["padding_share"] for each in padding_by_policy(lengths, lengths, budget)}
    padded = sum(
        max(lengths[start : start + 32]) * len(lengths[start : start + 32]) for start in range(0, len(lengths), 32)
    )
    assert found["32 pairs, in the order given"] == pytest.approx(1 - sum(lengths) / padded)
    assert found["32 pairs, sorted by characters"] == found["32 pairs, sorted by tokens"]
    assert all(0 <= share < 1 for share in found.values())


def test_operations_by_hand():
    """One layer, hidden 2, inner 3, one pair of 5 tokens.

    Weights: four 2x2 and two 2x3 matrices, 28 numbers, so 56 operations a token and 280 in all. Attention: scores and
    sums, each 2 * 5 * 5 * 2 = 100 operations. With the first row only, keys and values (16 a token) stay whole: 80, the
    other 40 are done once, and attention is one row: 2 * (2 * 5 * 2) = 40.
    """
    config = {"hidden_size": 2, "intermediate_size": 3, "num_hidden_layers": 1}
    assert operations(config, [5], first_row_only=False) == 280 + 200
    assert operations(config, [5], first_row_only=True) == 80 + 40 + 40
    assert operations({"unknown": 1}, [5], first_row_only=False) is None


def _result():
    system = {
        "name": "reference",
        "tier": "fp32",
        "ours": False,
        "seconds": [1.0],
        "pairs_per_second": 10.0,
        "tokens_per_second": 100.0,
        "ratio": 1.0,
        "peak_memory_bytes": 1,
        "violations": [],
        "parity": {
            "max_logit_difference": 0.0,
            "mean_logit_difference": 0.0,
            "max_score_difference": 0.0,
            "spearman": None,
            "top1_agreement": None,
        },
    }
    return {
        "environment": {
            "processor": "p", "cores": 1, "time": "t", "system": "s", "instruction_sets": [],
            "versions": {}, "commit": None,
        },
        "checkpoint": "c",
        "data": {"file": "f", "sha256": "d", "pairs": 1, "mean_tokens": 2.0},
        "rounds": 1,
        "reference": "reference",
        "systems": [system],
        "by_length": [],
        "by_threads": [],
        "padding": [],
        "scores": {"reference": [0.5]},
    }  # fmt: skip


def test_many_series_are_told_apart_by_numbers_and_counts_have_whole_ticks():
    series = [Series(f"system {place}", [(place, place)], ours=place == 2) for place in range(1, 9)]
    picture = plot("t", "x", "y", series, numbered=True)
    assert [int(number) for number in re.findall(r'class="number"[^>]*>(\d+)<', picture)] == list(range(1, 9))
    assert ">2  system 2</text>" in picture
    assert picture.count('fill="var(--c1)"') == 2  # the point that is ours, and its place in the legend
    ticks = plot("t", "x", "y", [Series("s", [(1, 5), (2, 9)])], lines=True, whole_x=True)
    assert re.findall(r'text-anchor="middle">([^<]+)<', ticks) == ["1", "2"]
