"""Run fuzz cases: none may end in a traceback, hang, or leave half a file under a final name.

    python -m tests.robustness.fuzz --cases 5000 --seed 0
    python -m tests.robustness.fuzz --only 0:1234

Cases run in worker processes, many in each.
"""

import argparse
import collections
import io
import json
import multiprocessing
import os
import queue
import resource
import shutil
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pairscore.cli import main as command_line
from tests.robustness.cases import KINDS, check, kind_of, make, prepare, tiny_bundle

_SECONDS = 60
_MEMORY = 12 << 30


@dataclass(frozen=True)
class Result:
    """How a case ended. `code`: of its command; None where it ended the process. `problem`: None where all is well."""

    number: str
    kind: str
    code: int | None
    said: str
    problem: str | None


def run_cases(numbers: list[str], bundle: Path, scratch: Path, workers: int = 2) -> Iterator[Result]:
    """The results, in any order. scratch: an empty folder."""
    base = scratch / "base"
    base.mkdir()
    prepare(bundle, base)
    left: queue.Queue[str] = queue.Queue()
    for number in numbers:
        left.put(number)
    results: queue.Queue[Result | None] = queue.Queue()

    def work() -> None:
        with _Worker(base, scratch) as worker:
            while True:
                try:
                    number = left.get_nowait()
                except queue.Empty:
                    break
                results.put(worker.case(number))
        results.put(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for _ in threads:
        while (result := results.get()) is not None:
            yield result


class _Worker:
    """A process that runs cases, started anew whenever one has ended it."""

    def __init__(self, base: Path, scratch: Path) -> None:
        self._base, self._scratch = base, scratch
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        self._process: Any = None
        self._connection: Any = None

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def case(self, number: str) -> Result:
        """Make, run and check the case."""
        folder = self._scratch / number.replace(":", "-")
        try:
            return self._ask(number, folder) or Result(
                number, "?", None, "", f"no end within {_SECONDS} seconds, or died while made"
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _ask(self, number: str, folder: Path) -> Result | None:
        """The worker's answer; a problem where it died, None where it did not answer in time."""
        if self._process is None:
            self._connection, theirs = self._context.Pipe()
            self._process = self._context.Process(target=_serve, args=(theirs, self._base, self._scratch), daemon=True)
            self._process.start()
            theirs.close()
        self._connection.send((number, folder))
        try:
            if self._connection.poll(_SECONDS):
                answer: Result = self._connection.recv()
                return answer
        except EOFError:
            self._process.join()
            how = f"the process ended with {self._process.exitcode}"
            self._stop()
            return Result(number, "crash", None, how, how)
        self._stop()
        return None

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None


def _serve(connection: Connection, base: Path, scratch: Path) -> None:
    """What a worker process does: it reads numbers of cases, runs them and sends the results."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)  # what a library says when it ends the process
    while True:
        try:
            number, folder = connection.recv()
        except EOFError:
            return
        os.environ["PAIRSCORE_CACHE"] = str(scratch / "cache")
        os.chdir(scratch)
        try:
            result = _run(number, base, folder)
        except BaseException:  # of the case's making or checking: tell of it, go on
            result = Result(number, "?", 1, "", traceback.format_exc())
        connection.send(result)


def _run(number: str, base: Path, folder: Path) -> Result:
    case = make(number, base, folder)
    code, said = run_command(list(case.arguments))
    problem = _problem(code, said) or check(case, code, folder)
    return Result(number, case.kind, code, said, problem)


def run_command(arguments: list[str]) -> tuple[int, str]:
    """Exit code of a command line and what it said on standard error, or the traceback that it ended in."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", how) for how in ("strict", "backslashreplace"))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            command_line(arguments)
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        except BaseException:
            return 1, traceback.format_exc()
    err.flush()
    return code, err.buffer.getvalue().decode()


def _problem(code: int, said: str) -> str | None:
    if code not in (0, 2):
        return f"exit code {code}"
    if "Traceback" in said:
        return "a traceback"
    told = [line for line in said.splitlines() if line.startswith("pairscore: error: ")]
    if code == 2 and (len(told) != 1 or not said.endswith(told[0] + "\n")):
        return "exit code 2 without one last line that says why"
    return None


def _ended(result: Result) -> str:
    return f"{result.kind}: {'process ended' if result.code is None else f'exit {result.code}'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="By default a tiny one is made.")
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--only", nargs="*", metavar="SEED:CASE")
    parser.add_argument("--again", type=Path, metavar="JSON", help="Only the cases that went wrong there.")
    parser.add_argument("--json", type=Path, help="Write every case that went wrong, and counts of all.")
    chosen = parser.parse_args()
    numbers = chosen.only or [
        number
        for number in (f"{chosen.seed}:{case}" for case in range(chosen.cases))
        if kind_of(number) in chosen.kinds
    ]
    counts: collections.Counter[str] = collections.Counter()
    if chosen.again:
        earlier = json.loads(chosen.again.read_text())
        numbers = [each["number"] for each in earlier["bad"]]
        counts.update(earlier["counts"])
        counts.subtract(_ended(Result(**each)) for each in earlier["bad"])
    bad: list[Result] = []
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory(prefix="pairscore-fuzz-") as scratch:
        bundle = chosen.bundle or tiny_bundle(Path(made))
        for result in run_cases(numbers, bundle.absolute(), Path(scratch), chosen.workers):
            counts[_ended(result)] += 1
            if chosen.only:
                print(result.number, result.kind, result.code, result.said)
            if result.problem:
                bad.append(result)
                print(f"{result.number} {result.kind}: {result.problem}\n{result.said}", flush=True)
            if chosen.json:  # after every case, so that a run that is stopped has something to show
                found = {"counts": +counts, "bad": [asdict(each) for each in bad]}
                chosen.json.write_text(json.dumps(found, indent=2) + "\n")
    for name, count in sorted(counts.items()):
        print(f"{count:6} {name}")
    print(f"{len(bad)} of {len(numbers)} cases went wrong")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
