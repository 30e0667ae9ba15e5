"""What an output's files say of their columns: footer keys, nullability, INT96, dictionaries, row groups."""

import datetime as dt
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.run import run_job
from pairscore.runtime.storage.footer_keys import common_keys, contradiction, describing_keys, user_keys
from tests.pairs_files import job, pairs_table, read_output, write_pairs

SCORE = [pa.field("score", pa.float32()), pa.field("rank", pa.int32()), pa.field("verdict", pa.string())]
SPARK = b"org.apache.spark.sql.parquet.row.metadata"


@pytest.fixture
def bundle(small_bundle):
    return small_bundle()


# Footer keys -------------------------------------------------------------------------------------------


def spark(**types):
    fields = [{"name": name, "type": kind, "nullable": True, "metadata": {}} for name, kind in types.items()]
    return {SPARK: json.dumps({"type": "struct", "fields": fields}).encode()}


def test_users_keys_stay_and_descriptions_of_columns_do_not():
    keys = {b"owner": b"me", b"iceberg.schema": b"{}", b"avro.schema": b"{}", b"pandas": b"{}", b"pairscore": b"{}"}
    assert user_keys({**keys, **spark(a="long"), b"hoodie_bloom": b"x"}) == {b"owner": b"me"}


def test_spark_is_told_of_the_columns_that_are_there():
    told = json.loads(describing_keys(spark(a="interval day", b="long"), ["a"], SCORE)[SPARK])
    assert [(each["name"], each["type"]) for each in told["fields"]] == [
        ("a", "interval day"),
        ("score", "float"),
        ("rank", "integer"),
        ("verdict", "string"),
    ]
    # A column that it does not describe would be invisible: then Spark reads the types itself.
    assert describing_keys(spark(a="long"), ["a", "b"], SCORE) == {}
    assert describing_keys({SPARK: b"no JSON"}, ["a"], SCORE) == {}


def test_pandas_keeps_its_index_where_it_is_there():
    frame = pairs_table(3).to_pandas().set_index("claim")
    keys = pa.Schema.from_pandas(frame).metadata
    for kept, index in ((["id", "claim"], ["claim"]), (["id"], [])):
        told = json.loads(describing_keys(keys, kept, SCORE)[b"pandas"])
        assert told["index_columns"] == index
        assert [each["field_name"] for each in told["columns"]] == [*kept, "score", "rank", "verdict"]


def test_hugging_face_is_told_of_the_columns_that_are_there():
    features = {"a": {"names": ["no", "yes"], "_type": "ClassLabel"}, "b": {"dtype": "int64", "_type": "Value"}}
    keys = {b"huggingface": json.dumps({"info": {"features": features}, "fingerprint": "x"}).encode()}
    told = json.loads(describing_keys(keys, ["a"], SCORE)[b"huggingface"])
    assert list(told["info"]["features"]) == ["a", "score", "rank", "verdict"]
    assert told["info"]["features"]["a"] == features["a"]
    assert "fingerprint" not in told


def geo(encoding="WKB", bbox=(0, 0, 1, 1), columns=("g", "h")):
    told = {
        name: {"encoding": encoding, "geometry_types": ["Point"], "bbox": list(bbox), "covering": {}}
        for name in columns
    }
    return {b"geo": json.dumps({"version": "1.1.0", "primary_column": "g", "columns": told}).encode()}


def test_geometries_keep_their_meaning_and_lose_an_extent_that_is_of_one_file_alone():
    told = json.loads(describing_keys(geo(), ["h"], SCORE)[b"geo"])
    assert (told["primary_column"], list(told["columns"])) == ("h", ["h"])
    assert "covering" not in told["columns"]["h"]
    assert describing_keys(geo(), ["id"], SCORE) == {}
    both = json.loads(common_keys(geo(), geo(bbox=(5, 5, 6, 6)))[b"geo"])["columns"]["g"]
    assert both["encoding"] == "WKB"
    assert both["geometry_types"] == []
    assert "bbox" not in both


def test_descriptions_that_disagree_are_told():
    assert contradiction(spark(a="long"), spark(a="interval day"), ["a"])[0] == "a"
    assert contradiction(spark(a="long"), spark(a="interval day"), ["b"]) is None
    assert contradiction(spark(a="long"), {}, ["a"]) is None
    assert contradiction(geo(), geo("point"), ["g"])[0] == "g"
    assert contradiction(geo(), geo(bbox=(5, 5, 6, 6)), ["g"]) is None
    assert common_keys({b"a": b"1", b"b": b"1"}, {b"a": b"1", b"b": b"2"}) == {b"a": b"1"}


