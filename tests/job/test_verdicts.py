"""Labels, activations, cut pairs and long evidence in a job: what `Scorer.score_table` gives, whatever the parts."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore import Scorer
from pairscore.cli import main
from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.estimate import estimate_job
from pairscore.runtime.job.run import run_job
from pairscore.runtime.storage.sealing import part_figures
from tests import corpus
from tests.pairs_files import AtPart, job, pairs_table, read_output, same

LONG = {"long_evidence": "split", "overlap": 16}
COLUMNS = {"truncated_column": "cut", "passage_columns": True}
NAMES = (*LONG, *COLUMNS, "prediction_column", "combine", "rank_by")


def long_table(rows: int, seed: int = 0) -> pa.Table:
    """Every third evidence has some hundred tokens, one claim is too long by itself; every seventh row has none."""
    table = pairs_table(rows, seed).select(["id", "claim", "evidence"])
    draw = np.random.default_rng(seed)
    evidence = [
        None if row % 7 == 6 else " ".join(draw.choice(corpus.SENTENCES, 8)) if row % 3 == 0 else text
        for row, text in enumerate(table["evidence"].to_pylist())
    ]
    claims = table["claim"].to_pylist()
    claims[3] = " ".join(corpus.SENTENCES[:9])
    return pa.table({"id": table["id"], "claim": claims, "evidence": evidence})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    pq.write_table(long_table(160), folder / "pairs.parquet")
    return folder


def expected(bundle, file, activation=None, **options):
    scorer = Scorer.from_pretrained(bundle, activation=activation)
    asked = {name: value for name, value in options.items() if name in NAMES}
    return scorer.score_table(pq.read_table(file), on_null="null", **asked)


ASKED = [
    {},
    {**COLUMNS, **LONG},
    {**LONG, "combine": "mean", "truncated_column": "cut"},
    {"activation": "identity", **LONG, **COLUMNS},
]


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("asked", ASKED)
def test_a_job_gives_what_the_scorer_gives(small_bundle, data, tmp_path, labels, asked):
    bundle = small_bundle(labels)
    if labels == 3:
        asked = {"activation": "softmax", **asked, "prediction_column": "label"}
        asked |= {"rank_by": "LABEL_1"} if "long_evidence" in asked else {}
    run_job(job(bundle, data / "pairs.parquet", tmp_path / "out", on_null="null", **asked))
    assert same(read_output(tmp_path / "out"), expected(bundle, data / "pairs.parquet", **asked))
    names = [
        name
        for name in ("label", "cut", "passage_begin", "passage_end")
        if name in read_output(tmp_path / "out").schema.names
    ]
    assert len(names) == (labels == 3) + ("truncated_column" in asked) + 2 * ("passage_columns" in asked)


def test_a_stopped_run_goes_on_and_another_setting_is_another_run(small_bundle, data, tmp_path):
    asked = {**LONG, **COLUMNS, "on_null": "null", "activation": "identity"}
    options = job(small_bundle(), data / "pairs.parquet", tmp_path / "out", **asked)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(options, log=AtPart(2, stop))
    for changes, message in (
        ({"overlap": 8}, "--overlap was 16 and is now 8"),
        ({"activation": "sigmoid"}, "--activation was 'identity' and is now not given"),
        ({"passage_columns": False}, "passage"),
        ({"combine": "mean"}, "--combine was 'max' and is now 'mean'"),
    ):
        with pytest.raises(PairscoreError, match=message):
            run_job(job(small_bundle(), data / "pairs.parquet", tmp_path / "out", **{**asked, **changes}))
    assert run_job(options).earlier_parts >= 1
    assert same(
        read_output(tmp_path / "out"),
        expected(small_bundle(), data / "pairs.parquet", **asked | {"activation": "identity"}),
    )
    assert run_job(options).nothing_to_do


def test_settings_that_say_nothing_new_leave_digests_as_they_were(small_bundle, data, tmp_path):
    """A run of an earlier release goes on: its record holds none of the new names."""
    for name, asked in (("old", {}), ("new", {"activation": "sigmoid"}), ("own", {"activation": "checkpoint"})):
        run_job(job(small_bundle(), data / "pairs.parquet", tmp_path / name, on_null="null", **asked))
    told = [part_figures(pq.read_metadata(next((tmp_path / name).glob("part-*")))) for name in ("old", "new", "own")]
    assert told[0]["run"] == told[1]["run"] == told[2]["run"]
    assert not {"activation", "long_evidence", "overlap", "combine", "rank_by", "passage_columns"} & set(
        told[0]["settings"]
    )


@pytest.mark.parametrize("labels", [1, 3])
def test_reuse_gives_what_computing_gives(small_bundle, data, tmp_path, labels):
    """Yesterday's half with all columns, then all rows; marked values come back without being computed."""
    bundle = small_bundle(labels)
    asked = {**LONG, **COLUMNS, "on_null": "null"} | (
        {"rank_by": "LABEL_2", "prediction_column": "p"} if labels == 3 else {}
    )
    pq.write_table(pq.read_table(data / "pairs.parquet").slice(40, 70), tmp_path / "half.parquet")
    run_job(job(bundle, tmp_path / "half.parquet", tmp_path / "old", **{**asked, "truncated_column": "old_name"}))
    summary = run_job(job(bundle, data / "pairs.parquet", tmp_path / "out", reuse=(str(tmp_path / "old"),), **asked))
    assert summary.figures.reused >= 50
    assert same(read_output(tmp_path / "out"), expected(bundle, data / "pairs.parquet", **asked))


