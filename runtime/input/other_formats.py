"""Files that are not Parquet: what they are by their first bytes, and the command that makes Parquet of them."""

import json
import shlex
from pathlib import PurePosixPath

_ARROW = "import pyarrow as pa, pyarrow.parquet as pq; pq.write_table(pa.ipc.open_{kind}({path}).read_all(), {parquet})"
_ORC = "import pyarrow.orc as orc, pyarrow.parquet as pq; pq.write_table(orc.read_table({path}), {parquet})"
_DUCKDB = "import duckdb; duckdb.{reader}({path}).write_parquet({parquet})"
_BINARY = (
    (b"ARROW1", "an Arrow file", _ARROW.replace("{kind}", "file")),
    (b"\xff\xff\xff\xff", "an Arrow stream", _ARROW.replace("{kind}", "stream")),
    (b"FEA1", "a Feather file of version 1", None),
    (b"ORC", "an ORC file", _ORC),
    (b"Obj\x01", "an Avro file", None),
    (b"PK\x03\x04", "a zip archive", None),
    (b"SQLite format 3\x00", "an SQLite database", None),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", None),
    (b"\x89HDF", "an HDF5 file", None),
)
_GZIP = b"\x1f\x8b"
_SUFFIXES = {".csv": "read_csv", ".tsv": "read_csv", ".txt": "read_csv", ".jsonl": "read_json", ".ndjson": "read_json"}
_SUFFIXES |= {".json": "read_json"}


def other_format(path: str, head: bytes) -> str | None:  # noqa: PLR0911 (a return a format)
    """What a file is, and how it becomes Parquet, in words; None where its first bytes tell nothing.

    head: its first bytes, a few kilobytes.
    """
    for magic, name, code in _BINARY:
        if head.startswith(magic):
            return f"is {name}, not Parquet{_command(path, code)}"
    name = PurePosixPath(path).name.lower()
    if head.startswith(_GZIP):
        inner = PurePosixPath(name.removesuffix(".gz")).suffix
        if inner in _SUFFIXES:
            return f"is compressed with gzip, not Parquet{_command(path, _DUCKDB, _SUFFIXES[inner])}"
        return f"is compressed with gzip: unpack it with `gunzip {shlex.quote(path)}`"
    text = _text(head)
    if text is None:
        return None
    if text.lstrip()[:1] in ("{", "["):
        kind = "JSON Lines" if _is_json_line(text) else "JSON"
        return f"is {kind}, not Parquet{_command(path, _DUCKDB, 'read_json')}"
    lines = text.splitlines()
    separators = [each for each in ",\t;|" if lines and each in lines[0]]
    if separators or PurePosixPath(name).suffix in _SUFFIXES:
        return f"is CSV, not Parquet{_command(path, _DUCKDB, 'read_csv')}"
    return None


def _command(path: str, code: str | None, reader: str = "") -> str:
    """How to convert it, for the end of a sentence."""
    if code is None:
        return ": unpack or export what it holds as Parquet"
    parquet = PurePosixPath(path).name.split(".")[0] + ".parquet"
    code = (
        code.replace("{reader}", reader).replace("{path}", json.dumps(path)).replace("{parquet}", json.dumps(parquet))
    )
    return f": convert it with python -c {shlex.quote(code)}"


def _text(head: bytes) -> str | None:
    try:
        # The last character may be cut.
        text = head[: max(0, len(head) - 3)].decode() if len(head) > 3 else head.decode()
    except UnicodeDecodeError:
        return None
    return text if text.strip() and not any(ord(each) < 9 for each in text) else None


def _is_json_line(text: str) -> bool:
    try:
        return isinstance(json.loads(text.splitlines()[0]), dict)
    except ValueError:
        return False
