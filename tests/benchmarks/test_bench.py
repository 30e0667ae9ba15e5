"""`pairscore bench`: real systems in processes of their own, and the page that tells of them."""

import json
import re
import statistics
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscore.benchmarks import command, roofline
from pairscore.benchmarks.bench import failures
from pairscore.benchmarks.loaders import Files
from pairscore.benchmarks.tables.page import render_page
from pairscore.benchmarks.tables.pictures import Series, plot
from pairscore.benchmarks.tables.table import markdown
from pairscore.benchmarks.tables.throughput import (
    best_peers,
    frontier,
    limits_table,
    measured,
    quotient,
    rate_text,
    remarks,
    throughput_table,
)  # fmt: skip
from pairscore.benchmarks.work import operations, padding_by_policy
from pairscore.benchmarks.worker import peak_memory
from pairscore.export.api import export_bundle
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


def test_a_benchmark_measures_and_tells(exported, pairs_file, tmp_path, capsys, monkeypatch):
    """The model reads the evidence first, and every system has to read it in that order: see the parity."""
    # Whether a tiny model passes the limit of a machine with others depends on the moment: see the next test.
    monkeypatch.setattr("pairscore.benchmarks.bench.failures", lambda result: [])
    checkpoint, bundle = exported("bert").checkpoint, tmp_path / "bundle"
    export_bundle(str(checkpoint), bundle, pair_order="evidence-claim")
    output = tmp_path / "bench"
    arguments = ("bench", bundle, "--reference", checkpoint, "--pairs", pairs_file, "--output", output, "--rounds", 2)
    code, printed, _ = run(capsys, *arguments, "--limit", 30, "--long", 5, "--label-column", "relevant", "--quiet")
    result = json.loads((output / "bench.json").read_text())
    assert code == 0
    assert not any("promise" in line for line in failures(result))
    assert "pairs/s" in printed
    assert result["data"]["pairs"] == 30
    reference, *ours = result["systems"]
    assert reference["name"] == result["reference"]
    assert reference["versions"]["torch"] == version("torch")
    assert "torch" not in ours[0]["versions"]
    assert {system["engine"] for system in ours} >= {"onnxruntime"}
    for system in ours:
        assert system["parity"]["max_logit_difference"] <= 1e-4
        assert system["violations"] == []
        assert len(system["seconds"]) == len(system["rounds"]) >= 1  # one where it is slow: the machine decides
        assert system["pairs_per_second"] == pytest.approx(30 / statistics.fmean(system["seconds"]))
        assert set(system["ranking"]) == {"MAP", "MRR@5", "NDCG@5"}
        assert system["stages"]["engine"]["seconds"] > 0
        assert system["limit_share"] > 0
    assert set(result["limits"]) >= {"fp32", "int8"}
    assert result["limits"]["fp32"]["library"] in ("onnxruntime", "openvino")
    long = result["long"]
    assert long["data"]["pairs"] == 5
    assert long["data"]["made"]
    assert [each["name"] for each in long["systems"]] == [each["name"] for each in result["systems"]]
    assert all(each["parity"]["pairs"] == 5 and each["violations"] == [] for each in long["systems"])
    page = (output / "bench.html").read_text()
    assert "&lt;b&gt;pairs.parquet" in page
    assert "<b>" not in page
    assert page.count("<svg") == 4
    assert "Long pairs" in page
    assert "<script" not in page
    links = set(re.findall(r"(?:https?:)?//[^\"'\s<]+", page))
    assert links <= {"http://www.w3.org/2000/svg"}  # a name, not an address that anything asks
    code, _, error = run(capsys, *arguments)
    assert code == 2
    assert "--overwrite" in error


def test_a_run_that_failed_is_written_and_ends_with_1(exported, pairs_file, tmp_path, capsys, monkeypatch):
    checkpoint, bundle = exported("bert")
    result = _result()
    result["systems"].append({**result["systems"][0], "name": "own", "ours": True, "violations": ["spearman 0.9"]})
    result["scores"]["own"] = [0.5]
    monkeypatch.setattr("pairscore.benchmarks.bench.run_bench", lambda *_, **__: result)
    arguments = ("bench", bundle, "--reference", checkpoint, "--pairs", pairs_file, "--output", tmp_path / "out")
    code, _, errors = run(capsys, *arguments)
    assert (code, errors) == (1, "Error: own breaks its promise: spearman 0.9\n")
    assert (tmp_path / "out" / "bench.html").exists()


