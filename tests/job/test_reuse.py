"""`--reuse`: what was scored before is taken bit for bit, and the rest is computed as in a run of its own."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.run import run_job
from pairscore.runtime.storage.sealing import METADATA_KEY
from tests.command_line import run
from tests.pairs_files import AtPart, files_below, job, pairs_table, read_output, same, write_pairs


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return small_bundle()


@pytest.fixture
def data(tmp_path):
    """Yesterday's 160 rows and today's 260: 130 of yesterday's in another order, nulls among them, and 130 new ones."""
    yesterday = write_pairs(tmp_path / "yesterday.parquet", 160, seed=1, null_every=40)
    today = pa.concat_tables([pairs_table(130, 2), yesterday.slice(30)]).take(np.random.default_rng(0).permutation(260))
    pq.write_table(today, tmp_path / "today.parquet")
    return tmp_path


def today(bundle, data, output, **changes):
    return job(bundle, data / "today.parquet", data / output, **{"on_null": "null", **changes})


@pytest.fixture
def old(bundle, data):
    run_job(job(bundle, data / "yesterday.parquet", data / "old", on_null="null"))
    return str(data / "old")


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_the_result_is_that_of_computing_everything(bundle, data, old, name):
    run_job(today(bundle, data, "whole"))
    summary = run_job(today(bundle, data, name, reuse=(old,)))
    assert same(read_output(data / name), read_output(data / "whole"))
    assert summary.figures.nulls == 3
    assert summary.figures.reused >= 127
    assert summary.figures.reused + summary.figures.statistics.pairs == 257
    assert summary.as_dict()["reused"] == summary.figures.reused


def test_old_scores_are_taken_and_not_computed_again(bundle, data):
    """Scores that nobody computed come back, bit for bit, from several files, the first one first."""
    run_job(job(bundle, data / "yesterday.parquet", data / "old.parquet", on_null="null"))
    table = pq.read_table(data / "old.parquet")
    figures = {METADATA_KEY: pq.read_metadata(data / "old.parquet").metadata[METADATA_KEY]}
    for name, start in (("first", 1000.0), ("second", 2000.0)):
        marked = pa.array(np.arange(start, start + 160, dtype=np.float32), mask=table["score"].is_null().to_numpy())
        marked = table.set_column(table.schema.names.index("score"), "score", marked).replace_schema_metadata(figures)
        pq.write_table(marked.slice(0, 100) if name == "first" else marked, data / f"{name}.parquet")
    run_job(today(bundle, data, "out", reuse=(str(data / "first.parquet"), str(data / "second.parquet"))))
    scores: dict[tuple[str, str], float] = {}
    for file in ("first", "second"):
        for row in pq.read_table(data / f"{file}.parquet").to_pylist():
            if row["score"] is not None:
                scores.setdefault((row["claim"], row["evidence"]), row["score"])
    for row in read_output(data / "out").to_pylist():
        if (row["claim"], row["evidence"]) in scores:
            assert row["score"] == scores[row["claim"], row["evidence"]]
        else:
            assert row["score"] is None or row["score"] <= 1.0


def test_a_stopped_run_goes_on_with_and_without_the_old_scores(bundle, data, old):
    """Old scores decide how long a run takes and nothing else, so they may be gone when it goes on."""
    run_job(today(bundle, data, "whole"))
    for number, reuse in enumerate([(old,), ()]):
        options = today(bundle, data, f"out{number}", reuse=(old,))
        with pytest.raises(KeyError):
            run_job(options, log=AtPart(3, {}.popitem))
        assert run_job(replace(options, reuse=reuse)).earlier_parts == 3
        assert same(read_output(data / f"out{number}"), read_output(data / "whole"))


def test_several_labels_and_other_names(small_bundle, data):
    """The old output's own column names count, whatever this run's input calls them."""
    bundle = small_bundle(3)
    table = pairs_table(60, 1).rename_columns(["id", "statement", "passage", "relevant"])
    pq.write_table(table, data / "named.parquet")
    options = {"claim_column": "statement", "evidence_column": "passage", "score_column": "p"}
    run_job(job(bundle, data / "named.parquet", data / "old", **options))
    write_pairs(data / "new.parquet", 60, seed=1)
    summary = run_job(job(bundle, data / "new.parquet", data / "out", reuse=(str(data / "old"),)))
    assert (summary.figures.reused, summary.figures.statistics.pairs) == (60, 0)
    for label in range(3):
        assert read_output(data / "out")[f"score_LABEL_{label}"].equals(read_output(data / "old")[f"p_LABEL_{label}"])