@pytest.mark.parametrize("output", ["out", "out.parquet"])
def test_every_file_of_an_output_has_the_same_schema(bundle, tmp_path, output):
    fields = [pa.field("claim", pa.string(), False, {"unit": "text"}), pa.field("evidence", pa.string(), False)]
    fields += [pa.field("id", pa.int64(), False), pa.field("relevant", pa.bool_()), pa.field("u", pa.uuid())]
    for place, rows in enumerate((120, 0)):
        table = pairs_table(rows, place).select(["claim", "evidence", "id", "relevant"])
        table = table.append_column("u", pa.ExtensionArray.from_storage(pa.uuid(), pa.nulls(rows, pa.binary(16))))
        schema = pa.schema(fields, {"owner": "me", "place": str(place)})
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_arrays(table.columns, schema=schema), tmp_path / "in" / f"{place}.parquet")
    run_job(job(bundle, tmp_path / "in", tmp_path / output, filter="id < 60"))
    written = [tmp_path / output] if output != "out" else sorted((tmp_path / output).glob("part-*"))
    assert len(written) == (1 if output != "out" else 4)
    for path in written:
        schema = pq.read_schema(path)
        assert list(schema)[:-1] == fields
        assert [each.metadata for each in schema][:2] == [{b"unit": b"text"}, None]
        assert schema.field("score").type == pa.float32()
        assert schema.metadata[b"owner"] == b"me"
        assert (b"place" in schema.metadata) is (output == "out")


def test_keys_of_folders_of_every_type_are_described_or_the_description_is_left_out():
    kinds = [
        pa.int64(),
        pa.string(),
        pa.date32(),
        pa.bool_(),
        pa.decimal128(9, 2),
        pa.timestamp("us", "UTC"),
        pa.int8(),
    ]
    kinds += [pa.timestamp("ns"), pa.float64(), pa.binary()]
    for kind in kinds:
        added = [pa.field("key", kind), *SCORE]
        keys = {**spark(a="long"), **pa.Schema.from_pandas(pd.DataFrame({"a": [1]})).metadata}
        told = describing_keys(keys, ["a"], added)
        assert (SPARK in told) is (kind != pa.timestamp("ns"))
        table = pa.table({"a": [1], "key": pa.nulls(1, kind), "score": [1.0]}).replace_schema_metadata(told)
        assert list(table.to_pandas().columns) == ["a", "key", "score"]
    told = json.loads(describing_keys(spark(a="long"), ["a"], [pa.field("key", pa.decimal128(9, 2))])[SPARK])
    assert told["fields"][1]["type"] == "decimal(9,2)"


# INT96 -------------------------------------------------------------------------------------------------


def int96(path, *moments):
    rows = len(moments)
    table = pairs_table(rows).append_column("at", pa.array(moments, pa.timestamp("us")))
    nested = pa.array([[{"t": moment}] for moment in moments], pa.list_(pa.struct([("t", pa.timestamp("us"))])))
    table = table.append_column("nested", nested)
    pq.write_table(table, path, use_deprecated_int96_timestamps=True, store_schema=False)
    return table


def test_int96_comes_out_as_microseconds_whatever_the_year(bundle, tmp_path):
    moments = [dt.datetime(1, 1, 1), None, dt.datetime(9999, 12, 31, 23, 59, 59, 999_999), dt.datetime(2024, 1, 1)]
    table = int96(tmp_path / "in.parquet", *moments)
    for output in ("out", "out.parquet"):
        run_job(job(bundle, tmp_path / "in.parquet", tmp_path / output, part_rows=2))
        scored = read_output(tmp_path / output)
        assert scored.select(["at", "nested"]).equals(table.select(["at", "nested"]))
    leaf = pq.read_metadata(tmp_path / "out.parquet").schema.column(4)
    assert (leaf.physical_type, "microseconds" in str(leaf.logical_type)) == ("INT64", True)


@pytest.mark.parametrize("column", ["at", "nested"])
def test_an_int96_that_microseconds_do_not_hold_is_an_error_that_names_it(bundle, tmp_path, column):
    moments = pa.array([1, 1_000, -1_001], pa.timestamp("ns"))
    values = moments if column == "at" else pa.array([[each.value] for each in moments], pa.list_(pa.timestamp("ns")))
    table = pairs_table(3).append_column(column, values)
    pq.write_table(table, tmp_path / "in.parquet", use_deprecated_int96_timestamps=True, store_schema=False)
    with pytest.raises(PairscoreError, match=rf"column '{column}' of .* holds 1970-01-01T00:00:00\.000000001 as INT96"):
        run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "out"))
    run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "kept", keep=("claim",)))


