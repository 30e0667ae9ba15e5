"""`pairscore show`: what it says of an output is what a look at all rows gives."""

import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.run import run_job
from pairscore.runtime.report.pictures import histogram
from pairscore.runtime.report.survey import Histogram, survey
from tests.command_line import run
from tests.pairs_files import AtPart, job, read_output, write_pairs


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return small_bundle()


@pytest.fixture(scope="module")
def output(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    for place in range(2):
        write_pairs(folder / "data" / f"{place}.parquet", 150, seed=place, null_every=30)
    run_job(job(bundle, folder / "data", folder / "out", on_null="null"))
    return folder / "out"


def test_a_survey_counts_what_is_there(output):
    seen, table = survey(str(output), claims=4, rows=3), read_output(output)
    scores = table["score"].drop_null().to_numpy()
    assert (seen.rows, seen.unscored, seen.files, seen.whole) == (300, 10, 6, True)
    assert seen.scores["score"].counts.tolist() == np.histogram(scores, np.linspace(0, 1, 21))[0].tolist()
    rows = [row for row in table.to_pylist() if row["score"] is not None]
    median = np.median([len(row["evidence"]) for row in rows])
    assert median / 2 <= seen.lengths["evidence"].quantile(0.5) <= 2 * median
    assert seen.lengths["claim"].counts.sum() == len(rows)
    assert len(seen.claims) == 4
    for claim in seen.claims:
        mine = sorted((row for row in rows if row["claim"] == claim.claim), key=lambda row: -row["score"])
        assert claim.rows == len(mine)
        assert [row.score for row in claim.best] == [row["score"] for row in mine[:3]]
        worst = mine[max(3, len(mine) - 3) :]
        assert sorted(row.score for row in claim.worst) == sorted(row["score"] for row in worst)
        assert all(table["evidence"][row.place].as_py() == row.evidence for row in [*claim.best, *claim.worst])


def test_each_label_has_its_best_evidence(small_bundle, tmp_path, capsys):
    write_pairs(tmp_path / "data.parquet", 200)
    run_job(job(small_bundle(3), tmp_path / "data.parquet", tmp_path / "out", activation="softmax"))
    table = read_output(tmp_path / "out").to_pylist()
    seen = survey(str(tmp_path / "out"), claims=3, rows=2)
    assert [(each.claim, each.label) for each in seen.claims] == [
        (claim, f"LABEL_{label}") for claim in dict.fromkeys(each.claim for each in seen.claims) for label in range(3)
    ]
    for each in seen.claims:
        mine = sorted((row[f"score_{each.label}"] for row in table if row["claim"] == each.claim), reverse=True)
        assert [row.score for row in each.best] == mine[:2]
        assert (each.rows, each.worst) == (len(mine), [])
    assert len(survey(str(tmp_path / "out"), text="ARCTIC", claims=1).claims) == 3
    code, out, _ = run(capsys, "show", tmp_path / "out")
    assert code == 0
    assert "Best evidence for each label" in out
    assert "at most 64 tokens a pair, activation softmax" in out
    for label in range(3):
        assert f"best LABEL_{label}" in out
        assert f"Spread of score_LABEL_{label}" in out
    assert run(capsys, "show", tmp_path / "out", "--html", tmp_path / "page.html")[0] == 0
    assert ">best LABEL_2</span>" in (tmp_path / "page.html").read_text()


def test_claims_are_found_by_a_part_of_their_text(output):
    seen = survey(str(output), text="ARCTIC SEA ice", claims=1)
    assert [claim.claim for claim in seen.claims] == [
        "In 2019 the Arctic sea ice extent was the second lowest on record."
    ]
    with pytest.raises(PairscoreError, match=r"no claim of .* contains 'unheard of'"):
        survey(str(output), text="unheard of")


def test_logits_and_several_labels_and_no_statistics(tmp_path):
    """Scores outside 0 to 1 get bins over their range; without statistics in the footer the rows are read for it."""
    table = pa.table({"score_a": pa.array([-3.0, 5.0, None], pa.float32()), "score_b": pa.array([0.0, 0.5, 1.0])})
    for statistics in (True, False):
        pq.write_table(table, tmp_path / "plain.parquet", write_statistics=statistics)
        seen = survey(str(tmp_path / "plain.parquet"))
        assert seen.scores["score_a"].edges[[0, -1]].tolist() == [-3.0, 5.0]
        assert seen.scores["score_a"].counts[[0, -1]].tolist() == [1, 1]
        assert seen.scores["score_b"].edges[[0, -1]].tolist() == [0.0, 1.0]
        assert (seen.claims, seen.lengths, seen.unscored) == ((), {}, 1)


def test_a_quantile_lies_within_its_bin():
    """Ten values in [0, 1), thirty in [1, 3): the median is the tenth of the thirty, a third of the way from 1 to 3."""
    spread = Histogram(np.array([10, 30]), np.array([0.0, 1.0, 3.0]))
    assert spread.quantile(0.5) == pytest.approx(1 + 2 / 3)
    assert spread.quantile(0.25) == pytest.approx(1.0)


def test_a_terminal_gets_tables_without_what_a_terminal_would_obey(capsys, tmp_path):
    table = pa.table({"claim": ["[bold]c\x1b[31m"] * 2, "evidence": ["good", "x" * 500], "score": [0.9, 0.1]})
    pq.write_table(table, tmp_path / "scored.parquet")
    code, out, _ = run(capsys, "show", tmp_path / "scored.parquet")
    assert code == 0
    assert "2 rows, 0 without a score" in out
    assert "[bold]c" in out
    assert "\x1b" not in out
    assert "0.9000" in out
    assert "x" * 500 not in out.replace("\n", "")


def test_a_page_stands_alone(capsys, output, tmp_path):
    code, _, said = run(capsys, "show", output, "--html", tmp_path / "page.html")
    assert (code, said) == (0, f"Wrote {tmp_path / 'page.html'}\n")
    page = (tmp_path / "page.html").read_text()
    tags = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.append(tag)
            assert not {"src", "href"} & dict(attrs).keys()

    Reader().feed(page)
    assert tags.count("svg") == 3
    assert "script" not in tags
    assert not re.search(r"url\(|@import", page)
    assert "300 rows, 10 without a score" in page


def bar_heights(picture):
    return [float(each) for each in re.findall(r'<rect [^>]*height="([\d.]+)"', picture)]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_no_bar_of_a_histogram_vanishes(counts):
    picture = histogram("t", counts, [str(place) for place in range(len(counts) + 1)])
    heights = bar_heights(picture)
    assert len(heights) == len(counts)
    assert all((height >= 2) == (count > 0) for height, count in zip(heights, counts, strict=True))
    assert sorted(counts) == [count for _, count in sorted(zip(heights, counts, strict=True))]
    assert max(heights) <= 170.05


def test_a_histogram_is_linear_where_all_bars_can_be_seen():
    assert bar_heights(histogram("t", [50, 100], ["0", "1", "2"])) == [85.0, 170.0]
    assert "logarithmic" not in histogram("t", [50, 100], ["0", "1", "2"])
    picture = histogram("t", [1, 1000], ["0", "1", "2"])
    assert "on a logarithmic scale" in picture
    assert "<title>1 to 2: 1,000</title>" in picture


def test_a_histogram_names_its_last_edge():
    edges = [f"{place / 20:.3g}" for place in range(21)]
    named = re.findall(r">([\d.]+)</text>", histogram("t", [5] * 20, edges))
    assert named[-6:] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]


