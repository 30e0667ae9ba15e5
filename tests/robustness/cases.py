"""Fuzz cases: damage of every kind that a command line can meet, each made from its number alone.

`make` writes a case into a folder of its own and returns the command; `check` looks at what the command left. Both run
in a worker (see `fuzz.py`), since a damaged file may end the process that reads it.
"""

import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.runtime.bundle.manifest import Bundle, sha256
from pairscore.runtime.engines import tuning_cache
from pairscore.runtime.job.run import run_job
from pairscore.runtime.storage.parts import listed_parts
from tests.pairs_files import AtPart, job, pairs_table, read_output, same

ROWS = (60, 45)
PART_ROWS = 20


@dataclass(frozen=True)
class Case:
    """A command, and what must be true afterwards.

    `output`: what it
    writes; None for a command that writes nothing. `expected`: rows that the output must hold when it is whole, bit
    for bit; None where the damage may lie in a text.
    """

    kind: str
    arguments: tuple[str, ...]
    output: Path | None = None
    expected: pa.Table | None = None


def tiny_bundle(folder: Path) -> Path:
    """A bundle of a small random model, in fp32 and for the native engine, made in an empty folder."""
    from pairscore.export.api import export_bundle
    from tests.checkpoints import build_checkpoint
    from tests.native import add_native, changes

    checkpoint, bundle = build_checkpoint("bert", folder / "checkpoint", **changes("bert")), folder / "bundle"
    export_bundle(str(checkpoint), bundle)
    add_native(checkpoint, bundle)
    return bundle


def prepare(bundle: Path, base: Path) -> None:
    """What the cases damage: a bundle, input files of several layouts, unfinished outputs, a remembered tuning."""
    shutil.copytree(bundle, base / "bundle")
    for layout, write in LAYOUTS.items():
        for place, rows in enumerate(ROWS):
            path = base / layout / f"{place}.parquet"
            path.parent.mkdir(exist_ok=True)
            write(pairs_table(rows, seed=place), path)
    inputs = base / "plain"
    run_job(job(bundle, inputs, base / "expected", part_rows=PART_ROWS))
    for name in ("out", "out.parquet"):
        options = job(bundle, inputs, base / "unfinished" / name, part_rows=PART_ROWS)
        with suppress(KeyError):
            run_job(options, log=AtPart(4, {}.popitem))
    shutil.rmtree(base / "unfinished" / "out" / "_pairscore" / "tmp", ignore_errors=True)


def make(number: str, base: Path, folder: Path) -> Case:
    """The case of this number. The same number and base give the same case."""
    folder.mkdir(parents=True)
    return KINDS[kind_of(number)][1](random.Random(number), base, folder)


def kind_of(number: str) -> str:
    """What the case of this number damages."""
    return random.Random(f"kind {number}").choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]


def check(case: Case, code: int, folder: Path) -> str | None:
    """What is wrong with the files that the command left; None where all is well."""
    if case.output is None:
        return None
    whole = case.output.is_file() or (case.output / "_SUCCESS").is_file()
    if code == 0 and not whole and "--dry-run" not in case.arguments and "--shard" not in case.arguments:
        return "exit code 0 without an output"
    if code != 0 and whole:
        return f"exit code {code} and an output under its final name"
    parts = listed_parts([path.name for path in case.output.glob("part-*")]) if case.output.is_dir() else []
    for part in parts:
        if case.kind != "part" or code == 0:
            with pq.ParquetFile(case.output / part.name, page_checksum_verification=True) as parquet:
                parquet.read()
    if whole and case.expected is not None and not same(read_output(case.output), case.expected):
        return "the output differs from that of an undisturbed run"
    leftovers = [str(path.relative_to(folder)) for path in folder.rglob("*.partial")]
    return f"left half-written files: {leftovers}" if leftovers else None


# Input files -------------------------------------------------------------------------------------------


def _write(table: pa.Table, path: Path, **options: Any) -> None:
    pq.write_table(table, path, row_group_size=25, **options)