def test_an_int96_beyond_the_years_of_microseconds_is_an_error(bundle, tmp_path):
    """The Julian day is the last four of an INT96's twelve bytes: one of the year 300,000 is put there."""
    moment = dt.datetime(2024, 1, 1)
    table = pairs_table(1).append_column("at", pa.array([moment], pa.timestamp("us")))
    pq.write_table(
        table, tmp_path / "in.parquet", use_deprecated_int96_timestamps=True, use_dictionary=False, compression="none"
    )
    day = (2_440_588 + (moment - dt.datetime(1970, 1, 1)).days).to_bytes(4, "little")
    content = (tmp_path / "in.parquet").read_bytes()
    start = pq.read_metadata(tmp_path / "in.parquet").row_group(0).column(4).data_page_offset
    assert content.count(day, start) == 1
    (tmp_path / "in.parquet").write_bytes(
        content[:start] + content[start:].replace(day, (110_000_000).to_bytes(4, "little"))
    )
    with pytest.raises(PairscoreError, match=r"column 'at' of .* holds 29\d{4}-.* as INT96, which microseconds cannot"):
        run_job(job(bundle, tmp_path / "in.parquet", tmp_path / "out"))


# One file ----------------------------------------------------------------------------------------------


def test_many_small_inputs_share_row_groups(bundle, tmp_path):
    for place in range(30):
        write_pairs(tmp_path / "in" / f"{place:02}.parquet", 3, seed=place)
    run_job(job(bundle, tmp_path / "in", tmp_path / "out.parquet"))
    metadata = pq.read_metadata(tmp_path / "out.parquet")
    assert (metadata.num_rows, metadata.num_row_groups) == (90, 1)
    ids = pq.read_table(tmp_path / "out.parquet")["id"].to_pylist()
    assert ids == [place * 1_000_000 + row for place in range(30) for row in range(3)]


def test_dictionaries_of_many_files_become_one_column_however_many_values_they_hold(bundle, tmp_path):
    kind = pa.dictionary(pa.int8(), pa.string())
    tables = []
    for place in range(3):
        topics = pa.array([f"topic {place} {row}" for row in range(100)]).dictionary_encode().cast(kind)
        tables.append(pairs_table(100, place).append_column("topic", topics))
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(tables[-1], tmp_path / "in" / f"{place}.parquet")
    expected = [topic for table in tables for topic in table["topic"].to_pylist()]
    for output in ("out", "out.parquet"):
        run_job(job(bundle, tmp_path / "in", tmp_path / output, part_rows=100))
        assert read_output(tmp_path / output)["topic"].to_pylist() == expected


def test_keys_of_folders_are_kept_ranked_by_and_filtered_by(bundle, tmp_path):
    for year in (2020, 2021, 2022):
        write_pairs(tmp_path / "in" / f"year={year}" / "a.parquet", 20, seed=year)
    options = {"keep": ("claim", "year"), "top_k": 2, "by": "year", "filter": "year > 2020", "part_rows": 7}
    run_job(job(bundle, tmp_path / "in", tmp_path / "out.parquet", **options))
    scored = pq.read_table(tmp_path / "out.parquet", partitioning=None)
    assert scored.schema.names == ["claim", "year", "score", "rank"]
    assert scored["year"].to_pylist() == [2021, 2021, 2022, 2022]
    run_job(job(bundle, tmp_path / "in", tmp_path / "out", **options))
    parts = sorted((tmp_path / "out").rglob("part-*"))
    assert pq.read_schema(parts[0]).names == ["claim", "score", "rank"]
    assert sum(pq.read_metadata(part).num_rows for part in parts) == 4
    run_job(job(bundle, tmp_path / "in", tmp_path / "few.parquet", keep=("id",)))
    assert pq.read_schema(tmp_path / "few.parquet").names == ["id", "score"]


def test_field_numbers_are_left_out_since_the_scores_have_none(bundle, tmp_path):
    """Iceberg's readers look for columns by number alone once a file has any."""
    table = pairs_table(4).append_column("nested", pa.array([{"a": 1}] * 4))
    fields = [each.with_metadata({"PARQUET:field_id": str(place)}) for place, each in enumerate(table.schema, 1)]
    fields[-1] = pa.field("nested", pa.struct([pa.field("a", pa.int64(), metadata={"PARQUET:field_id": "9"})]))
    pq.write_table(pa.Table.from_arrays(table.columns, schema=pa.schema(fields)), tmp_path / "in.parquet")
    assert "field_id=9" in str(pq.read_metadata(tmp_path / "in.parquet").schema)
    for output in ("out", "out.parquet"):
        run_job(job(bundle, tmp_path / "in.parquet", tmp_path / output))
        path = tmp_path / output if output != "out" else next((tmp_path / "out").glob("part-*"))
        numbers = {part.split()[0] for part in str(pq.read_metadata(path).schema).split("field_id=")[1:]}
        assert numbers == {"-1"}