def test_texts_are_escaped_in_a_page(capsys, tmp_path):
    table = pa.table({"claim": ["<script>alert(1)</script>"], "evidence": ["a < b & c"], "score": [0.5]})
    pq.write_table(table, tmp_path / "scored.parquet")
    assert run(capsys, "show", tmp_path / "scored.parquet", "--html", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "a &lt; b &amp; c" in page


def test_an_unfinished_output_is_shown_as_such(capsys, bundle, tmp_path):
    write_pairs(tmp_path / "in.parquet", 150)
    with pytest.raises(KeyError):
        run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "out"), log=AtPart(2, {}.popitem))
    code, out, _ = run(capsys, "show", tmp_path / "out")
    assert code == 0
    assert "100 rows, 0 without a score, 2 files, not finished" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "output 'nothing' cannot be read, since nothing is there"),
        (["data"], "output 'data' holds no part"),
        (["data/in.parquet"], "has no column 'score' of scores"),
        (["data/bad.parquet"], "cannot be read"),
        (["scored.parquet", "--html", "scored.parquet/page.html"], "cannot write"),
    ],
)
def test_mistakes_are_one_line(capsys, working_folder, arguments, message):
    write_pairs(working_folder / "data" / "in.parquet", 10)
    (working_folder / "data" / "bad.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.table({"score": [0.5]}), "scored.parquet")
    code, out, said = run(capsys, "show", *arguments)
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert message in said