def test_another_checkpoint_is_refused(exported, pairs_file, tmp_path, capsys):
    bundle = exported("bert").bundle
    other = exported("roberta").checkpoint
    code, _, error = run(
        capsys, "bench", bundle, "--reference", other, "--pairs", pairs_file, "--output", tmp_path / "out"
    )
    assert code == 2
    assert "give that checkpoint" in error
    assert not (tmp_path / "out").exists()


def test_without_what_draws_the_report_the_command_says_so(exported, pairs_file, tmp_path, capsys, monkeypatch):
    checkpoint, bundle = exported("bert")
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name))
    arguments = ("bench", bundle, "--reference", checkpoint, "--pairs", pairs_file, "--output", tmp_path / "out")
    code, _, error = run(capsys, *arguments)
    assert code == 2
    assert 'the report needs matplotlib: `pip install "pairscore[bench]"`' in error


def test_a_peer_that_cannot_run_says_why():
    result = _result()
    result["systems"].append({"name": "x<y", "tier": "fp32", "ours": False, "error": "no <module>"})
    page = render_page(result)
    assert "x&lt;y" in page
    assert "x&lt;y did not run: no &lt;module&gt;." in page


def test_what_a_reader_has_to_know_stands_below_both_tables():
    result = _result()
    result["rounds"] = 2
    peer = {**result["systems"][0], "name": "peer", "note": "leaves <out> half"}
    result["systems"].append(peer)
    result["systems"][0] = {**result["systems"][0], "seconds": [1.0, 2.0], "confirmed": False}
    assert remarks(result) == [
        "peer: leaves <out> half.",
        "Unstable: two rounds differ by more than 5 % for reference.",
    ]
    assert "leaves &lt;out&gt; half" in render_page(result)
    result["systems"][0]["others_share"] = [0.01, 0.08]  # less on average
    peer["others_share"] = [0.06]
    assert "at least 2 interleaved rounds; a system that is not much faster than the reference ran" in measured(result)
    assert remarks(result)[2:] == ["Other processes took more than 5 % of the processor time beside peer."]
    peer["others_share"] = [None]
    assert remarks(result)[2:] == []
    for system in result["systems"]:
        system["parity"]["spearman"] = 1.0
    assert "\npeer: leaves &lt;out> half.\n" in markdown(throughput_table(result))


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


def test_a_broken_promise_and_a_share_above_the_limit_fail_the_run():
    """A promise that ours breaks, not a peer's, stands below the table, too."""
    result = _result()
    own = {**result["systems"][0], "name": "pairscore int8", "ours": True, "violations": [], "limit_share": 0.99}
    result["systems"].append(own)
    assert failures(result) == []
    broken = {**own, "violations": ["spearman 0.9 (promised 1)"]}
    result["long"] = {**result, "systems": [broken, {**broken, "name": "a peer", "ours": False}]}
    assert failures(result) == ["pairscore int8 breaks its promise on long pairs: spearman 0.9 (promised 1)"]
    assert remarks(result["long"]) == ["Breaks its promise on these pairs: pairscore int8: spearman 0.9 (promised 1)."]
    own["limit_share"] = 1.01
    assert failures(result)[0].startswith("pairscore int8 reached 101% of the limit: ")


def test_the_fastest_peer_is_of_the_same_precision_and_computes_the_model():
    result = _result()
    reference = result["systems"][0]
    parity = {**reference["parity"], "spearman": 0.999}

    def add(name, tier, rate, spearman, *, ours=False):
        told = {"name": name, "tier": tier, "pairs_per_second": rate, "ours": ours}
        result["systems"].append({**reference, **told, "parity": {**parity, "spearman": spearman}})

    add("exact", "fp32", 20.0, 1.0)
    add("another model", "fp32", 90.0, 0.3)
    add("rough", "int8", 40.0, 0.98)
    add("pairscore int8", "int8", 60.0, 0.9999, ours=True)
    result["systems"].append({"name": "absent", "tier": "fp32", "ours": False, "error": "no"})
    assert {tier: each["name"] for tier, each in best_peers(result).items()} == {"fp32": "exact", "int8": "rough"}
    table = throughput_table(result, ("system", "to the fastest peer"))
    assert [row.cells[1] for row in table.rows] == ["0.50", "1.00", "4.50", "1.00", "1.50", "did not run: see below"]
    assert "absent did not run: no." in table.notes
    assert "The fastest other library is exact in fp32 and rough in int8." in table.notes