LAYOUTS: dict[str, Callable[[pa.Table, Path], None]] = {
    "plain": _write,
    "bare": lambda table, path: _write(table, path, compression="none", use_dictionary=False),
    "checked": lambda table, path: _write(
        table, path, compression="zstd", data_page_version="2.0", write_page_checksum=True, write_page_index=True
    ),
    "binary": lambda table, path: _write(
        table.set_column(2, "evidence", table["evidence"].cast(pa.binary())), path, compression="none"
    ),
}


def _damaged_input(draw: random.Random, base: Path, folder: Path) -> Case:
    layout, name = draw.choice(list(LAYOUTS)), draw.choice(["0.parquet", "1.parquet"])
    shutil.copytree(base / layout, folder / "in")
    _damage(draw, folder / "in" / name)
    output = folder / draw.choice(["out", "out.parquet"])
    options = draw.choice(
        [
            [],
            ["--on-error", "skip-file"],
            ["--on-null", "null"],
            ["--filter", "id >= 0"],
            ["--keep", "id"],
            ["--on-invalid-utf8", "null"],
            ["--limit", "70"],
            ["--shard", "1/2"],
            ["--dry-run"],
        ]
    )
    if "--shard" in options:
        output = folder / "out"
    arguments = _score(base / "bundle", folder / "in", output, *options)
    return Case("input", arguments, output=output)


# JSON files --------------------------------------------------------------------------------------------


def _damaged_manifest(draw: random.Random, base: Path, folder: Path) -> Case:
    bundle = shutil.copytree(base / "bundle", folder / "bundle")
    _damage_json(draw, bundle / "pairscore.json")
    if draw.random() < 0.3:
        return Case("manifest", ("info", str(bundle), *draw.choice([(), ("--json",)])))
    arguments = _score(bundle, base / "plain", folder / "out")
    return Case("manifest", arguments, output=folder / "out")


def _damaged_bundle_file(draw: random.Random, base: Path, folder: Path) -> Case:
    names = [name for name in Bundle.open(base / "bundle").manifest.files if not name.startswith("native/")]
    return _damaged_in_bundle("bundle file", draw.choice(names), draw, base, folder)


def _damaged_native(draw: random.Random, base: Path, folder: Path) -> Case:
    name = draw.choice(["native/int8.json", "native/int8.safetensors"])
    return _damaged_in_bundle("native", name, draw, base, folder, "--precision", "int8")


def _damaged_in_bundle(kind: str, name: str, draw: random.Random, base: Path, folder: Path, *options: str) -> Case:
    """A file of the bundle changes; mostly its digest in the manifest too, as after a careless edit."""
    bundle = shutil.copytree(base / "bundle", folder / "bundle")
    if name.endswith(".json"):
        _damage_json(draw, bundle / name)
    else:
        _damage(draw, bundle / name)
    if draw.random() < 0.6:
        raw = json.loads((bundle / "pairscore.json").read_text())
        raw["files"][name] = sha256(bundle / name)
        (bundle / "pairscore.json").write_text(json.dumps(raw))
    return Case(kind, _score(bundle, base / "plain", folder / "out", *options), output=folder / "out")


def _damaged_record(draw: random.Random, base: Path, folder: Path) -> Case:
    output, control = _unfinished(draw, base, folder)
    _damage_json(draw, control / "run.json")
    options = draw.choice([[], [], ["--overwrite"]])
    arguments = _score(base / "bundle", base / "plain", output, *options)
    return Case("record", arguments, output=output, expected=_expected(base))


def _damaged_part(draw: random.Random, base: Path, folder: Path) -> Case:
    output, control = _unfinished(draw, base, folder)
    _damage(draw, draw.choice(sorted(control.parent.glob("part-*"))))
    return Case("part", _score(base / "bundle", base / "plain", output), output=output, expected=_expected(base))


def _damaged_finished(draw: random.Random, base: Path, folder: Path) -> Case:
    """The same command once more on a whole output, or another one that takes its scores."""
    old = shutil.copytree(base / "expected", folder / "old")
    _damage(draw, draw.choice(sorted(old.glob("part-*"))))
    if draw.random() < 0.5:
        return Case("finished", _score(base / "bundle", base / "plain", old))
    arguments = _score(base / "bundle", base / "plain", folder / "out", "--reuse", str(old))
    return Case("reuse", arguments, output=folder / "out", expected=_expected(base))


