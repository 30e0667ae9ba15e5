"""Files of other formats: each is called by its name, and the command in the message makes Parquet of it."""

import gzip
import re
import shlex
import subprocess
import sys

import pyarrow as pa
import pyarrow.csv
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from pairscore.runtime.errors import PairscoreError
from pairscore.runtime.input.find import find_files
from pairscore.runtime.input.footers import open_file

TABLE = pa.table({"claim": ["a", "it's"], "evidence": ["b", "d, e"], "id": [1, 2]})
LINES = '{"claim": "a", "evidence": "b", "id": 1}\n{"claim": "it\'s", "evidence": "d, e", "id": 2}\n'


def csv(path, delimiter=","):
    pa.csv.write_csv(TABLE, path, pa.csv.WriteOptions(delimiter=delimiter))


def arrow(path, opened):
    with opened(str(path), TABLE.schema) as writer:
        writer.write_table(TABLE)


FORMATS = {
    "x.csv": ("is CSV, not Parquet", csv),
    "no suffix": ("is CSV, not Parquet", csv),
    "x.tsv": ("is CSV, not Parquet", lambda path: csv(path, "\t")),
    "x.csv.gz": (
        "is compressed with gzip, not Parquet",
        lambda path: (csv(path), path.write_bytes(gzip.compress(path.read_bytes()))),
    ),
    "x.jsonl": ("is JSON Lines, not Parquet", lambda path: path.write_text(LINES)),
    "x.json": ("is JSON, not Parquet", lambda path: path.write_text(f"[\n{LINES.strip().replace(chr(10), ',')}]")),
    "x.jsonl.gz": (
        "is compressed with gzip, not Parquet",
        lambda path: path.write_bytes(gzip.compress(LINES.encode())),
    ),
    "it's.arrow": ("is an Arrow file, not Parquet", lambda path: arrow(path, pa.ipc.new_file)),
    "x.arrows": ("is an Arrow stream, not Parquet", lambda path: arrow(path, pa.ipc.new_stream)),
    "x.orc": ("is an ORC file, not Parquet", lambda path: pa.orc.write_table(TABLE, path)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_command_in_the_message_makes_parquet_of_it(tmp_path, name):
    said, write = FORMATS[name]
    write(tmp_path / name)
    with pytest.raises(PairscoreError) as refused:
        open_file(find_files([str(tmp_path / name)])[0])
    message = str(refused.value)
    assert said in message
    assert "\n" not in message
    (command,) = re.findall(r"convert it with python -c (.*)", message)
    subprocess.run([sys.executable, "-c", *shlex.split(command)], check=True, cwd=tmp_path)
    (parquet,) = tmp_path.glob("*.parquet")
    assert pq.read_table(parquet).to_pylist() == TABLE.to_pylist()


def test_parquet_within_gzip(tmp_path):
    pq.write_table(TABLE, tmp_path / "x.parquet")
    (tmp_path / "x.parquet.gz").write_bytes(gzip.compress((tmp_path / "x.parquet").read_bytes()))
    with pytest.raises(PairscoreError, match=r"is compressed with gzip: unpack it with `gunzip .*x\.parquet\.gz`"):
        open_file(find_files([str(tmp_path / "x.parquet.gz")])[0])


def test_a_folder_of_other_files_names_some(tmp_path):
    csv(tmp_path / "pairs.csv")
    with pytest.raises(PairscoreError, match=r"holds no Parquet file: name one of its own \('pairs\.csv'"):
        find_files([str(tmp_path)])
