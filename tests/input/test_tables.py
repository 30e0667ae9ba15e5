"""Tables in folders: Delta by its log, whatever else lies there; Iceberg and Hudi with a way out."""

import datetime as dt
import json
import re
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.input.find import find_files
from pairscore.runtime.job.run import run_job
from tests.pairs_files import AtPart, job, pairs_table, read_output


@pytest.fixture
def bundle(small_bundle):
    return small_bundle()


def keyed_table(rows, seed=0):
    days = [None if row % 4 == 0 else dt.date(2024, 1, 1 + row % 2) for row in range(rows)]
    texts = [f"0{row % 2} x/y" for row in range(rows)]
    return pairs_table(rows, seed).append_column("day", pa.array(days)).append_column("text", pa.array(texts))


def test_the_current_version_is_scored_with_its_keys_and_later_columns(bundle, tmp_path):
    path = str(tmp_path / "table")
    write_deltalake(path, keyed_table(40), partition_by=["day", "text"])
    later = keyed_table(20, seed=1).append_column("later", pa.array(range(20)))
    write_deltalake(path, later, mode="append", schema_mode="merge")
    DeltaTable(path).delete("id < 10")
    expected = DeltaTable(path).to_pyarrow_table()
    assert expected.num_rows == 50
    run_job(job(bundle, path, tmp_path / "out.parquet", filter="day is null or day >= '2024-01-01'"))
    scored = pq.read_table(tmp_path / "out.parquet")
    assert scored.schema.names[-1] == "score"
    names = sorted(expected.schema.names)
    assert sorted(scored.schema.names[:-1]) == names
    for name in names:
        kinds = [table.schema.field(name).type for table in (scored, expected)]
        assert kinds[0] == kinds[1] or kinds == [pa.large_string(), pa.string()]  # deltalake writes the wider one
    rows = [table.select(names).sort_by("id").to_pylist() for table in (scored, expected)]
    assert rows[0] == rows[1]
    run_job(job(bundle, path, tmp_path / "few.parquet", keep=("id", "later", "day")))
    assert pq.read_schema(tmp_path / "few.parquet").names == ["id", "later", "day", "score"]


def test_an_earlier_version_can_be_read_again(tmp_path):
    path = str(tmp_path / "table")
    for seed in range(2):
        write_deltalake(path, pairs_table(5, seed), mode="append")
    assert [len(find_files([path], versions=[version])) for version in (0, 1)] == [1, 2]
    assert find_files([path])[0].table.version == 1


def log(folder, *actions):
    folder.joinpath("_delta_log").mkdir(parents=True)
    text = "\n".join(json.dumps(each) for each in actions)
    folder.joinpath("_delta_log", f"{0:020}.json").write_text(text)


def metadata(**configuration):
    mapping = {"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": "column-1"}
    field = {"name": "id", "type": "long", "nullable": True, "metadata": mapping}
    return {
        "metaData": {
            "id": "5fba94ed-9794-4965-ba6e-6ee3c0d22af9",
            "format": {"provider": "parquet", "options": {}},
            "schemaString": json.dumps({"type": "struct", "fields": [field]}),
            "partitionColumns": [],
            "configuration": configuration,
            "createdTime": 0,
        }
    }


def protocol(*features):
    return {
        "protocol": {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": features,
            "writerFeatures": features,
        }
    }


def add(folder, **more):
    pq.write_table(pa.table({"id": [1, 2]}), folder / "x.parquet")
    size = (folder / "x.parquet").stat().st_size
    return {
        "add": {
            "path": "x.parquet",
            "partitionValues": {},
            "size": size,
            "modificationTime": 0,
            "dataChange": True,
            **more,
        }
    }


def test_deletion_vectors_are_refused_by_name(tmp_path):
    deleted = {"storageType": "i", "pathOrInlineDv": "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L"}
    file = add(tmp_path, deletionVector={**deleted, "sizeInBytes": 40, "cardinality": 6})
    log(tmp_path, protocol("deletionVectors"), metadata(**{"delta.enableDeletionVectors": "true"}), file)
    with pytest.raises(PairscoreError, match=r"(?i)deletion vector"):
        find_files([str(tmp_path)])


def test_enabled_deletion_vectors_that_nobody_wrote_are_no_reason(tmp_path):
    log(tmp_path, protocol("deletionVectors"), metadata(**{"delta.enableDeletionVectors": "true"}), add(tmp_path))
    assert [file.name for file in find_files([str(tmp_path)])] == ["x.parquet"]