def _damaged_tuning(draw: random.Random, base: Path, folder: Path) -> Case:
    os.environ["PAIRSCORE_CACHE"] = str(folder / "cache")
    choice = tuning_cache.TunedSetting("onnxruntime", 1, 512, gain=1.2)
    _damage_json(draw, tuning_cache.save_tuned(Bundle.open(base / "bundle").digest("fp32"), choice))
    arguments = _score(base / "bundle", base / "plain", folder / "out")
    return Case("tuning", arguments, output=folder / "out", expected=_expected(base))


def _unfinished(draw: random.Random, base: Path, folder: Path) -> tuple[Path, Path]:
    """A copy of a run that was stopped behind four parts: its output and its control folder."""
    shutil.copytree(base / "unfinished", folder, dirs_exist_ok=True)
    if draw.random() < 0.5:
        return folder / "out", folder / "out" / "_pairscore"
    return folder / "out.parquet", folder / "_out.parquet.parts" / "_pairscore"


def _expected(base: Path) -> pa.Table:
    return read_output(base / "expected")


# Command lines -----------------------------------------------------------------------------------------

_ODD = [
    "",
    " ",
    "-",
    "--",
    "0",
    "-1",
    "1e9",
    "9" * 30,
    "é",
    "\udcff",
    "a\nb",
    "a,b",
    "%s",
    "{0}",
    "*",
    "[",
    "~",
    "nul",
    "x" * 300,
]
_VALUES: dict[str, list[str]] = {
    "--claim-column": ["claim", "id", "evidence", "nope"],
    "--evidence-column": ["evidence", "claim", "relevant"],
    "--score-column": ["score", "id", "claim"],
    "--keep": ["id", "claim,id", "nope", ","],
    "--precision": ["fp32", "int8", "FP32", "auto"],
    "--engine": ["auto", "onnxruntime", "openvino", "native", "nowhere"],
    "--device": ["cpu", "cuda", "cuda:0", "cuda:x", "cpu:1", "cuda:0,cuda:1", "cpu,cpu", ","],
    "--max-length": ["64", "5", "4", "1", "100000"],
    "--on-null": ["error", "null", "drop"],
    "--on-error": ["fail", "skip-file"],
    "--on-invalid-utf8": ["error", "null"],
    "--filter": ["id < 10", "relevant", "id == 'x'", "nope", "id <", "claim is null", "id in (1, 2)", "id in ('a', 1)",
                 "id < 1e400", "1 < 2", "id == 99999999999999999999", "not id", "field('id')", "claim < 3", "(" * 300],
    "--limit": ["0", "1", "30", "1000"],
    "--shard": ["1/1", "1/2", "2/2", "3/2", "0/0", "a/b", "1/9999", "١/٢"],
    "--part-rows": ["1", "20", "1000000"],
    "--reuse": ["nothing", "out", "."],
    "--top-k": ["1", "0", "3"],
    "--by": ["claim", "id", "nope"],
    "--promise": ["fp32", "int8", "none"],
    "--compression": ["none", "zstd", "zip", "brotli"],
    "--log-json": ["log", "missing/log", "."],
}  # fmt: skip
_FLAGS = ["--no-tuning", "--overwrite", "--dry-run", "--json", "--quiet", "--nope", "-h"]


def _odd_command(draw: random.Random, base: Path, folder: Path) -> Case:
    os.chdir(folder)
    command = draw.choices(["score", "info", "tune", "show", "nope"], [88, 5, 2, 4, 1])[0]
    bundle = draw.choices([str(base / "bundle"), str(base / "plain"), "nothing", *_ODD], [60, 3, 3, *[1] * len(_ODD)])[
        0
    ]
    arguments = [command, bundle]
    if command == "tune":
        return Case("command", (*arguments, "--seconds", draw.choice(["1", "0", *_ODD])))
    if command == "score":
        inputs = [str(base / "plain"), str(base / "plain" / "*.parquet"), str(base / "plain" / "0.parquet"), "nothing",
                  str(base), str(base / "bundle"), "s3:", "ftp://x", "file://", "hf://", *_ODD]  # fmt: skip
        arguments += draw.choices(inputs, [20, 10, 10, *[1] * (len(inputs) - 3)], k=draw.choice([0, 1, 1, 1, 1, 2]))
        output = draw.choices(["out", "out.parquet", "a/b/c.parquet", "/dev/null", "/proc/x", str(base), *_ODD],
                              [20, 20, 5, 1, 1, 1, *[1] * len(_ODD)])[0]  # fmt: skip
        if draw.random() < 0.95:
            arguments += ["--output", output]
    for option in draw.sample(list(_VALUES), draw.choice([0, 1, 1, 2, 3])):
        arguments += [option, draw.choice([*_VALUES[option], *_VALUES[option], *_ODD])]
    arguments += draw.sample(_FLAGS, draw.choice([0, 0, 1, 2]))
    return Case("command", tuple(arguments))


