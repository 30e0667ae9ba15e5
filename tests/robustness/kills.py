"""Disturb jobs at random moments until they are whole, and compare them with the undisturbed one.

    python -m tests.robustness.kills --times 100 --json benchmarks/results/kills.json

Jobs: on this machine and on an S3 server (moto, behind a proxy that can cut it off), into a folder or one file, in
shards, filtered, with old scores reused, of the best rows a claim. Disturbances: SIGKILL, SIGTERM, a full disk, a lost
connection. After each one the parts that lie under a final name must be whole and right; the same command is then given
again.
"""

import argparse
import itertools
import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairscore.cli import main as command_line
from pairscore.runtime.job.run import run_job
from tests.object_store import BUCKET, Faults, proxy
from tests.pairs_files import job, read_output, same, write_pairs
from tests.robustness.cases import tiny_bundle

ROWS = (330, 0, 250)
PART_ROWS = 30
# Kind of job -> the options that ask for it.
ASKED: dict[str, tuple[str, ...]] = {
    "plain": (),
    "shards": (),
    "filter": ("--filter", "relevant"),
    "reuse": ("--reuse", "OLD"),
    "top-k": ("--top-k", "2"),
}
FAULTS = {
    "this machine": ("SIGKILL", "SIGTERM", "full disk"),
    "S3 server": ("SIGKILL", "SIGTERM", "lost connection"),
}
# Disturbances of one job, and seconds that a start may take.
_MOST = 2
_LONGEST = 240


@dataclass(frozen=True)
class Cell:
    """A kind of job and of disturbance."""

    place: str
    output: str
    asked: str
    fault: str


@dataclass
class Ground:
    """Where the jobs run."""

    folder: Path
    bundle: Path
    context: Any
    faults: Faults
    down: threading.Event
    store: Any
    draw: random.Random
    expected: dict[str, pa.Table] = field(default_factory=dict)
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)

    def start(self, arguments: list[str]) -> Any:
        (self.folder / "said").write_text("")
        process = self.context.Process(target=_run, args=(arguments, str(self.folder / "said")))
        process.start()
        return process

    def said(self) -> str:
        return (self.folder / "said").read_text()


CELLS = [
    Cell(place, output, asked, fault)
    for place, faults in FAULTS.items()
    for asked, output, fault in itertools.product(ASKED, ("folder", "file"), faults)
    if (asked, output) != ("shards", "file")
]


def _run(arguments: list[str], said: str) -> None:
    """A job's process."""
    import s3fs

    s3fs.S3FileSystem.retries = 1
    s3fs.S3FileSystem.clear_instance_cache()
    stderr = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stderr, 2)
    command_line(arguments)


def disturb(ground: Ground, cell: Cell, number: int) -> tuple[int, str | None]:
    """Disturb one job up to twice on its way. Returns how often it was, and what was lost; None for nothing."""
    name = f"{number}.parquet" if cell.output == "file" else f"{number}"
    local = cell.place == "this machine"
    with _disk(ground, cell) as folder:
        output = str(folder / name) if local else f"s3://{BUCKET}/{name}"
        shards = ["1/3", "2/3", "3/3"] if cell.asked == "shards" else [None]
        hits = 0
        for shard in shards:
            while True:
                arguments = _arguments(ground, cell, output, shard)
                problem, done, hit = _attempt(ground, cell, arguments, folder, hits < _MOST)
                hits += hit
                problem = problem or _problem_with_parts(ground, cell, output, name)
                if problem:
                    return hits, problem
                if done:
                    break
        result = folder / name if local else _fetched(ground, name)
        if not same(read_output(result), ground.expected[cell.asked]):
            return hits, "the output differs"
        return hits, None


def _attempt(
    ground: Ground, cell: Cell, arguments: list[str], folder: Path, disturbed: bool
) -> tuple[str | None, bool, bool]:
    """Start the command once. Returns what went wrong, whether it came to its end, and whether it was disturbed."""
    if cell.fault == "full disk":
        _resize(folder, f"{ground.draw.randint(40, 160)}k" if disturbed else "64m")
    process = ground.start(arguments)
    moment = ground.draw.uniform(0, 1.1 * ground.seconds[cell.place, cell.asked])
    if disturbed and cell.fault != "full disk":
        process.join(moment)
        if process.exitcode is None:
            _strike(ground, cell, process)
    process.join(_LONGEST)
    if process.exitcode is None:
        process.kill()
        return "no end", False, True
    if ground.down.is_set():
        ground.down.clear()
    code, said = process.exitcode, ground.said()
    if code == 0:
        return None, True, False
    allowed = {
        "SIGKILL": code == -signal.SIGKILL,
        "SIGTERM": code == 143 or (code == -signal.SIGTERM and not said),  # before the command is ready for it
        "full disk": code == 75 and "No space left on device" in said,
        "lost connection": code == 75 and "attempts" in said,
    }[cell.fault]
    if not disturbed or not allowed or "Traceback" in said:
        return f"exit code {code}: {said[-2000:]}", False, True
    return None, False, True


def _strike(ground: Ground, cell: Cell, process: Any) -> None:
    if cell.fault == "lost connection":
        ground.down.set()
    else:
        os.kill(process.pid, signal.Signals[cell.fault])