def test_shards_and_filters_reuse_too(bundle, data, old):
    run_job(today(bundle, data, "whole", filter="relevant"))
    for number in (2, 1):
        run_job(today(bundle, data, "out", filter="relevant", reuse=(old,), shard=(number, 2)))
    assert same(read_output(data / "out"), read_output(data / "whole"))


def test_parts_and_the_summary_count_what_was_reused(capsys, bundle, data, old):
    code, out, said = run(
        capsys, "score", bundle, data / "today.parquet", "-o", data / "out.parquet", "--on-null", "null",
        "--reuse", old, "--json",
    )  # fmt: skip
    assert code == 0
    told = json.loads(out)
    assert told["pairs"] + told["reused"] + told["nulls"] == told["rows"] == 260
    assert json.loads(pq.read_metadata(data / "out.parquet").metadata[METADATA_KEY])["reused"] == told["reused"]
    assert "Reusing 156 scored pairs" in said


def refused(bundle, data, reuse, **changes):
    """The one line that a run with this --reuse ends with; nothing of it is left."""
    before = files_below(data)
    with pytest.raises(PairscoreError) as error:
        run_job(today(bundle, data, "out", reuse=(str(reuse),), **changes))
    assert files_below(data) == before
    assert not (data / "out").exists()
    return str(error.value)


def test_outputs_that_cannot_be_reused_are_refused_and_nothing_is_written(bundle, data, old, small_bundle):
    assert "nothing is there" in refused(bundle, data, data / "no such output")
    assert "does not say what scored it" in refused(bundle, data, data / "yesterday.parquet")
    write_pairs(data / "input" / "pairs.parquet", 10)
    assert "holds no part" in refused(bundle, data, data / "input")
    other = small_bundle(seed=1)
    run_job(job(other, data / "yesterday.parquet", data / "other", on_null="null"))
    assert "was scored with the bundle of digest" in refused(bundle, data, data / "other")
    message = refused(bundle, data, old, max_length=32)
    assert "was scored with a maximum length of 64, and this run takes 32: give --max-length 64 here" in message
    assert "engine onnxruntime, and this run takes openvino" in refused(bundle, data, old, engine="openvino")
    run_job(job(bundle, data / "yesterday.parquet", data / "bare", on_null="null", keep=("id", "claim")))
    assert "has no column 'evidence'" in refused(bundle, data, data / "bare")


def test_an_unfinished_output_is_refused(bundle, data):
    with pytest.raises(KeyError):
        run_job(job(bundle, data / "yesterday.parquet", data / "old", on_null="null"), log=AtPart(2, {}.popitem))
    assert "is not finished: end its run first" in refused(bundle, data, data / "old")
    (data / "old" / "_pairscore" / "run.json").unlink()
    assert "is not finished: end its run first" in refused(bundle, data, data / "old")


@pytest.mark.parametrize("damage", ["footer", "page", "page header", "empty"])
def test_a_damaged_output_is_refused(bundle, data, old, damage):
    part = data / "old" / "part-00000-0000000050-0000000100.parquet"
    content = bytearray(part.read_bytes())
    evidence = pq.read_metadata(part).row_group(0).column(2)
    page_end = evidence.dictionary_page_offset + evidence.total_compressed_size - 1
    place = {"footer": len(content) - 60, "page": page_end, "page header": 4, "empty": 0}[damage]
    content[place] ^= 0xFF
    part.write_bytes(b"" if damage == "empty" else content)
    message = refused(bundle, data, old)
    assert "part-00000-0000000050-0000000100.parquet' cannot be read" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_the_output_itself_is_refused(bundle, data, name):
    options = today(bundle, data, name, reuse=(str(data / name),), overwrite=True)
    run_job(today(bundle, data, name))
    before = files_below(data)
    with pytest.raises(PairscoreError, match="is this run's own output"):
        run_job(options)
    assert files_below(data) == before