@pytest.mark.parametrize("library", roofline.LIBRARIES)
def test_the_limit_is_measured_by_shape_and_precision(library):
    """Ours of every instruction set."""
    expected = {"fp32"} if library == "onnxruntime" else {"fp32", "int8"}
    if library == "pairscore_kernels":
        isas = pytest.importorskip(library).available()
        expected = {"int8", *(f"int8-{isa}" for isa in isas[1:] if isa != "portable")}
    measure = roofline.rates(Files("", "", "", ""), library, 64, 128, 2)
    found = measure([("claim", "evidence")] * 5)[1]
    assert {name.split()[0] for name in found} >= expected
    assert {tuple(name.split()[1:]) for name in found} == {
        (rows, "64", outputs) for rows in ("512", "2048") for outputs in ("128", "192")
    }
    assert all(rate > 1e8 for rate in found.values())


def test_the_limit_is_the_best_of_libraries_and_shapes():
    runs = [("a", {"fp32 1 2 3": 5.0, "int8 1 2 3": 1.0}), ("b", {"fp32 4 5 6": 9.0}), ("a", {"fp32 1 2 3": 8.0})]
    assert roofline.best(runs) == {
        "fp32": {"operations_per_second": 9.0, "library": "b", "shape": [4, 5, 6]},
        "int8": {"operations_per_second": 1.0, "library": "a", "shape": [1, 2, 3]},
    }
    result = {**_result(), "limits": {"fp32": {**roofline.best(runs)["fp32"], "pairs_per_second": 7.0}}}
    result["systems"].append({**result["systems"][0], "name": "own", "ours": True, "pairs_per_second": 3.5})
    assert limits_table(result).rows[0].cells == ("fp32", "0 G", "b", "4 × 5 × 6", "7.00", "0.70", "own: 50%")


@given(st.floats(0.01, 1e6), st.floats(0.01, 1e6))
def test_a_ratio_is_the_quotient_of_the_two_rates_that_are_printed(rate, other):
    printed = [float(rate_text(each).replace(",", "")) for each in (rate, other)]
    assert quotient(rate, other) == pytest.approx(printed[0] / printed[1])
    assert printed[0] == pytest.approx(rate, rel=0.0051)


def test_the_frontier_holds_what_nothing_beats():
    def system(name, rate, difference):
        return {"name": name, "pairs_per_second": rate, "parity": {"max_score_difference": difference}}

    systems = [system("exact", 10, 0.0), system("fast", 20, 0.1), system("beaten", 9, 0.1), system("equal", 20, 0.1)]
    assert frontier(systems) == ["fast", "equal", "exact"]


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [1e-9, 1e4], [-3.0, 2.0]])
def test_a_plot_stays_inside_its_frame(values):
    picture = plot("t", "x", "y", [Series("s", [(value, value) for value in values])])
    drawn = re.split(r'id="t-series-0"', picture)[1].split("</g>")[0]
    points = re.findall(r'<use [^>]*x="([-\d.]+)" y="([-\d.]+)"', drawn)
    assert len(points) == len(values)
    for x, y in points:
        assert 44 <= float(x) <= 380
        assert 26 <= float(y) <= 226


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
        "statistic": "mean",
        "reference": "reference",
        "systems": [system],
        "padding": [],
        "scores": {"reference": [0.5]},
    }  # fmt: skip


def test_many_series_are_told_apart_by_numbers():
    series = [Series(f"system {place}", [(place, place)], ours=place == 2) for place in range(1, 9)]
    picture = plot("t", "x", "y", series, numbered=True)
    texts = re.findall(r"<text[^>]*>([^<]+)</text>", picture)
    assert [int(text) for text in texts if re.fullmatch("[1-8]", text)][-8:] == list(range(1, 9))
    assert "2 system 2" in [" ".join(text.split()) for text in texts]
    assert "fill: var(--c1)" in re.split('id="t-series-1"', picture)[1].split("</g>")[0]
    assert "fill: var(--c0)" in re.split('id="t-series-2"', picture)[1].split("</g>")[0]
    assert "#" not in re.sub(
        r'(href="|url\()#', "", re.sub(r"<style>.*?</style>", "", picture)
    )  # colours are variables