def _problem_with_parts(ground: Ground, cell: Cell, output: str, name: str) -> str | None:
    """Whatever lies under a final name is whole; without a filter and a ranking, its rows are compared as well."""
    if cell.place == "this machine":
        folder = Path(output) if cell.output == "folder" else Path(output).with_name(f"_{name}.parts")
    else:
        folder = _fetched(ground, name if cell.output == "folder" else f"_{name}.parts")
    for part in folder.glob("part-*") if folder.exists() else ():
        with pq.ParquetFile(part, page_checksum_verification=True) as parquet:
            table = parquet.read()
        file, start, stop = (int(each) for each in part.stem.split("-")[1:])
        if cell.asked in ("plain", "shards", "reuse"):
            first = sum(ROWS[:file]) + start
            if not same(table, ground.expected["plain"].slice(first, stop - start)):
                return f"{part.name} differs"
    return None


def _arguments(ground: Ground, cell: Cell, output: str, shard: str | None) -> list[str]:
    data = str(ground.folder / "data") if cell.place == "this machine" else f"s3://{BUCKET}/data"
    options = [str(ground.folder / "old") if each == "OLD" else each for each in ASKED[cell.asked]]
    more = ["--shard", shard] if shard else []
    return [
        "score", str(ground.bundle), data, "--output", output, "--part-rows", str(PART_ROWS), "--quiet", *options, *more
    ]  # fmt: skip


def _fetched(ground: Ground, name: str) -> Path:
    """An output of the store, copied here."""
    target = ground.folder / "fetched"
    shutil.rmtree(target, ignore_errors=True)
    ground.store.invalidate_cache()
    for path in ground.store.find(f"{BUCKET}/{name}"):
        local = target / path.removeprefix(f"{BUCKET}/")
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(ground.store.cat_file(path))
    return target / name


@contextmanager
def _disk(ground: Ground, cell: Cell) -> Iterator[Path]:
    """An empty folder; for a full disk, of a file system of its own."""
    folder = Path(tempfile.mkdtemp(dir=ground.folder))
    mounted = cell.fault == "full disk"
    if mounted:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def _resize(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=False)  # never below what is in use


@contextmanager
def prepared(bundle: Path, seed: int) -> Iterator[Ground]:
    """Data on this machine and on an S3 server, what undisturbed jobs give, and how long they take."""
    from moto.server import ThreadedMotoServer

    server, faults, down = ThreadedMotoServer(port=0, verbose=False), Faults(), threading.Event()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    address = server.get_host_and_port()
    faults.choose = lambda method, path, number: "reset" if down.is_set() else None
    with tempfile.TemporaryDirectory(prefix="pairscore-kills-") as scratch, proxy(address, faults) as url:
        os.environ |= {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "PAIRSCORE_RETRY_SECONDS": "0.01,0.02,0.04,0.08,0.1",
            "PAIRSCORE_CACHE": f"{scratch}/cache",
        }
        import s3fs

        store = s3fs.S3FileSystem(endpoint_url="http://{}:{}".format(*address))
        store.mkdir(BUCKET)
        folder = Path(scratch)
        for place, rows in enumerate(ROWS):
            write_pairs(folder / "data" / f"{place}.parquet", rows, seed=place, group=110)
            store.put_file(str(folder / "data" / f"{place}.parquet"), f"{BUCKET}/data/{place}.parquet")
        run_job(job(bundle, folder / "data", folder / "old", limit=300))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, "pairscore.runtime.job.run", "onnxruntime", "s3fs"])
        ground = Ground(folder, bundle, context, faults, down, store, random.Random(seed))
        for place, asked in itertools.product(FAULTS, ASKED):
            cell = Cell(place, "folder", asked, "SIGKILL")
            output = str(folder / f"whole-{asked}") if place == "this machine" else f"s3://{BUCKET}/whole-{asked}"
            started = time.monotonic()
            process = ground.start(_arguments(ground, cell, output, None))
            process.join()
            ground.seconds[place, asked] = time.monotonic() - started
            if process.exitcode:
                raise RuntimeError(f"the undisturbed job failed: {ground.said()}")
            if place == "this machine":
                ground.expected[asked] = read_output(Path(output))
        yield ground
    server.stop()


def disturbed(bundle: Path, times: int, seed: int) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Disturb jobs of every cell in turn until there were so many disturbances. Yields what was found so far after
    every job.
    """
    tried: Counter[Cell] = Counter()
    lost: Counter[Cell] = Counter()
    jobs: Counter[Cell] = Counter()
    with prepared(bundle, seed) as ground:
        cells = random.Random(seed).sample(CELLS, len(CELLS))
        for number, cell in enumerate(itertools.cycle(cells)):
            hits, problem = disturb(ground, cell, number)
            tried[cell] += hits
            jobs[cell] += 1
            if problem:
                lost[cell] += 1
            print(f"{tried.total()} {cell} {hits} {problem or ''}", flush=True)
            yield {
                "cells": [
                    {**vars(cell), "jobs": jobs[cell], "tried": tried[cell], "lost": lost[cell]} for cell in CELLS
                ]
            }
            if tried.total() >= times:
                break


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", type=Path, help="By default a tiny one is made.")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bundle = chosen.bundle or tiny_bundle(Path(scratch))
        lost = False
        for result in disturbed(bundle.absolute(), chosen.times, chosen.seed):
            lost = any(cell["lost"] for cell in result["cells"])
            if chosen.json:
                chosen.json.write_text(json.dumps(result, indent=2) + "\n")
    return lost


if __name__ == "__main__":
    sys.exit(main())
