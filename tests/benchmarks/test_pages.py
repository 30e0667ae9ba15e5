"""The report says what the JSON says; the measuring code measures real systems."""

import io
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pairscore.benchmarks.agreement import compare
from pairscore.benchmarks.environment import onnx_int8_configuration
from pairscore.benchmarks.samples import long_pairs, made_pairs, sample, token_lengths
from pairscore.benchmarks.tables.table import Row, Table, markdown, terminal
from pairscore.benchmarks.tables.throughput import rate_text
from studies import pages as report
from tests import corpus


@pytest.mark.parametrize("page", report.PAGES, ids=lambda path: str(path.relative_to(path.parents[1])))
def test_pages_equal_the_committed_results(page: Path) -> None:
    assert report.rendered(page.read_text()) == page.read_text(), "run `python -m studies.pages`"


def test_pictures_equal_the_committed_results() -> None:
    """But for the last digits of a place, which may differ with Matplotlib's build."""
    number = re.compile(r"(?<![#\w])-?\d+\.?\d*")
    drawn = report.drawn()
    assert {path.name for path in drawn} == {path.name for path in report.RESULTS.glob("*.svg")}
    for path, text in drawn.items():
        committed = path.read_text()
        assert number.sub("0", committed) == number.sub("0", text), "run `python -m studies.pages`"
        np.testing.assert_allclose(*([float(each) for each in number.findall(t)] for t in (committed, text)), atol=0.5)


def test_a_figure_changed_by_hand_is_seen() -> None:
    page = (report.ROOT / "benchmarks/processors.md").read_text()
    result = report.load("throughput-avx2")
    figure = f"| {rate_text(result['systems'][0]['pairs_per_second'])} |"
    assert figure in page
    assert report.rendered(page.replace(figure, "| 999999 |")) == page


def test_every_committed_result_has_its_tables() -> None:
    pages = "".join(page.read_text() for page in report.PAGES)
    assert [name for name in report.tables() if f"<!-- {name}:begin -->" not in pages] == []
    published = {path.stem for path in report.RESULTS.glob("*.json")}
    assert {f"throughput-{kind}" for kind in report.kinds()} == {
        name for name in published if name.startswith("throughput-") and "-again" not in name
    }


def table_rows(page: str, name: str) -> list[dict[str, str]]:
    """The rows of a page's table by heading."""
    text = page.split(f"<!-- {name}:begin -->\n")[1].split(f"<!-- {name}:end -->", maxsplit=1)[0]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [dict(zip(cells[0], row, strict=False)) for row in cells[2:]]


def number(cell: str) -> float:
    return float(cell.replace(",", "").rstrip("%").lstrip("$"))


def test_the_first_table_holds_quotients_of_the_rates_that_stand_in_it() -> None:
    rows = table_rows((report.ROOT / "benchmarks/README.md").read_text(), "processors")
    assert {row["processor"].partition(":")[0] for row in rows} >= {"AVX2", "AVX-512 with VNNI", "AMX", "GPU"}
    for row in rows:
        ours, torch, peer = (number(row[name] or "0") for name in ("pairs/s", "PyTorch fp32, pairs/s", "its pairs/s"))
        assert row["to PyTorch"] == f"{ours / torch:.2f}"
        assert row["to that library"] == (f"{ours / peer:.2f}" if peer else "")


def test_a_billion_pairs_cost_what_the_first_tables_rates_say() -> None:
    rates = table_rows((report.ROOT / "benchmarks/README.md").read_text(), "processors")
    rows = table_rows((report.ROOT / "docs/billion-pairs.md").read_text(), "billion")
    assert [(row["processor"], row["pairs/s"]) for row in rows] == [(row["processor"], row["pairs/s"]) for row in rates]
    for row in rows:
        if row["core-hours"]:
            cores = int(row["processor"].split(": ")[1].split()[0])
            hours = 1e9 / number(row["pairs/s"]) * cores / 3600 * 1.25
            assert number(row["core-hours"]) == pytest.approx(hours, rel=0.006)
            assert number(row["on demand"]) == pytest.approx(hours * 0.05, abs=1, rel=0.006)


