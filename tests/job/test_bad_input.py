"""Bad files and odd columns: one line each, nothing half-written; with skip-file only the bad file is left out."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.run import run_job
from tests.pairs_files import AtPart, claimed_text, files_below, job, pairs_table, read_output, same, write_pairs


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return small_bundle()


@pytest.fixture
def data(tmp_path):
    for place, rows in enumerate((120, 130, 60)):
        write_pairs(tmp_path / "data" / f"{place}.parquet", rows, seed=place, group=40)
    return tmp_path / "data"


def corrupt_page(path):
    """Overwrite bytes in the middle of the evidence of the last row group; the footer stays whole."""
    column = pq.read_metadata(path).row_group(pq.read_metadata(path).num_row_groups - 1).column(2)
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)


def replace_column(path, name, values):
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, values), path)


BAD = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-30]), "is not a whole Parquet file"),
    "column name": (
        lambda path: path.write_bytes(path.read_bytes().replace(b"relevant", b"relev\xe9nt")),
        "is not a whole Parquet file",
    ),
    "empty": (lambda path: path.write_bytes(b""), "is not a whole Parquet file"),
    "missing column": (lambda path: pq.write_table(pa.table({"claim": ["a"]}), path), "no column 'evidence'"),
    "column type": (
        lambda path: replace_column(path, "evidence", pa.array(range(130))),
        "column 'evidence' is of type int64",
    ),
    "other schema": (lambda path: replace_column(path, "id", pa.array(["x"] * 130)), "column 'id' is string in"),
    "null": (
        lambda path: replace_column(path, "claim", pa.array([None] + ["a"] * 129, pa.string())),
        "row 0 of '.*' has a null in column 'claim'",
    ),
    "null-typed": (
        lambda path: replace_column(path, "evidence", pa.nulls(130)),
        "row 0 of '.*' has a null in column 'evidence'",
    ),
    "corrupt page": (corrupt_page, "is damaged"),
    "not UTF-8": (
        lambda path: replace_column(path, "evidence", claimed_text([b"a"] * 60 + [b"\xff"] + [b"a"] * 69)),
        "row 60 of '.*' has bytes in column 'evidence' that are not UTF-8",
    ),
    "not text": (
        lambda path: replace_column(path, "evidence", pa.array([b"\xff"] * 130)),
        "column 'evidence' is binary in",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_ends_the_run_in_one_line(bundle, data, tmp_path, name):
    spoil, message = BAD[name]
    spoil(data / "1.parquet")
    with pytest.raises(PairscoreError, match=message) as refused:
        run_job(job(bundle, data, tmp_path / "out"))
    assert "1.parquet" in str(refused.value)
    assert "\n" not in str(refused.value)
    # These show only when they are read; everything else before anything is written.
    assert (tmp_path / "out").exists() is (name in ("corrupt page", "not UTF-8", "null-typed"))
    assert not (tmp_path / "out" / "_SUCCESS").exists()


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("output", ["out", "out.parquet"])
def test_a_bad_file_can_be_left_out(bundle, data, tmp_path, name, output):
    BAD[name][0](data / "1.parquet")
    summary = run_job(job(bundle, data, tmp_path / output, on_error="skip-file"))
    assert summary.whole
    assert [file for file, _ in summary.skipped] == ["1.parquet"]
    expected = pa.concat_tables([pairs_table(120, 0), pairs_table(60, 2)])
    assert same(read_output(tmp_path / output).drop_columns("score"), expected)
    assert not any("part-00001" in each for each in files_below(tmp_path))


def test_a_file_found_bad_stays_out_when_the_run_goes_on(bundle, data, tmp_path):
    corrupt_page(data / "1.parquet")
    options = job(bundle, data, tmp_path / "out", on_error="skip-file")
    with pytest.raises(KeyError):
        run_job(options, log=AtPart(5, {}.popitem))
    summary = run_job(options)
    assert [file for file, _ in summary.skipped] == ["1.parquet"]
    assert read_output(tmp_path / "out").num_rows == 180


def test_shards_agree_on_what_is_left_out(bundle, data, tmp_path):
    """The second shard finds the damage after the first has scored good rows of the same file."""
    corrupt_page(data / "1.parquet")
    for number in (1, 2):
        run_job(job(bundle, data, tmp_path / "out", on_error="skip-file", shard=(number, 2)))
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert set(read_output(tmp_path / "out")["id"].to_pylist()) == {*range(120), *range(2_000_000, 2_000_060)}


def test_when_every_file_is_bad_there_is_no_output(bundle, data, tmp_path):
    for path in data.iterdir():
        path.write_bytes(b"")
    with pytest.raises(PairscoreError, match="every input file was left out"):
        run_job(job(bundle, data, tmp_path / "out", on_error="skip-file"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("convert", "name"),
    [
        (lambda column: column.cast(pa.large_string()), "large_string"),
        (lambda column: column.cast(pa.string_view()), "string_view"),
        (lambda column: column.cast(pa.binary()), "binary"),
        (lambda column: column.dictionary_encode(), "dictionary"),
    ],
)
def test_text_of_another_encoding_scores_the_same_and_keeps_its_type(bundle, tmp_path, convert, name):
    table = pairs_table(120)
    pq.write_table(table, tmp_path / "plain.parquet", row_group_size=40)
    run_job(job(bundle, tmp_path / "plain.parquet", tmp_path / "plain"))
    odd = table.set_column(2, "evidence", convert(table["evidence"]))
    pq.write_table(odd, tmp_path / f"{name}.parquet", row_group_size=40)
    for output in ("out", "out.parquet"):
        run_job(job(bundle, tmp_path / f"{name}.parquet", tmp_path / output))
        result = read_output(tmp_path / output)
        assert result["score"].equals(read_output(tmp_path / "plain")["score"])
        assert result.schema.field("evidence").type == odd.schema.field("evidence").type


def test_a_column_of_nothing_but_nulls(bundle, tmp_path):
    table = pairs_table(60).set_column(2, "evidence", pa.nulls(60))
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(PairscoreError, match="has a null in column 'evidence'"):
        run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "out"))
    run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "out", on_null="null"))
    assert read_output(tmp_path / "out")["score"].null_count == 60


def test_text_that_is_not_utf8_gets_a_null_score_when_asked(bundle, tmp_path):
    texts = [*(each.encode() for each in pairs_table(60)["evidence"].to_pylist()[:-1]), b"\xff"]
    table = pairs_table(60).set_column(2, "evidence", claimed_text(texts))
    pq.write_table(table, tmp_path / "in.parquet")
    summary = run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "out", on_invalid_utf8="null"))
    assert summary.figures.nulls == 1
    result = read_output(tmp_path / "out")
    assert result["score"].is_valid().to_pylist() == [True] * 59 + [False]
    assert result["evidence"].cast(pa.binary()).to_pylist() == texts


def test_zero_rows_give_an_output_with_columns_and_none(bundle, tmp_path):
    write_pairs(tmp_path / "in.parquet", 0)
    for output in ("out", "out.parquet"):
        assert run_job(job(bundle, tmp_path / "in.parquet", tmp_path / output)).whole
        result = read_output(tmp_path / output)
        assert (result.num_rows, result.schema.names) == (0, ["id", "claim", "evidence", "relevant", "score"])


def test_files_may_differ_in_columns_that_are_not_kept(bundle, data, tmp_path):
    replace_column(data / "1.parquet", "relevant", pa.array(["no"] * 130))
    run_job(job(bundle, data, tmp_path / "out", keep=("id",)))
    assert read_output(tmp_path / "out").num_rows == 310


def test_files_may_differ_in_what_they_say_of_nulls(bundle, data, tmp_path):
    table = pq.read_table(data / "0.parquet")
    schema = pa.schema([each.with_nullable(False) for each in table.schema])
    pq.write_table(table.cast(schema), data / "0.parquet")
    replace_column(data / "1.parquet", "id", pa.array([None] * 130, pa.int64()))
    run_job(job(bundle, data, tmp_path / "out.parquet"))
    assert read_output(tmp_path / "out.parquet")["id"].null_count == 130


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evidence_column": "claim"}, "claim and evidence are both column 'claim'"),
        ({"claim_column": "title"}, "no column 'title': the input has 'id', 'claim'"),
        ({"claim_column": "id"}, "column 'id' is of type int64, not text"),
        ({"keep": ("id", "nope")}, "no column 'nope'"),
        ({"score_column": "id"}, "already has a column 'id'"),
        ({"filter": "nope == 1"}, "no column 'nope'"),
        ({"filter": "id == 'x'"}, "column 'id' is of type int64, and 'x' is not"),
        ({"shard": (5, 4)}, "shard 5/4 does not exist"),
        ({"shard": (0, 4)}, "shard 0/4 does not exist"),
        ({"output": "x.parquet", "shard": (1, 4)}, "--shard writes parts"),
        ({"compression": "zip"}, "--compression 'zip' is unknown"),
        ({"precision": "int8"}, "has no int8 variant"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"engine": "magic"}, "unknown engine 'magic'"),
        ({"max_length": 1000}, "max length 1000 is more than"),
        ({"bundle": "nothing"}, "no bundle at 'nothing'"),
        ({"inputs": ("nothing.parquet",)}, "no input 'nothing.parquet'"),
        ({"inputs": ()}, "no input"),
        ({"output": "data/out"}, "lies inside input"),
        ({"output": "hf://datasets/me/x"}, "can be read but not written"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(bundle, data, tmp_path, monkeypatch, changes, message):  # noqa: PLR0917
    monkeypatch.chdir(tmp_path)
    before = files_below(tmp_path)
    with pytest.raises(PairscoreError, match=message):
        run_job(replace(job(bundle, data, "out"), **changes))
    assert files_below(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_score_column_of_a_column_that_is_not_kept_is_free(bundle, data, tmp_path):
    run_job(job(bundle, data, tmp_path / "out", keep=("claim",), score_column="id"))
    assert read_output(tmp_path / "out").schema.names == ["claim", "id"]
