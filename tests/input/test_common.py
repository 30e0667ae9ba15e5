"""One schema for several files: types that hold all values unchanged, and refusals that name both files."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.input.common import extended, output_schema
from pairscore.runtime.input.find import find_files
from pairscore.runtime.input.footers import open_file

PAIR = {"claim": pa.string(), "evidence": pa.string()}


def together(tmp_path, *schemas, keep=None):
    """What `extended` makes of files of these schemas."""
    common = None
    for place, given in enumerate(schemas):
        schema = given if isinstance(given, pa.Schema) else pa.schema([pa.field("x", given)])
        pq.write_table(schema.empty_table(), tmp_path / f"{place}.parquet")
        common = extended(common, open_file(find_files([str(tmp_path / f"{place}.parquet")])[0]), keep)
    return common


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (pa.string(), pa.large_string(), pa.large_string()),
        (pa.string_view(), pa.string(), pa.large_string()),
        (pa.binary(), pa.large_binary(), pa.large_binary()),
        (pa.null(), pa.int8(), pa.int8()),
        (pa.list_(pa.string()), pa.null(), pa.list_(pa.string())),
        (pa.dictionary(pa.int8(), pa.string()), pa.string(), pa.string()),
        (pa.dictionary(pa.int8(), pa.string()), pa.large_string(), pa.large_string()),
        (pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int16(), pa.string()), None),
        (pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.large_list(pa.large_string())),
        (pa.struct([("a", pa.string())]), pa.struct([("a", pa.null())]), pa.struct([("a", pa.string())])),
        (pa.map_(pa.string(), pa.null()), pa.map_(pa.large_string(), pa.int8()), pa.map_(pa.large_string(), pa.int8())),
    ],
)
def test_encodings_of_the_same_values_become_one_type(tmp_path, one, other, both):
    for first, second in ((one, other), (other, one)):
        assert together(tmp_path, first, second).fields["x"].type == (both or pa.dictionary(pa.int32(), pa.string()))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.int32(), pa.int64()),
        (pa.float32(), pa.float64()),
        (pa.string(), pa.binary()),
        (pa.date32(), pa.timestamp("us")),
        (pa.timestamp("us"), pa.timestamp("us", "UTC")),
        (pa.timestamp("us"), pa.timestamp("ns")),
        (pa.decimal128(9, 2), pa.decimal128(9, 3)),
        (pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())])),
        (pa.list_(pa.int8()), pa.list_(pa.int8(), 2)),
        (pa.uuid(), pa.binary(16)),
    ],
)
def test_other_types_are_refused_with_both_names(tmp_path, one, other):
    with pytest.raises(PairscoreError, match=r"column 'x' is .* in '.*1\.parquet' and .* in '.*0\.parquet'"):
        together(tmp_path, one, other)
    assert "x" not in together(tmp_path, one, other, keep=[]).fields


def test_a_column_that_is_missing_is_refused_unless_it_is_left_out(tmp_path):
    schemas = pa.schema([("a", pa.int8()), ("b", pa.int8())]), pa.schema([("a", pa.int8())])
    for files in (schemas, schemas[::-1]):
        with pytest.raises(PairscoreError, match=r"column 'b' is .*missing in"):
            together(tmp_path, *files)
        assert next(iter(together(tmp_path, *files, keep=["a"]).fields)) == "a"


def test_who_says_that_there_are_no_nulls_is_asked_in_every_file(tmp_path):
    def schema(nullable, metadata):
        inner = pa.struct([pa.field("a", pa.int8(), nullable)])
        return pa.schema([pa.field("x", inner, nullable, metadata)])

    both = together(tmp_path, schema(False, {"k": "v", "only": "here"}), schema(True, {"k": "v"})).fields["x"]
    assert both.nullable
    assert both.type.field("a").nullable
    assert both.metadata == {b"k": b"v"}
    both = together(tmp_path, schema(False, None), schema(False, None)).fields["x"]
    assert not both.nullable
    assert not both.type.field("a").nullable


def test_types_that_cannot_be_written_again_are_refused_unless_they_are_left_out(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    for kind, value, called in (("INTERVAL", "INTERVAL 1 DAY", "interval"), ("VARIANT", "1", "variant")):
        path = tmp_path / "a.parquet"
        duckdb.sql(f"COPY (SELECT 'c' AS claim, ({value})::{kind} AS x, 1 AS id) TO '{path}' (FORMAT PARQUET)")
        file = open_file(find_files([str(path)])[0])
        with pytest.raises(PairscoreError, match=f"column 'x' is {called}, which cannot be written as it is"):
            extended(None, file, None)
        assert extended(None, file, ["claim", "id"]).fields["id"].type == pa.int32()


def test_a_type_that_arrow_does_not_know_can_be_left_out(tmp_path, caplog):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"claim": ["a"], "id": [1]}, schema={"claim": polars.String, "id": polars.Int128})
    frame.write_parquet(tmp_path / "a.parquet")
    file = open_file(find_files([str(tmp_path / "a.parquet")])[0])
    with pytest.raises(PairscoreError, match="column 'id' is of a type that Arrow does not know, which cannot be"):
        extended(None, file, None)
    assert extended(None, file, ["claim"]).fields["claim"].type == pa.string()
    assert "does not know all of its types" in caplog.text


def test_times_of_the_day_keep_their_zone_and_are_not_mixed(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "a.parquet"
    duckdb.sql(f"COPY (SELECT '12:00'::TIMETZ AS x, '12:00'::TIME AS y) TO '{path}' (FORMAT PARQUET)")
    file = open_file(find_files([str(path)])[0])
    common = extended(None, file, None)
    assert output_schema(common, [file], ["x"], [], [], compression="zstd").writing["write_time_adjusted_to_utc"]
    assert not output_schema(common, [file], ["y"], [], [], compression="zstd").writing["write_time_adjusted_to_utc"]
    with pytest.raises(PairscoreError, match="column 'x' holds times of the day in UTC and 'y' ones without a zone"):
        output_schema(common, [file], ["x", "y"], [], [], compression="zstd")
