"""Pairs per second and parity of several systems, interleaved in one run: what `pairscore bench` measures.

Timing runs from a list of text pairs in memory to logits in memory. Loading is outside, and so is a warm-up, in which
each system scores every third pair. Each system has a process of its own and only one of them computes at a time. A
shared machine is slow for some seconds, then fast. So in each round every system runs in slices: it computes for a
twentieth of the time that its run takes, is stopped (SIGSTOP), and waits until all others had a slice. Thus all of them
meet the same machine. A rate is the mean of a system's rounds, and a ratio is the quotient of two rates.
"""

import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairscore.benchmarks.loaders import Files, Logits, Pairs
from pairscore.benchmarks.systems import System
from pairscore.benchmarks.worker import children_of
from pairscore.runtime.bundle.activation import activate
from pairscore.runtime.bundle.manifest import Manifest
from pairscore.runtime.bundle.parity import TIERS, Tier, compare

# Slices that a run is cut into, and the shortest: what a slice finds cold must not count.
SLICES, LEAST_SLICE_SECONDS = 20, 0.2
# The warm-up scores one pair in so many: it meets all regions of lengths, and tells how long a run will take.
WARM_UP_ONE_IN = 3
# A system that is at least so many times as fast as the reference runs in all rounds, another one in the first.
ALL_ROUNDS = 1.25
# Ratios of two rounds confirm each other when they are this close; else the system gets more rounds.
CONFIRMED_WITHIN = 0.05
MAX_MORE_ROUNDS = 1
LOADING_AT_ONCE = 2


@dataclass(frozen=True)
class Run:
    """One timed run. `seconds`: without those in which its process was stopped. `logits`: Shape (pairs, labels).
    `others_share`: the share of the processors that other processes took while it computed; None where the operating
    system does not tell. `statistics`: the system's own, which do count the stops.
    """

    seconds: float
    others_share: float | None
    statistics: Mapping[str, float]
    peak_memory_bytes: int
    logits: Logits


Turns = dict[int, Run]  # a system's runs by round, from 0


@dataclass(frozen=True)
class Slice:
    """A time in which a process computed, on the clock of `time.monotonic`, and the processor time that others had
    taken at its two ends; None where not told.
    """

    began: float
    ended: float
    others_before: float | None = None
    others_after: float | None = None


