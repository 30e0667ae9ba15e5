"""Pairs per second and parity of several systems, interleaved in one run: what `pairscore bench` measures.

Timing runs from a list of text pairs in memory to logits in memory; loading and a warm-up are outside. Each system has
a process of its own and only one of them computes at a time. Systems take turns, with the reference again and again
among them. A shared machine has slow spells, and fast ones when its processor's other users rest; so a system's figure
is its median run, and a ratio is that of two medians. A system whose median no second run confirms gets more rounds.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pairscore.benchmarks.loaders import Files, Logits, Pairs
from pairscore.benchmarks.systems import System
from pairscore.runtime.bundle.activation import activate
from pairscore.runtime.bundle.parity import TIERS, Tier, compare

# Rates, as shares of the reference's, below which a system runs in one round only, or in two.
ONE_ROUND, TWO_ROUNDS = 0.6, 1.25
# The median run counts as confirmed when another took as long, within this share of it.
CONFIRMED_WITHIN = 0.05
MAX_MORE_ROUNDS = 1
# How many systems run between two runs of the reference.
SYSTEMS_BETWEEN = 9
# Pause between two runs, in which the threads of the one before stop spinning.
PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Run:
    """One timed run. `logits`: Shape (pairs, labels). `others_share`: the share of the processors that other processes
    took meanwhile; None where the operating system does not tell.
    """

    seconds: float
    others_share: float | None
    statistics: Mapping[str, float]
    peak_memory_bytes: int
    logits: Logits


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
            )
        answer = self._answer()
        self.error: str | None = answer.get("error")
        self.warm_up_seconds: float = answer.get("warm_up_seconds", 0.0)
        self.versions: dict[str, str] = answer.get("versions", {})

    def run(self, rows: Sequence[int] | None = None) -> Run | None:
        """Score the timed pairs, or those at `rows` of all; None when that failed, which `error` then explains."""
        if self._process.stdin is None:
            raise RuntimeError("the process has no standard input")
        self._process.stdin.write(json.dumps(None if rows is None else list(rows)) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            self.error = answer["error"]
            return None
        logits = np.load(self._logits)
        return Run(
            answer["seconds"],
            answer["others_share"],
            answer["statistics"],
            answer["peak_memory_bytes"],
            logits.reshape(len(logits), -1),
        )

    def close(self) -> None:
        """End the process."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        last = [each for each in self._log.read_text(errors="replace").splitlines() if each.strip()][-1:]
        return {"error": f"its process ended with {self._process.wait()}: {''.join(last)[:200]}"}