# Damage ------------------------------------------------------------------------------------------------


def _damage(draw: random.Random, path: Path) -> None:
    """Flip bits, more often than not within the last bytes, where a Parquet file keeps its footer; or cut, or blank."""
    content = bytearray(path.read_bytes())
    first = 0 if draw.random() < 0.5 else max(0, len(content) - draw.choice([40, 400, 4000]))
    match draw.choices(["flip", "cut", "blank", "repeat"], [16, 1, 2, 1])[0]:
        case "flip":
            for _ in range(draw.randint(1, 10)):
                content[draw.randrange(first, len(content))] ^= 1 << draw.randrange(8)
        case "cut":
            del content[draw.randrange(len(content)) :]
        case "blank":
            start = draw.randrange(first, len(content))
            stop = min(len(content), start + draw.randint(1, 200))
            content[start:stop] = draw.choice([b"\0", b"\xff"]) * (stop - start)
        case "repeat":
            start = draw.randrange(first, len(content))
            content[start:start] = content[start : start + draw.randint(1, 200)]
    path.write_bytes(content)


def _damage_json(draw: random.Random, path: Path) -> None:
    """Change one value, remove it, add one, or damage the text itself."""
    if draw.random() < 0.2:
        _damage(draw, path)
        return
    try:
        root = {"root": json.loads(path.read_text(encoding="utf-8"))}
    except ValueError:
        return
    places = list(_places(root))
    holder, key = draw.choice(places)
    match draw.choices(["change", "remove", "add"], [8, 2, 1])[0]:
        case "change":
            holder[key] = _other(draw, holder[key])
        case "remove":
            del holder[key]
        case "add":
            holder[key] = {**holder[key], "surprise": 1} if isinstance(holder[key], dict) else [holder[key]] * 2
    path.write_text(json.dumps(root.get("root")), encoding="utf-8")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of every value inside, however deep."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield value, key
        yield from _places(inner)


def _other(draw: random.Random, value: Any) -> Any:
    others: list[Any] = [
        None,
        True,
        0,
        -1,
        1.5,
        10**30,
        float("nan"),
        float("inf"),
        1e-300,
        "",
        "x",
        "\ud800",
        "../../x",
        "/",
        [],
        {},
        [[]],
        ["x"],
        {"x": 1},
    ]
    if isinstance(value, str):
        others += [
            value.upper(),
            value + "x",
            value[1:],
            value * 1000,
            [value],
            int(value, 16) if value.isalnum() and value.isdecimal() else 7,
        ]
    if isinstance(value, int | float) and not isinstance(value, bool):
        others += [str(value), value + 1, -value, value * 1000, [value]]
    if isinstance(value, list | dict):
        others += [copy.copy(list(value)), dict(enumerate(value)), str(value)]
    return draw.choice(others)


def _score(bundle: Path, inputs: Path, output: Path, *options: str) -> tuple[str, ...]:
    return ("score", str(bundle), str(inputs), "--output", str(output), "--part-rows", str(PART_ROWS), *options)


KINDS: dict[str, tuple[int, Callable[[random.Random, Path, Path], Case]]] = {
    "input": (30, _damaged_input),
    "manifest": (20, _damaged_manifest),
    "bundle file": (8, _damaged_bundle_file),
    "native": (8, _damaged_native),
    "record": (12, _damaged_record),
    "part": (12, _damaged_part),
    "tuning": (5, _damaged_tuning),
    "finished": (6, _damaged_finished),
    "command": (13, _odd_command),
}