class Worker:
    """A system's process. `error`: why it does not run; None while it does."""

    def __init__(
        self, system: System, files: Files, pairs_file: Path, timed: int, *, folder: Path, python: str
    ) -> None:
        self.system = system
        self._logits = folder / "logits.npy"
        specification = folder / "specification.json"
        specification.write_text(
            json.dumps(
                {
                    "loader": system.loader,
                    "arguments": dict(system.arguments),
                    "files": asdict(files),
                    "pairs": str(pairs_file),
                    "timed": timed,
                    "logits": str(self._logits),
                }
            )
        )
        self._log = folder / "errors.log"
        with self._log.open("w") as errors:
            self._process = subprocess.Popen(
                [python, "-m", "pairscore.benchmarks.worker", str(specification)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                process_group=0,  # stopped and ended with what it starts; a process that is left behind ends, too
            )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process has no standard input or output")
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self._running = False
        answer = self._answer()
        self.error: str | None = answer.get("error")
        self.versions: dict[str, str] = answer.get("versions", {})

    def run(self, rows: Sequence[int] | None = None) -> Run | None:
        """Score the timed pairs, or those at `rows` of all; None when that failed, which `error` then explains."""
        try:
            next(self.slices(None, rows))
        except StopIteration as ended:
            run: Run | None = ended.value
            return run
        raise RuntimeError("a run that is one slice was stopped")

    def slices(self, seconds: float | None, rows: Sequence[int] | None = None) -> Generator[None, None, Run | None]:
        """A run as of `run`, which is its value. Each step computes for `seconds`, then stops the process."""
        process = self._process.pid
        slices: list[Slice] = []
        self._running = True
        self._ask(None if rows is None else list(rows))
        while True:
            before, began = processor_seconds_of_others(process), time.monotonic()
            if slices:
                os.killpg(process, signal.SIGCONT)
            has_answered, _, _ = select.select([self._answers], [], [], seconds)
            if not has_answered:
                os.killpg(process, signal.SIGSTOP)
                os.waitid(os.P_PID, process, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            slices.append(Slice(began, time.monotonic(), before, processor_seconds_of_others(process)))
            if has_answered:
                break
            yield
        answer = self._answer()
        self._running = False
        if "error" in answer:
            self.error = answer["error"]
            return None
        logits = np.load(self._logits)
        return Run(
            seconds_within(slices, answer["started"], answer["ended"]),
            share_of_others(slices),
            answer["statistics"],
            answer["peak_memory_bytes"],
            logits.reshape(len(logits), -1),
        )

    def close(self) -> None:
        """End the process, and what it started. One that still computes is not waited for."""
        self._requests.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if self._running else 10)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._answers.close()

    def _ask(self, request: list[int] | None) -> None:
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        last = [each for each in self._log.read_text(errors="replace").splitlines() if each.strip()][-1:]
        return {"error": f"its process ended with {self._process.wait()}: {''.join(last)[:200]}"}


class Workers(ExitStack):
    """The processes of one measurement, closed together. `more`: pairs behind those that are timed, for runs of chosen
    rows. `others`: what systems that are not ours get in place of both, where it differs. `say`: gets one line for each
    process that starts.
    """

    def __init__(
        self,
        files: Files,
        pairs: Pairs,
        environments: Path | None = None,
        say: Callable[[str], None] = lambda line: None,
        *,
        more: Sequence[tuple[str, str]] = (),
        others: Sequence[tuple[str, str]] | None = None,
    ) -> None:
        super().__init__()
        self._files, self._environments, self._say, self._timed = files, environments, say, len(pairs)
        self._folder = Path(self.enter_context(tempfile.TemporaryDirectory()))
        ours = [*pairs, *more]
        self._pairs_files = {True: self._folder / "ours.json", False: self._folder / "others.json"}
        self._pairs_files[True].write_text(json.dumps(ours))
        self._pairs_files[False].write_text(json.dumps(ours if others is None else others))

    def start(self, system: System) -> Worker | str:
        """A loaded worker, or why there is none."""
        return self.start_all([system])[0]

    def start_all(self, systems: Sequence[System]) -> list[Worker | str]:
        """As `start`, of each. Several load at once."""
        with ThreadPoolExecutor(LOADING_AT_ONCE) as pool:
            opened = list(pool.map(self._load, systems))
        return [each if isinstance(each, str) else each.error or each for each in opened]

    def _load(self, system: System) -> Worker | str:
        python = sys.executable
        if system.environment is not None:
            found = None if self._environments is None else self._environments / system.environment / "bin" / "python"
            if found is None or not found.is_file():
                return f"needs the environment of benchmarks/peers/{system.environment}.txt: `make bench-peers`"
            python = str(found)
        if system.missing:
            return system.missing
        self._say(f"Loading {system.name}")
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        pairs_file = self._pairs_files[system.ours]
        worker = Worker(system, self._files, pairs_file, self._timed, folder=folder, python=python)
        self.callback(worker.close)
        return worker


def take_turns(workers: Mapping[str, Worker], rounds: int, reference: str, rows: Sequence[int]) -> dict[str, Turns]:
    """Warm every worker up and take its turns. rows: as of `Worker.run`. Workers whose warm-up failed are left out.

    The runs of a round are interleaved slice by slice, in an order that rotates. Up to `MAX_MORE_ROUNDS` more rounds
    are for those whose ratio no other round confirms, of those that ran in several. Raises RuntimeError where the
    reference does not run.
    """
    tried = {name: worker.run(rows[::WARM_UP_ONE_IN]) for name, worker in workers.items()}
    expected = {name: run.seconds * WARM_UP_ONE_IN for name, run in tried.items() if run is not None}
    if reference not in expected:
        raise RuntimeError(f"the reference did not run: {workers[reference].error}")
    turns: dict[str, Turns] = {name: {} for name in expected}
    fast = {name for name, seconds in expected.items() if expected[reference] >= ALL_ROUNDS * seconds}
    for place in range(rounds + MAX_MORE_ROUNDS):
        names = [name for name in expected if not place or name in fast or name == reference]
        if place >= rounds:
            unsure = {name for name in fast if not confirmed(turns[name], turns[reference])}
            names = [name for name in names if name in unsure or name == reference] if unsure else []
        shift = place % max(1, len(names))
        going = {
            name: workers[name].slices(max(LEAST_SLICE_SECONDS, expected[name] / SLICES), rows)
            for name in names[shift:] + names[:shift]
            if workers[name].error is None
        }
        while going:
            for name in list(going):
                try:
                    next(going[name])
                except StopIteration as ended:
                    del going[name]
                    if ended.value is not None:
                        turns[name][place] = ended.value
        if workers[reference].error is not None:
            raise RuntimeError(f"the reference did not run: {workers[reference].error}")
    return turns


def confirmed(turns: Turns, reference: Turns) -> bool:
    """Whether the ratios of a system's rounds to the reference's agree."""
    found = [reference[place].seconds / run.seconds for place, run in turns.items()]
    return not found or max(found) / min(found) - 1 <= CONFIRMED_WITHIN


def seconds_within(slices: Sequence[Slice], started: float, ended: float) -> float:
    """How much of the time from `started` to `ended` lies in slices that follow each other."""
    return sum(max(0.0, min(each.ended, ended) - max(each.began, started)) for each in slices)


def share_of_others(slices: Sequence[Slice]) -> float | None:
    """The share of the machine's processors that other processes, or other machines on its host, took meanwhile."""
    others = 0.0
    for each in slices:
        if each.others_before is None or each.others_after is None:
            return None
        others += each.others_after - each.others_before
    seconds = sum(each.ended - each.began for each in slices)
    return round(max(0.0, others) / seconds / (os.cpu_count() or 1), 4)


def processor_seconds_of_others(process: int) -> float | None:
    """Processor time that all others than a process and its children have taken so far; None where not told."""
    try:
        user, nice, system, _, _, interrupt, soft, stolen = _numbers(Path("/proc/stat"), slice(1, 9))
        own = [_numbers(path / "stat", slice(13, 15)) for path in (Path("/proc") / str(process), *children_of(process))]
    except (OSError, ValueError):
        return None
    return (user + nice + system + interrupt + soft + stolen - sum(map(sum, own))) / os.sysconf("SC_CLK_TCK")


def _numbers(path: Path, columns: slice) -> list[int]:
    return [int(number) for number in path.read_text().partition("\n")[0].split()[columns]]


def figures(
    turns: Turns, reference: Turns, pairs: Pairs, *, tokens: int, activation: str, promise: Tier
) -> dict[str, Any]:
    """What the turns of one system say: rates, memory, and parity with the reference's logits."""
    runs = list(turns.values())
    logits, expected = runs[0].logits, reference[0].logits
    claims = [claim for claim, _ in pairs]
    parity = compare(logits, expected, activate(activation, logits), activate(activation, expected), claims)
    seconds = statistics.fmean(run.seconds for run in runs)
    return {
        "seconds": [run.seconds for run in runs],
        "others_share": [run.others_share for run in runs],
        "rounds": list(turns),
        "confirmed": confirmed(turns, reference),
        "pairs_per_second": len(pairs) / seconds,
        "tokens_per_second": tokens / seconds,
        "peak_memory_bytes": max(run.peak_memory_bytes for run in runs),
        "parity": asdict(parity),
        "violations": parity.violations(promise),
    }


def stages(run: Run, pairs: int) -> dict[str, Any]:
    """Rates of one run by stage. The engine's wall time is its threads' time, spread over as many as call it."""
    tokenizing = run.statistics["tokenize_seconds"]
    engine = run.statistics["engine_seconds"] / run.statistics["callers"]
    tokens = run.statistics["tokens"]
    return {
        name: {"seconds": seconds, "pairs_per_second": pairs / seconds, "tokens_per_second": tokens / seconds}
        for name, seconds in (("tokenize", tokenizing), ("engine", engine))
    }


def promise_of(system: System, manifest: Manifest) -> Tier:
    """What a system is compared with: for ours what the bundle promises, for a peer its precision's tier."""
    return manifest.variants[system.tier].tier if system.ours else TIERS[system.tier]
