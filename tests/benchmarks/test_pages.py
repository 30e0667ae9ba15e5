"""The report says what the JSON says; the measuring code measures real systems."""

import json
from collections import Counter
from pathlib import Path

import pytest

from pairscore.benchmarks.agreement import WITHIN, compare
from pairscore.benchmarks.environment import onnx_int8_configuration
from pairscore.benchmarks.tables import pages as report
from pairscore.benchmarks.throughput import mean_tokens, sample


@pytest.mark.parametrize("page", report.PAGES, ids=lambda path: str(path.relative_to(path.parents[1])))
def test_pages_equal_the_committed_results(page: Path) -> None:
    assert report.rendered(page.read_text()) == page.read_text(), "run `python -m pairscore.benchmarks.tables.pages`"


def test_pictures_equal_the_committed_results() -> None:
    for path, text in report.drawn().items():
        assert path.read_text() == text, "run `python -m pairscore.benchmarks.tables.pages`"


def test_a_figure_changed_by_hand_is_seen() -> None:
    page = (report.PAGES[0]).read_text()
    result = json.loads((report.RESULTS / "throughput.json").read_text())
    figure = f"| {result['systems'][0]['pairs_per_second']:.0f} |"
    assert figure in page
    assert report.rendered(page.replace(figure, "| 999999 |")) == page


def test_the_committed_runs_agree() -> None:
    results = [json.loads((report.RESULTS / name).read_text()) for name in ("throughput.json", "throughput-again.json")]
    assert all(each.agrees(WITHIN) for each in compare(*results))


def test_the_steps_of_make_bench_are_added_up() -> None:
    steps = [{"name": "a", "seconds": 30.0}, {"name": "b", "seconds": 60.4}]
    assert report.steps_line(steps) == "The steps of `make bench` add up to 1.5 minutes: a 30 s, b 60 s."


def test_a_sample_takes_whole_claims_and_is_the_same_every_time() -> None:
    pairs = [(f"claim {row % 20}", f"evidence {row}") for row in range(200)]
    rows = sample(pairs, 55)
    assert rows == sample(pairs, 55)
    assert len(set(rows)) == 55
    counts = sorted(Counter(pairs[row][0] for row in rows).values())
    assert counts == [5, 10, 10, 10, 10, 10]
    assert sorted(sample(pairs, None)) == list(range(200))


def test_mean_tokens_counts_specials(checkpoint) -> None:
    file = checkpoint("bert") / "tokenizer.json"
    assert mean_tokens(file, [("", "")]) == 3


@pytest.mark.parametrize(
    ("machine", "sets", "expected"),
    [
        ("aarch64", [], "arm64"),
        ("x86_64", ["avx2"], "avx2"),
        ("x86_64", ["avx2", "avx512f"], "avx512"),
        ("AMD64", ["avx2", "avx512f", "avx512_vnni"], "avx512_vnni"),
    ],
)
def test_the_int8_peer_is_quantized_for_the_processor(machine, sets, expected) -> None:
    assert onnx_int8_configuration(machine, sets) == expected