def test_column_mapping_is_refused_by_name(tmp_path):
    log(tmp_path, protocol("columnMapping"), metadata(**{"delta.columnMapping.mode": "name"}), add(tmp_path))
    with pytest.raises(PairscoreError, match=r"maps its columns .*delta\.columnMapping\.mode = name"):
        find_files([str(tmp_path)])


def test_a_log_without_a_table_is_refused(tmp_path):
    log(tmp_path, add(tmp_path))
    with pytest.raises(PairscoreError, match="cannot be read as a Delta table"):
        find_files([str(tmp_path)])


def recipe(given):
    """The command that the refusal of a table names, run in Python."""
    with pytest.raises(PairscoreError) as refused:
        find_files([str(given)])
    (code,) = re.findall(r'python -c "(.*)"', str(refused.value))
    return str(refused.value), code


def test_an_iceberg_table_is_refused_with_a_recipe_that_works(tmp_path):
    pytest.importorskip("pyiceberg")
    from pyiceberg.catalog.memory import InMemoryCatalog

    catalog = InMemoryCatalog("test", warehouse=f"file://{tmp_path}/warehouse")
    catalog.create_namespace("a")
    table = catalog.create_table("a.pairs", pairs_table(1).schema)
    table.append(pairs_table(30))
    table.delete("id < 10")
    (folder,) = (path.parent for path in tmp_path.glob("warehouse/**/metadata"))
    said, code = recipe(folder)
    assert "is an Iceberg table" in said
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert sorted(pq.read_table(tmp_path / "rows.parquet")["id"].to_pylist()) == list(range(10, 30))


HUDI = """hoodie.table.name=pairs
hoodie.table.type=COPY_ON_WRITE
hoodie.table.version=6
hoodie.timeline.layout.version=1
hoodie.table.recordkey.fields=id
hoodie.populate.meta.fields=false
"""


def hudi_commit(folder, time, ids):
    """A commit of a copy-on-write table by hand: the rows of its one file group are written anew."""
    group = "a1b2c3d4-0000-4000-8000-000000000000-0"
    name = f"{group}_0-1-1_{time}.parquet"
    pq.write_table(pa.table({"id": ids}), folder / name)
    fields = [{"name": "id", "type": ["null", "long"], "default": None}]
    schema = json.dumps({"type": "record", "name": "row", "fields": fields})
    counts = {"numWrites": len(ids), "numDeletes": 0, "numUpdateWrites": 0, "numInserts": len(ids)}
    sizes = {"totalWriteBytes": 1, "totalWriteErrors": 0, "fileSizeInBytes": 1}
    written = {"fileId": group, "path": name, "prevCommit": "null", "partitionPath": "", **counts, **sizes}
    commit = {"partitionToWriteStats": {"": [written]}, "compacted": False, "extraMetadata": {"schema": schema}}
    (folder / ".hoodie" / f"{time}.commit").write_text(json.dumps({**commit, "operationType": "UPSERT"}))


def test_a_hudi_table_is_refused_with_a_recipe_that_works(tmp_path):
    pytest.importorskip("hudi")
    table = tmp_path / "table"
    (table / ".hoodie").mkdir(parents=True)
    (table / ".hoodie" / "hoodie.properties").write_text(HUDI)
    for time, ids in (("20240101000000000", [1, 2, 3]), ("20240102000000000", [2, 3])):
        hudi_commit(table, time, ids)
    said, code = recipe(table)
    assert "is a Hudi table" in said
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert pq.read_table(tmp_path / "rows.parquet")["id"].to_pylist() == [2, 3]


def test_a_resume_reads_the_version_that_the_run_began_with(bundle, tmp_path):
    path = str(tmp_path / "table")
    write_deltalake(path, pairs_table(200))
    options = job(bundle, path, tmp_path / "out")
    with pytest.raises(KeyError):
        run_job(options, log=AtPart(2, {}.popitem))
    write_deltalake(path, pairs_table(50, seed=1), mode="append")
    assert run_job(options).earlier_parts == 2
    assert read_output(tmp_path / "out").num_rows == 200
    with pytest.raises(PairscoreError, match=r"of another run \(delta_versions was \(0,\) and is now \(1,\)\)"):
        run_job(options)
