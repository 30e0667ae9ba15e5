"""The report says what the JSON says; the measuring code measures real systems."""

import json
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.throughput import mean_tokens, read_pairs


@pytest.mark.parametrize("page", report.PAGES, ids=lambda path: str(path.relative_to(path.parents[1])))
def test_pages_equal_the_committed_results(page: Path) -> None:
    assert report.rendered(page.read_text()) == page.read_text(), "run `python -m benchmarks.report`"


def test_a_figure_changed_by_hand_is_seen() -> None:
    page = (report.PAGES[0]).read_text()
    result = json.loads((report.RESULTS / "throughput.json").read_text())
    figure = f"| {result['systems'][0]['pairs_per_second']:.0f} |"
    assert figure in page
    assert report.rendered(page.replace(figure, "| 999999 |")) == page


def test_pairs_are_shuffled_the_same_way_every_time() -> None:
    path = Path(__file__).parents[1] / "examples" / "claims.parquet"
    pairs = read_pairs(path, 50)
    assert pairs == read_pairs(path, 50)
    assert len({claim for claim, _ in pairs}) > 5


def test_mean_tokens_counts_specials(checkpoint) -> None:
    file = checkpoint("bert") / "tokenizer.json"
    assert mean_tokens(file, [("", "")]) == 3