def test_logits_are_reused_for_another_activation(small_bundle, data, tmp_path):
    bundle, file = small_bundle(3), data / "pairs.parquet"
    run_job(job(bundle, file, tmp_path / "logits", on_null="null", activation="identity"))
    old = {"reuse": (str(tmp_path / "logits"),), "on_null": "null"}
    summary = run_job(job(bundle, file, tmp_path / "out", activation="softmax", prediction_column="label", **old))
    assert summary.figures.statistics.pairs == 0
    asked = {"activation": "softmax", "prediction_column": "label"}
    assert same(read_output(tmp_path / "out"), expected(bundle, file, **asked))
    with pytest.raises(PairscoreError, match="holds scores of activation softmax, and this run's is identity"):
        run_job(job(bundle, file, tmp_path / "back", reuse=(str(tmp_path / "out"),), on_null="null"))
    with pytest.raises(PairscoreError, match="was scored with --long-evidence cut, and this run takes split"):
        run_job(job(bundle, file, tmp_path / "split", rank_by="LABEL_0", **LONG, **old))
    with pytest.raises(PairscoreError, match="was scored without --truncated-column"):
        run_job(job(bundle, file, tmp_path / "cut", truncated_column="cut", **old))


def test_logits_of_the_best_passage_are_reused_and_means_are_not(small_bundle, data, tmp_path):
    bundle, file = small_bundle(), data / "pairs.parquet"
    for combine in ("max", "mean"):
        asked = {**LONG, "combine": combine, "on_null": "null"}
        run_job(job(bundle, file, tmp_path / combine, activation="identity", **asked))
        again = job(bundle, file, tmp_path / f"{combine}-sigmoid", reuse=(str(tmp_path / combine),), **asked)
        if combine == "max":
            run_job(again)
            assert same(read_output(tmp_path / "max-sigmoid"), expected(bundle, file, **asked))
        else:
            with pytest.raises(PairscoreError, match="only logits"):
                run_job(again)


@pytest.mark.parametrize("output", ["best", "best.parquet"])
def test_the_best_rows_by_a_label(small_bundle, data, tmp_path, output):
    bundle = small_bundle(3)
    asked = {"activation": "softmax", "rank_by": "LABEL_2", "prediction_column": "label", **LONG, **COLUMNS}
    run_job(job(bundle, data / "pairs.parquet", tmp_path / output, top_k=2, on_null="null", **asked))
    whole = expected(bundle, data / "pairs.parquet", **asked).to_pandas().dropna(subset="score_LABEL_2")
    whole["rank"] = whole.groupby("claim")["score_LABEL_2"].rank(method="first", ascending=False)
    wanted = whole[whole["rank"] <= 2].astype({"rank": "int32"})
    found = read_output(tmp_path / output).to_pandas()
    assert found["id"].tolist() == wanted["id"].tolist()
    assert found["rank"].tolist() == wanted["rank"].tolist()
    assert found["label"].tolist() == wanted["label"].tolist()


