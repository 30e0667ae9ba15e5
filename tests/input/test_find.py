"""Which files an input names, in which order, and what is refused before anything is scored."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.input.find import find_files
from pairscore.runtime.input.footers import needed_columns, open_file, read_here
from pairscore.runtime.input.partitions import partition_array, partition_fields
from tests.pairs_files import pairs_table, write_pairs


@pytest.fixture
def data(tmp_path):
    for name in ("b.parquet", "a.parquet", "sub/c.pq", "_hidden.parquet", ".d.parquet", "_tmp/e.parquet", "notes.txt"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pairs_table(3), path)
    return tmp_path / "data"


def names(*inputs, output=None):
    return [file.name for file in find_files([str(each) for each in inputs], output and str(output))]


def test_a_folder_gives_its_parquet_files_sorted_without_hidden_ones(data):
    assert names(data) == ["a.parquet", "b.parquet", "sub/c.pq"]


def test_patterns(data):
    assert names(data / "*.parquet") == ["a.parquet", "b.parquet"]
    assert names(data / "**" / "*.p*q*") == ["a.parquet", "b.parquet", "sub/c.pq"]
    assert names(data / "[b-z].parquet") == ["b.parquet"]


def test_a_file_is_taken_whatever_its_name(data):
    assert names(data / "_hidden.parquet", data / "notes.txt") == ["_hidden.parquet", "notes.txt"]


def test_arguments_keep_their_order(data):
    assert names(data / "b.parquet", data / "a.parquet", data / "sub") == ["b.parquet", "a.parquet", "c.pq"]


def test_a_name_with_brackets_is_a_name_when_it_is_there(tmp_path):
    write_pairs(tmp_path / "x[1].parquet", 3)
    assert names(tmp_path / "x[1].parquet") == ["x[1].parquet"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["missing.parquet"], "no input 'missing.parquet'"),
        (["*.csv"], "no file matches '*.csv'"),
        (["empty"], "folder 'empty' holds no Parquet file"),
        ([""], "an empty path"),
        (["data/a.parquet", "data"], "is given twice"),
        (["data/a.parquet", "data/../data/a.parquet"], "is given twice"),
        (["link.parquet", "data/a.parquet"], "is given twice"),
        (["nothing://x"], "cannot open 'nothing://x'"),
    ],
)
def test_inputs_that_are_refused(data, monkeypatch, inputs, message):
    monkeypatch.chdir(data.parent)
    (data.parent / "empty").mkdir()
    (data.parent / "link.parquet").symlink_to(data / "a.parquet")
    with pytest.raises(PairscoreError) as refused:
        find_files(inputs)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("given", "output", "inside"),
    [
        ("data", "data/out", True),
        ("data", "data", True),
        ("data", "data/sub/out.parquet", True),
        ("link", "data/out", True),
        ("data/*.parquet", "data/out.parquet", True),
        ("data/**/*.parquet", "data/out", True),
        ("data/**/*.parquet", "data/x/y/out.parquet", True),
        ("data/a.parquet", "data/a.parquet", True),
        ("data/a.parquet", "data/out.parquet", False),
        ("data/a.parquet", "data/out", False),
        ("data/**", "data/x/y", True),
        ("d?ta/[!b].parquet", "data/c.parquet", True),
        ("data/*.parquet", "data/out", False),
        ("data/*.parquet", "data/sub/c.parquet", False),
        ("data/**/sub/*.pq", "data/y/out.pq", False),
        ("data/[ab].parquet", "data/c.parquet", False),
        ("data", "data2", False),
        ("data", "out.parquet", False),
    ],
)
def test_an_output_inside_the_input_is_refused(data, monkeypatch, given, output, inside):
    monkeypatch.chdir(data.parent)
    (data.parent / "link").symlink_to(data)
    if inside:
        with pytest.raises(PairscoreError, match="lies inside input"):
            find_files([given], output)
    else:
        assert find_files([given], output)


def test_partition_folders_become_typed_columns(tmp_path):
    for year, topic in (("2019", "a b"), ("2020", "x/y"), ("__HIVE_DEFAULT_PARTITION__", "z")):
        quoted = topic.replace(" ", "%20").replace("/", "%2F")
        write_pairs(tmp_path / f"year={year}" / f"topic={quoted}" / "f.parquet", 2)
    found = find_files([str(tmp_path)])
    assert found[0].folder == "year=2019/topic=a%20b"
    assert find_files([str(tmp_path / "year=2*" / "*" / "*.parquet")])[0].partitions == found[0].partitions
    files = list(read_here(found, ()))
    fields = partition_fields(files)
    assert [(field.name, field.type) for field in fields] == [("year", pa.int64()), ("topic", pa.string())]
    values = [[partition_array(file, field, 1)[0].as_py() for field in fields] for file in found]
    assert values == [[2019, "a b"], [2020, "x/y"], [None, "z"]]


def test_leading_zeros_stay_text(tmp_path):
    for month in ("01", "02"):
        write_pairs(tmp_path / f"month={month}" / "f.parquet", 2)
    files = list(read_here(find_files([str(tmp_path)]), ()))
    assert partition_fields(files)[0].type == pa.string()


def test_uneven_partition_folders_are_refused(tmp_path):
    write_pairs(tmp_path / "year=2019" / "f.parquet", 2)
    write_pairs(tmp_path / "f.parquet", 2)
    with pytest.raises(PairscoreError, match=r"has partition folders \['year'\].*score them separately"):
        find_files([str(tmp_path)])


def test_the_fingerprint_changes_with_the_content_alone(tmp_path):
    write_pairs(tmp_path / "a.parquet", 50)
    write_pairs(tmp_path / "b.parquet", 50)
    write_pairs(tmp_path / "c.parquet", 50, seed=1)
    a, b, c = (open_file(file) for file in find_files([str(tmp_path)]))
    assert (a.size, a.digest) == (b.size, b.digest)
    assert a.digest != c.digest
    assert a.rows == 50


def test_a_footer_longer_than_the_first_request_is_read_whole(tmp_path):
    pq.write_table(pairs_table(2000), tmp_path / "a.parquet", row_group_size=5)
    (file,) = (open_file(file) for file in find_files([str(tmp_path)]))
    assert len(file.group_rows) == 400
    assert file.schema == pq.read_schema(tmp_path / "a.parquet")


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "text", "footer"])
def test_what_is_not_a_whole_parquet_file_is_one_line(tmp_path, damage):
    path = tmp_path / "a.parquet"
    write_pairs(path, 50)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut": whole[:-20],
            "garbage": os.urandom(1000),
            "text": b"claim and evidence\n",
            "footer": whole[:-60] + bytes(40) + whole[-20:],
        }[damage]
    )
    with pytest.raises(PairscoreError, match=r"a\.parquet' is not a whole Parquet file") as refused:
        open_file(find_files([str(path)])[0])
    assert "\n" not in str(refused.value)


def test_needed_columns_come_in_the_order_of_the_file():
    schema = pa.schema([("x", pa.int64()), ("claim", pa.string()), ("y", pa.int64()), ("evidence", pa.string())])
    assert needed_columns(schema, ["y"], ["evidence", "claim"]) == ["claim", "y", "evidence"]
    assert needed_columns(schema, None) == schema.names
    with pytest.raises(PairscoreError, match="no column 'z': the input has 'x', 'claim'"):
        needed_columns(schema, ["z"])


# Links, suffixes, keys ---------------------------------------------------------------------------------


def test_links_to_folders_are_followed_and_loops_noticed(data, tmp_path):
    write_pairs(tmp_path / "elsewhere" / "x.parquet", 3)
    (data / "link").symlink_to(tmp_path / "elsewhere")
    (data / "sub" / "loop").symlink_to(data)
    assert names(data) == ["a.parquet", "b.parquet", "link/x.parquet", "sub/c.pq"]
    (data / "again").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PairscoreError, match="is given twice"):
        names(data)


def test_a_suffix_in_capitals_and_none_at_all(data):
    pq.write_table(pairs_table(3), data / "D.PARQUET")
    pq.write_table(pairs_table(3), data / "000000_0")
    (data / "README").write_text("no Parquet")
    assert names(data) == ["000000_0", "D.PARQUET", "a.parquet", "b.parquet", "sub/c.pq"]


def test_a_link_to_nothing_is_refused_however_it_is_found(data):
    (data / "broken.parquet").symlink_to(data / "gone")
    for given in (data, data / "*.parquet", data / "broken.parquet"):
        with pytest.raises(PairscoreError, match="is a link to nothing"):
            names(given)


def test_a_folder_that_cannot_be_read_is_refused(data, monkeypatch):
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith(("sub", "_tmp")):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(PairscoreError, match=r"cannot read input .*Permission denied"):
        names(data)
    (data / "sub").rename(data / "_sub")
    monkeypatch.setattr(os, "scandir", lambda path: scandir(path) if "_sub" not in str(path) else refusing("sub"))
    assert names(data) == ["a.parquet", "b.parquet"]


def test_what_is_hidden_is_told(data):
    told = []
    find_files([str(data)], left_out=told.append)
    assert told == [".d.parquet", "_hidden.parquet", "_tmp/e.parquet"]
    find_files([str(data / "**" / "_*.parquet"), str(data / "a.parquet")][1:], left_out=told.append)
    assert len(told) == 3


def test_keys_in_paths_are_known_however_the_files_are_named(tmp_path, monkeypatch):
    for hour in (1, 2):
        write_pairs(tmp_path / "in" / "year=2020" / f"_hour={hour}" / "a.parquet", 2)
    folder = tmp_path / "in" / "year=2020"
    for given in (
        [tmp_path / "in"],
        [folder],
        [folder / "_hour=1", folder / "_hour=2"],
        [f"{tmp_path}/in/**/*.parquet"],
        [folder / "_hour=1" / "a.parquet", folder / "_hour=2" / "*.parquet"],
    ):
        found = find_files([str(each) for each in given])
        assert [file.partitions for file in found] == [(("year", "2020"), ("_hour", hour)) for hour in "12"]
        assert [file.folder for file in found] == ["year=2020/_hour=1", "year=2020/_hour=2"]
    # Only the part of the path that was given names keys.
    monkeypatch.chdir(folder)
    (file,) = find_files(["_hour=1"])
    assert file.partitions == (("_hour", "1"),)


def test_a_pattern_below_a_folder_with_brackets(tmp_path):
    write_pairs(tmp_path / "run [1]" / "a.parquet", 3)
    write_pairs(tmp_path / "run 1" / "b.parquet", 3)
    assert names(f"{tmp_path}/run [1]/*.parquet") == ["a.parquet"]
    assert names(f"{tmp_path}/run [12]/*.parquet") == ["run 1/b.parquet"]


@pytest.mark.parametrize("folder", ["out", "out/year=2020", "day=1"])
def test_the_parts_of_a_run_that_has_not_ended_are_refused(tmp_path, folder):
    part = tmp_path / folder / "part-00000-0000000000-0000000003.parquet"
    write_pairs(part, 3)
    root = tmp_path / "out" if folder.startswith("out") else tmp_path / folder
    for given in (root, f"{root}/**/*.parquet"):
        with pytest.raises(PairscoreError, match="holds the parts of a run that has not ended"):
            names(given)
    assert names(part) == [part.name]  # copied, perhaps
    (root / "_SUCCESS").touch()
    assert len(names(root)) == 1
    (root / "_pairscore").mkdir()
    (root / "_pairscore" / "run.json").touch()
    for given in (root, f"{root}/**/*.parquet", part):
        with pytest.raises(PairscoreError, match="holds the parts of a run that has not ended"):
            names(given)


def test_addresses_as_users_write_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_pairs(tmp_path / "a b" / "x.parquet", 3)
    write_pairs(tmp_path / "c%20d" / "x.parquet", 3)
    for url in ("~/a b/x.parquet", f"file:{tmp_path}/a%20b/x.parquet", f"file://{tmp_path}/a%20b/x.parquet"):
        assert find_files([url])[0].path == f"{tmp_path}/a b/x.parquet"
    assert find_files([f"file://localhost{tmp_path}/c%20d"])[0].path == f"{tmp_path}/c%20d/x.parquet"
    with pytest.raises(PairscoreError, match="'-' would be a stream"):
        find_files(["-"])