class Workers:
    """The processes of one measurement, closed together. `more`: pairs behind those that are timed, for runs of chosen
    rows. `say`: gets one line for each process that starts.
    """

    def __init__(
        self,
        files: Files,
        pairs: Pairs,
        environments: Path | None = None,
        say: Callable[[str], None] = lambda line: None,
        *,
        more: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._files, self._environments, self._say, self._timed = files, environments, say, len(pairs)
        self._folder = tempfile.TemporaryDirectory()
        self._pairs_file = Path(self._folder.name) / "pairs.json"
        self._pairs_file.write_text(json.dumps([*pairs, *more]))
        self._open: list[Worker] = []

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._open:
            worker.close()
        self._folder.cleanup()

    def start(self, system: System) -> "Worker | str":
        """A loaded and warm worker, or why there is none."""
        python = sys.executable
        if system.environment is not None:
            found = None if self._environments is None else self._environments / system.environment / "bin" / "python"
            if found is None or not found.is_file():
                return f"needs the environment of benchmarks/peers/{system.environment}.txt: `make bench-peers`"
            python = str(found)
        if system.missing:
            return system.missing
        self._say(f"Loading {system.name}")
        folder = Path(self._folder.name) / str(len(self._open))
        folder.mkdir()
        worker = Worker(system, self._files, self._pairs_file, self._timed, folder=folder, python=python)
        self._open.append(worker)
        return worker if worker.error is None else worker.error


@dataclass(frozen=True)
class Turn:
    """A run of a system. `round`: from 0."""

    round: int
    run: Run


def take_turns(
    workers: Mapping[str, Worker],
    rounds: int,
    reference: str,
    rows: Sequence[int] | None = None,
    *,
    pause: float = PAUSE_SECONDS,
) -> dict[str, list[Turn]]:
    """Turns of every system in rotating order, with a run of the reference before every `SYSTEMS_BETWEEN` of them.

    One that is much slower than the reference runs in the first round only, one that is hardly faster in two. Up to
    `MAX_MORE_ROUNDS` more rounds are for those whose median run no other confirms. rows: as of `Worker.run`.
    """
    turns: dict[str, list[Turn]] = {name: [] for name in workers}
    patience = {name: _rounds(workers[name], workers[reference], rounds) for name in workers if name != reference}
    for place in range(rounds + MAX_MORE_ROUNDS):
        names = [name for name, most in patience.items() if place < most]
        if place >= rounds:
            names = [name for name, most in patience.items() if most == rounds and turns[name]]
            names = [name for name in names if not confirmed(turns[name])]
            if not names and confirmed(turns[reference]):
                break
        shift = place % max(1, len(names))
        names = names[shift:] + names[:shift]
        for start in range(0, max(1, len(names)), SYSTEMS_BETWEEN):
            for name in (reference, *names[start : start + SYSTEMS_BETWEEN]):
                time.sleep(pause)
                run = workers[name].run(rows) if workers[name].error is None else None
                if run is not None:
                    turns[name].append(Turn(place, run))
    return turns


def _rounds(worker: Worker, reference: Worker, rounds: int) -> int:
    share = reference.warm_up_seconds / max(worker.warm_up_seconds, 1e-9)
    return min(rounds, 1 if share < ONE_ROUND else 2 if share < TWO_ROUNDS else rounds)


def confirmed(turns: Sequence[Turn]) -> bool:
    """Whether another run took about as long as the median one."""
    seconds = median_run(turns).seconds
    alike = [turn for turn in turns if abs(turn.run.seconds - seconds) <= CONFIRMED_WITHIN * seconds]
    return len(alike) > 1


def median_run(turns: Sequence[Turn]) -> Run:
    """The run of median length; of an even number, the faster one of the two in the middle."""
    seconds = statistics.median_low(turn.run.seconds for turn in turns)
    return next(turn.run for turn in turns if turn.run.seconds == seconds)


def figures(
    turns: Sequence[Turn], reference: Sequence[Turn], pairs: Pairs, *, tokens: int, activation: str, promise: Tier
) -> dict[str, Any]:
    """What the turns of one system say beside the reference's: rates, stages, memory, and parity."""
    runs, typical = [turn.run for turn in turns], median_run(turns)
    logits, expected = runs[0].logits, reference[0].run.logits
    claims = [claim for claim, _ in pairs]
    parity = compare(logits, expected, activate(activation, logits), activate(activation, expected), claims)
    result = {
        "seconds": [run.seconds for run in runs],
        "others_share": [run.others_share for run in runs],
        "rounds": [turn.round for turn in turns],
        "confirmed": confirmed(turns),
        "pairs_per_second": len(pairs) / typical.seconds,
        "tokens_per_second": tokens / typical.seconds,
        "ratio": median_run(reference).seconds / typical.seconds,
        "peak_memory_bytes": max(run.peak_memory_bytes for run in runs),
        "parity": asdict(parity),
        "violations": parity.violations(promise),
    }
    if "engine_seconds" in typical.statistics:
        result["stages"] = stages(typical, len(pairs))
    return result


def stages(run: Run, pairs: int) -> dict[str, Any]:
    """Rates of one run by stage. The engine's wall time is its threads' time, spread over as many as call it."""
    tokenizing = run.statistics["tokenize_seconds"]
    engine = run.statistics["engine_seconds"] / run.statistics["callers"]
    tokens = run.statistics["tokens"]
    return {
        "tokenize": {
            "seconds": tokenizing,
            "pairs_per_second": pairs / tokenizing,
            "tokens_per_second": tokens / tokenizing,
        },
        "engine": {"seconds": engine, "pairs_per_second": pairs / engine, "tokens_per_second": tokens / engine},
    }


def promise_of(system: System, promises: Mapping[str, Tier]) -> Tier:
    """What a system is compared with: for ours what the bundle promises, for a peer its precision's tier."""
    return promises.get(system.tier, TIERS[system.tier]) if system.ours else TIERS[system.tier]