def test_cut_pairs_are_counted_everywhere(small_bundle, data, tmp_path, capfd):
    arguments = [str(small_bundle()), str(data / "pairs.parquet"), "--on-null", "null", "--part-rows", "50"]
    with pytest.raises(SystemExit):
        main(["score", *arguments, "--output", str(tmp_path / "out"), "--json"])
    out, errors = capfd.readouterr()
    told = json.loads(out)
    table = expected(small_bundle(), data / "pairs.parquet", truncated_column="cut")
    cut = sum(table["cut"].drop_null().to_pylist())
    assert told["truncated"] == cut > 40
    parts = [part_figures(pq.read_metadata(part)) for part in (tmp_path / "out").glob("part-*")]
    assert sum(part["statistics"]["truncated"] for part in parts) == cut
    assert f"pairscore: {cut} of {told['pairs']} pairs were cut to 64 tokens" in errors
    assert "--long-evidence split, or mark such pairs with --truncated-column" in errors
    with pytest.raises(SystemExit):
        main(["show", str(tmp_path / "out")])
    assert f"{cut} of {told['pairs']} pairs were cut to 64 tokens" in capfd.readouterr().out
    with pytest.raises(SystemExit):
        main(["score", *arguments, "--output", str(tmp_path / "split"), "--long-evidence", "split", "--overlap", "16"])
    errors = capfd.readouterr().err
    table = expected(small_bundle(), data / "pairs.parquet", truncated_column="cut", **LONG)
    cut = sum(table["cut"].drop_null().to_pylist())
    assert f"further passages of long evidence scored; {cut} of" in errors
    assert f"pairscore: {cut} of" in errors
    assert "their claims are too long for the model" in errors


def test_a_run_that_cuts_no_pair_says_nothing_of_it(small_bundle, tmp_path, capfd):
    pq.write_table(pa.table({"claim": ["a"] * 9, "evidence": ["b"] * 9}), tmp_path / "short.parquet")
    with pytest.raises(SystemExit):
        main(["score", str(small_bundle()), str(tmp_path / "short.parquet"), "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        main(["show", str(tmp_path / "out")])
    out, errors = capfd.readouterr()
    assert "cut to" not in out + errors
    assert "passages" not in out + errors


def test_a_dry_run_counts_cut_pairs_exactly(small_bundle, data, tmp_path):
    options = job(small_bundle(), data / "pairs.parquet", tmp_path / "out", on_null="null")
    split = job(small_bundle(), data / "pairs.parquet", tmp_path / "out", on_null="null", **LONG)
    for each, asked in ((options, {}), (split, LONG)):
        table = expected(small_bundle(), data / "pairs.parquet", truncated_column="cut", **asked)
        share = np.mean(table["cut"].drop_null().to_pylist())
        assert estimate_job(each).truncated_share == pytest.approx(share)
    with pytest.raises(PairscoreError, match="cannot overlap by 64"):
        estimate_job(
            job(small_bundle(), data / "pairs.parquet", tmp_path / "out", on_null="null", long_evidence="split")
        )


@pytest.mark.parametrize(
    ("labels", "asked", "message"),
    [
        (1, {"prediction_column": "p"}, "this model has one label: compare its score with a threshold"),
        (1, {"overlap": 8}, "--overlap 8 is of passages: give --long-evidence split with it"),
        (1, {"combine": "mean"}, "--combine mean is of passages"),
        (1, {"passage_columns": True}, "give --long-evidence split with it"),
        (1, {"long_evidence": "split"}, "cannot overlap by 64: use --overlap from 0 to 29"),
        (3, {"rank_by": "LABEL_1"}, "names the label that --top-k or --long-evidence split goes by"),
        (3, {"top_k": 2}, "this model has 3 labels: name one of LABEL_0, LABEL_1, LABEL_2 with --rank-by"),
        (3, {"top_k": 2, "rank_by": "yes"}, "--rank-by 'yes' is no label of this model"),
        (3, LONG, "takes the best passage by one of the labels"),
        (1, {"truncated_column": "claim"}, "--truncated-column 'claim': the output would have two columns"),
        (1, {"truncated_column": "id"}, "already has a column 'id': use --truncated-column NAME"),
        (1, {"activation": "tanh"}, "--activation 'tanh' is unknown: use checkpoint, identity, sigmoid, softmax"),
    ],
)
def test_options_that_do_not_fit_are_said(small_bundle, data, tmp_path, labels, asked, message):  # noqa: PLR0917
    with pytest.raises(PairscoreError, match=message):
        run_job(job(small_bundle(labels), data / "pairs.parquet", tmp_path / "out", on_null="null", **asked))
    assert not (tmp_path / "out").exists()