def test_the_page_says_how_far_the_committed_runs_are_apart() -> None:
    """All systems, and ours."""
    first, again = report.load("throughput-avx2"), report.load("throughput-avx2-again")
    ours = {each["name"] for each in first["systems"] if each["ours"]}
    apart = {each.name: each.difference or 0 for each in compare(first, again)}
    said = report.agreement_lines("avx2")
    assert f"differed by at most {max(apart.values()):.1%} " in said
    assert f"ours by {max(apart[name] for name in ours):.1%}." in said


def test_a_run_of_another_commit_says_nothing_about_noise(monkeypatch) -> None:
    def changed(name):
        result = load(name)
        return result | {"environment": result["environment"] | {"commit": name}}

    load = report.load
    monkeypatch.setattr(report, "load", changed)
    assert report.agreement_lines("avx2") == "No other run of this commit is published."


def test_a_result_is_published_under_its_processor(tmp_path, monkeypatch) -> None:
    result = report.load("throughput-avx512")
    (tmp_path / "bench.json").write_text(json.dumps(result))
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    for again, name in ((False, "throughput-avx512.json"), (True, "throughput-avx512-again.json")):
        report.publish(tmp_path / "bench.json", again=again)
        assert json.loads((tmp_path / name).read_text()) == result


def test_a_sample_takes_whole_claims_and_is_the_same_every_time() -> None:
    pairs = [(f"claim {row % 20}", f"evidence {row}") for row in range(200)]
    rows = sample(pairs, 55)
    assert rows == sample(pairs, 55)
    assert len(set(rows)) == 55
    counts = sorted(Counter(pairs[row][0] for row in rows).values())
    assert counts == [5, 10, 10, 10, 10, 10]
    assert sorted(sample(pairs, None)) == list(range(200))


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


def test_a_table_is_the_same_in_markdown_and_in_a_terminal() -> None:
    rows = (Row(("a|b<i>", "1"), ours=True), Row(("[red]", "x")))
    table = Table(("system", "pairs/s"), rows, ("Note <b>.",))
    assert markdown(table).splitlines() == [
        "| system | pairs/s |",
        "|---|--:|",
        "| **a\\|b&lt;i>** | 1 |",
        "| [red] | x |",
        "",
        "Note &lt;b>.",
    ]
    text = io.StringIO()
    Console(file=text, width=60).print(terminal(table))
    assert all(cell in text.getvalue() for cell in ("a|b<i>", "[red]", "system", "pairs/s"))


def test_a_row_with_fewer_cells_is_filled() -> None:
    assert markdown(Table(("a", "b", "c"), (Row(("x", "did not run")),))).endswith("| x | did not run |  |")


def test_long_pairs_are_those_of_the_file_or_made(checkpoint) -> None:
    file = checkpoint("bert") / "tokenizer.json"
    short = [(f"claim {row} {text}", text) for row, text in enumerate(corpus.SENTENCES)]
    assert token_lengths(file, [("", "")]) == [3]  # special tokens count
    made, were_made = long_pairs(file, short, 20)
    assert were_made
    lengths = token_lengths(file, made)
    assert len(made) == 20
    assert 250 <= min(lengths) < 300
    assert 450 < max(lengths) <= 520
    long = [pair for pair, length in zip(made, lengths, strict=True) if 256 <= length <= 512][:3]
    assert long_pairs(file, [*short, *long], 3) == (long, False)
    assert long_pairs(file, [*short, *long[1:]], 3)[1]


def test_made_pairs_are_different_and_of_the_wanted_length(checkpoint) -> None:
    file = checkpoint("bert") / "tokenizer.json"
    texts = [(f"claim {row} {text}", " ".join(corpus.SENTENCES)) for row, text in enumerate(corpus.SENTENCES)]
    made = made_pairs(file, texts, 90, 30, 50)
    assert len(set(made)) == 90
    assert np.mean(token_lengths(file, made)) == pytest.approx(40, abs=1.5)
    with pytest.raises(ValueError, match="no words"):
        made_pairs(file, [("claim", " ")], 5, 30, 50)
