"""A job that stops goes on behind its last whole part, and only the same job does."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.job.run import run_job
from pairscore.runtime.storage.local import LocalStorage
from tests.pairs_files import AtPart, files_below, job, pairs_table, read_output, same, write_pairs


class Crash(BaseException):
    """Ends a run where a test says, as a lost machine would."""


def crash():
    raise Crash


@pytest.fixture(scope="module")
def bundle(small_bundle):
    return small_bundle()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for place, rows in enumerate((230, 120)):
        write_pairs(folder / f"{place}.parquet", rows, seed=place, group=70)
    return folder


@pytest.fixture(scope="module")
def expected(bundle, data, tmp_path_factory):
    """What an uninterrupted run writes."""
    out = tmp_path_factory.mktemp("expected") / "out"
    run_job(job(bundle, data, out))
    return read_output(out)


def stop_after(options, parts):
    """Run until that many parts are written."""
    with pytest.raises(Crash):
        run_job(options, log=AtPart(parts, crash))


@pytest.mark.parametrize("name", ["out", "out.parquet"])
@pytest.mark.parametrize("parts", [1, 4, 6])
def test_a_stopped_run_goes_on_and_ends_the_same(bundle, data, expected, tmp_path, name, parts):  # noqa: PLR0917
    options = job(bundle, data, tmp_path / name)
    stop_after(options, parts)
    assert not (tmp_path / "out.parquet").exists()
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    summary = run_job(options)
    assert summary.earlier_parts == parts
    assert summary.figures.parts == 8 - parts
    assert same(read_output(tmp_path / name), expected)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_run_stopped_often_ends_the_same(bundle, data, expected, tmp_path):
    options = job(bundle, data, tmp_path / "out")
    for _ in range(7):
        stop_after(options, 1)
    run_job(options)
    assert same(read_output(tmp_path / "out"), expected)


def test_a_run_stopped_inside_a_block_goes_on_there(bundle, data, tmp_path):
    run_job(job(bundle, data, tmp_path / "whole", part_rows=100, window_bytes=3000))
    options = job(bundle, data, tmp_path / "out", part_rows=100, window_bytes=3000)
    stop_after(options, 2)
    stop_after(options, 3)
    run_job(options)
    assert sorted(files_below(tmp_path / "whole")) == sorted(files_below(tmp_path / "out"))
    assert same(read_output(tmp_path / "whole"), read_output(tmp_path / "out"))


def test_a_missing_and_a_damaged_part_are_scored_again(bundle, data, expected, tmp_path):
    options = job(bundle, data, tmp_path / "out")
    stop_after(options, 7)
    (tmp_path / "out" / "part-00000-0000000050-0000000100.parquet").unlink()
    (tmp_path / "out" / "part-00001-0000000000-0000000050.parquet").write_bytes(b"")
    summary = run_job(options)
    assert summary.earlier_parts == 5
    assert same(read_output(tmp_path / "out"), expected)


@pytest.mark.parametrize("name", ["out", "out.parquet"])
@pytest.mark.parametrize("place", [0.3, -60, -5])
def test_a_part_with_a_changed_bit_is_scored_again(bundle, data, expected, tmp_path, name, place):  # noqa: PLR0917
    """In a page, in the footer's figures and in the footer's length."""
    options = job(bundle, data, tmp_path / name)
    stop_after(options, 4)
    part = max(tmp_path.rglob("part-*"))
    content = bytearray(part.read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 4
    part.write_bytes(content)
    assert run_job(options).earlier_parts == 3
    assert same(read_output(tmp_path / name), expected)


def test_a_part_that_was_damaged_before_the_merge_is_named_and_scored_again(bundle, data, expected, tmp_path):
    options = job(bundle, data, tmp_path / "out.parquet")

    def damage():
        part = min(tmp_path.rglob("part-*"))
        part.write_bytes(part.read_bytes()[:-1] + b"x")

    with pytest.raises(PairscoreError, match=r"part part-00000-0000000000-0000000050\.parquet .* was damaged"):
        run_job(options, log=AtPart(7, damage))
    assert not (tmp_path / "out.parquet").exists()
    assert run_job(options).figures.parts == 1
    assert same(read_output(tmp_path / "out.parquet"), expected)


def test_nothing_is_left_of_a_run_that_wrote_no_part(bundle, data, tmp_path):
    class AtStart(AtPart):
        def write(self, event, **fields):
            if event == "start":
                crash()

    for name in ("out", "out.parquet"):
        with pytest.raises(Crash):
            run_job(job(bundle, data, tmp_path / name), log=AtStart(0, crash))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score_column": "p"}, "--score-column was 'score' and is now 'p'"),
        ({"claim_column": "evidence", "evidence_column": "claim"}, "--claim-column was 'claim' and is now 'evidence'"),
        ({"keep": ("id",)}, "--keep was not given and is now"),
        ({"max_length": 32}, "--max-length was 64 and is now 32"),
        ({"filter": "id > 3"}, "--filter was not given and is now 'id > 3'"),
        ({"limit": 300}, "--limit was not given and is now 300"),
        ({"part_rows": 60}, "--part-rows was 50 and is now 60"),
        ({"on_null": "null"}, "--on-null was 'error' and is now 'null'"),
    ],
)
def test_another_run_is_refused_and_says_what_changed(bundle, data, tmp_path, change, message):
    stop_after(job(bundle, data, tmp_path / "out"), 2)
    before = files_below(tmp_path)
    with pytest.raises(PairscoreError) as refused:
        run_job(job(bundle, data, tmp_path / "out", **change))
    assert message in str(refused.value)
    assert "--overwrite" in str(refused.value)
    after = files_below(tmp_path)
    assert {name: after[name] for name in before if "lock" not in name} == {
        name: content for name, content in before.items() if "lock" not in name
    }


def test_another_bundle_is_refused(bundle, data, tmp_path, small_bundle):
    stop_after(job(bundle, data, tmp_path / "out"), 2)
    other = small_bundle(seed=1)
    with pytest.raises(PairscoreError, match=r"bundle was '[0-9a-f]{64}' and is now"):
        run_job(job(other, data, tmp_path / "out"))


def test_changed_input_is_refused(bundle, tmp_path):
    for place, rows in enumerate((130, 120)):
        write_pairs(tmp_path / "data" / f"{place}.parquet", rows, seed=place)
    options = job(bundle, tmp_path / "data", tmp_path / "out")
    stop_after(options, 3)
    write_pairs(tmp_path / "data" / "1.parquet", 121, seed=1)
    with pytest.raises(PairscoreError, match=r"input file '1\.parquet' changed"):
        run_job(options)
    (tmp_path / "data" / "1.parquet").unlink()
    with pytest.raises(PairscoreError, match=r"input file '1\.parquet' is gone"):
        run_job(options)
    for seed in (1, 2):
        write_pairs(tmp_path / "data" / f"{seed}.parquet", 120, seed=seed)
    with pytest.raises(PairscoreError, match=r"input file '2\.parquet' was added"):
        run_job(options)


def test_a_run_moves_to_another_folder_with_its_input(bundle, tmp_path):
    write_pairs(tmp_path / "one" / "data" / "0.parquet", 230)
    run_job(job(bundle, tmp_path / "one" / "data", tmp_path / "expected"))
    stop_after(job(bundle, tmp_path / "one" / "data", tmp_path / "one" / "out"), 2)
    (tmp_path / "one").rename(tmp_path / "two")
    summary = run_job(job(bundle, tmp_path / "two" / "data", tmp_path / "two" / "out"))
    assert summary.earlier_parts == 2
    assert same(read_output(tmp_path / "two" / "out"), read_output(tmp_path / "expected"))


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_a_finished_output_is_left_alone_and_replaced_only_when_asked(  # noqa: PLR0917
    bundle, data, expected, tmp_path, name, monkeypatch
):
    options = job(bundle, data, tmp_path / name)
    assert not run_job(replace(options, limit=60)).nothing_to_do
    before = files_below(tmp_path)
    with pytest.raises(
        PairscoreError, match=r"exists.*another run \(--limit was 60 and is now not given\).*--overwrite"
    ):
        run_job(options)
    shard = (1, 2) if name == "out" else None
    with monkeypatch.context() as patch:  # a finished output may lie where nothing can be written
        patch.setattr(Path, "mkdir", None)
        patch.setattr(LocalStorage, "write", None)
        again = run_job(replace(options, limit=60, engine="onnxruntime", compression="gzip", shard=shard))
    assert (again.nothing_to_do, again.whole, again.engine, again.figures.parts) == (True, True, "onnxruntime", 0)
    assert files_below(tmp_path) == before
    assert not run_job(replace(options, overwrite=True)).nothing_to_do
    assert same(read_output(tmp_path / name), expected)


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_a_finished_output_of_other_input_or_of_nobody_is_refused(bundle, tmp_path, name):
    write_pairs(tmp_path / "in.parquet", 60)
    options = job(bundle, tmp_path / "in.parquet", tmp_path / name)
    run_job(options)
    write_pairs(tmp_path / "in.parquet", 61)
    with pytest.raises(PairscoreError, match="its input was another one"):
        run_job(options)
    if name == "out":
        (tmp_path / "out" / "part-00000-0000000000-0000000050.parquet").unlink()
        write_pairs(tmp_path / "in.parquet", 60)
        with pytest.raises(PairscoreError, match="marked as whole and lacks parts"):
            run_job(options)
    else:
        pq.write_table(pairs_table(60), tmp_path / name)
        with pytest.raises(PairscoreError, match="exists and is whole: choose another name"):
            run_job(options)


def test_a_finished_output_that_left_a_file_out_is_whole_still(bundle, tmp_path):
    for place in (0, 1):
        write_pairs(tmp_path / "data" / f"{place}.parquet", 60, seed=place)
    content = bytearray((tmp_path / "data" / "1.parquet").read_bytes())
    content[200:240] = bytes(40)  # found when it is read, since the footer is whole
    (tmp_path / "data" / "1.parquet").write_bytes(content)
    options = job(bundle, tmp_path / "data", tmp_path / "out", on_error="skip-file")
    assert [name for name, _ in run_job(options).skipped] == ["1.parquet"]
    again = run_job(options)
    assert again.nothing_to_do
    assert again.skipped == (("1.parquet", "an earlier run left it out"),)


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_a_run_killed_when_all_was_written_ends_well(bundle, data, expected, tmp_path, name, monkeypatch):  # noqa: PLR0917
    options = job(bundle, data, tmp_path / name)
    remove = LocalStorage.remove

    def stop_before_the_record(self, path):
        if path.endswith("run.json") and (
            (tmp_path / "out" / "_SUCCESS").exists() or (tmp_path / "out.parquet").exists()
        ):
            crash()
        remove(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "remove", stop_before_the_record)
        with pytest.raises(Crash):
            run_job(options)
    with pytest.raises(PairscoreError, match=r"exists.*--overwrite"):
        run_job(replace(options, limit=60))
    assert run_job(options).figures.parts == 0
    assert same(read_output(tmp_path / name), expected)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert not (tmp_path / name / "_pairscore").exists()


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_what_a_kill_at_the_very_end_left_is_tidied_up(bundle, data, tmp_path, name):
    options = job(bundle, data, tmp_path / name)
    run_job(options)
    before = files_below(tmp_path)
    left = tmp_path / "out" / "_pairscore" if name == "out" else tmp_path / "_out.parquet.parts"
    left.mkdir()
    (left / "lock").write_text("")
    assert run_job(options).nothing_to_do
    assert files_below(tmp_path) == before
    assert not left.exists()


def test_overwrite_goes_on_with_the_same_run_and_drops_another(bundle, data, expected, tmp_path):
    options = job(bundle, data, tmp_path / "out", overwrite=True)
    stop_after(options, 3)
    assert run_job(replace(options, limit=60)).earlier_parts == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "_SUCCESS",
        "part-00000-0000000000-0000000050.parquet",
        "part-00000-0000000050-0000000060.parquet",
    ]
    stop_after(options, 3)
    assert run_job(options).earlier_parts == 3
    assert same(read_output(tmp_path / "out"), expected)


def test_the_old_file_stays_until_the_new_one_is_whole(bundle, data, tmp_path):
    pq.write_table(pairs_table(3), tmp_path / "out.parquet")
    options = job(bundle, data, tmp_path / "out.parquet", overwrite=True)
    stop_after(options, 3)
    assert pq.read_table(tmp_path / "out.parquet").equals(pairs_table(3))
    run_job(options)
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 350


def test_a_folder_of_other_files_is_never_written_to(bundle, data, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(PairscoreError, match=r"holds other files \(notes.txt\)"):
            run_job(job(bundle, data, tmp_path / "out", overwrite=overwrite))
    assert files_below(tmp_path) == {"out/notes.txt": b"mine"}


def test_an_empty_folder_is_taken(bundle, data, tmp_path):
    (tmp_path / "out").mkdir()
    assert run_job(job(bundle, data, tmp_path / "out")).whole


def test_a_folder_with_names_that_readers_pass_over_is_taken(bundle, data, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".gitkeep").touch()
    for overwrite in (False, True):
        assert run_job(job(bundle, data, tmp_path / "out", overwrite=overwrite)).whole
    assert (tmp_path / "out" / ".gitkeep").exists()


@pytest.mark.parametrize("name", ["out", "out.parquet"])
@pytest.mark.parametrize("there", [False, True])
def test_what_a_link_leads_to_is_written(bundle, data, tmp_path, name, there):
    target = tmp_path / "disk" / name
    target.parent.mkdir()
    if there:
        run_job(job(bundle, data, target))
    (tmp_path / name).symlink_to(target)
    assert run_job(job(bundle, data, tmp_path / name, overwrite=there)).whole
    assert (tmp_path / name).is_symlink()
    assert read_output(target).num_rows == 350
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", name]


def test_the_record_names_settings_and_inputs(bundle, data, tmp_path):
    stop_after(job(bundle, data, tmp_path / "out"), 1)
    record = json.loads((tmp_path / "out" / "_pairscore" / "run.json").read_text())
    assert [each["name"] for each in record["inputs"]] == ["0.parquet", "1.parquet"]
    assert record["inputs"][0]["size"] == (data / "0.parquet").stat().st_size
    assert len(record["inputs"][0]["footer"]) == 64
    assert record["settings"]["max_length"] == 64
    assert "limit" not in record["settings"]


def test_a_stopped_shard_goes_on(bundle, data, expected, tmp_path):
    options = job(bundle, data, tmp_path / "out")
    stop_after(replace(options, shard=(1, 2)), 2)
    run_job(replace(options, shard=(2, 2)))
    summary = run_job(replace(options, shard=(1, 2)))
    assert summary.earlier_parts == 2
    assert summary.whole
    assert same(read_output(tmp_path / "out"), expected)


def test_the_whole_run_completes_what_shards_left(bundle, data, expected, tmp_path):
    options = job(bundle, data, tmp_path / "out")
    run_job(replace(options, shard=(2, 3)))
    assert run_job(options).whole
    assert same(read_output(tmp_path / "out"), expected)


def test_kept_columns_of_any_type_survive(bundle, tmp_path):
    table = pairs_table(120)
    table = table.append_column(
        "vector", pa.array([[float(row), 1.0] for row in range(120)], pa.list_(pa.float32(), 2))
    )
    table = table.append_column("tags", pa.array([["a"] * (row % 3) for row in range(120)]))
    table = table.append_column("info", pa.array([{"x": row, "y": None} for row in range(120)]))
    table = table.append_column("kind", pa.array(["a", "b", None] * 40).dictionary_encode())
    table = table.append_column("when", pa.array(range(120), pa.timestamp("us", "UTC")))
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=33)
    for name in ("out", "out.parquet"):
        run_job(job(bundle, tmp_path / "in.parquet", tmp_path / name))
        result = read_output(Path(tmp_path / name))
        assert result.drop_columns("score").cast(table.schema).equals(table)
