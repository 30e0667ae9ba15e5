"""Pairs per second and parity of several systems, interleaved in one run: what `pairscore bench` measures.

Timing runs from a list of text pairs in memory to logits in memory; loading and a warm-up are outside. Each system
has a process of its own and only one of them computes at a time. Systems take turns, and every ratio compares two runs
of one round, so that a machine that slows down slows both.
"""

import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from pairscore.benchmarks.loaders import Files, Logits, Pairs
from pairscore.benchmarks.systems import System
from pairscore.runtime.activation import activate
from pairscore.runtime.parity import TIERS, Tier, compare

# A system whose warm-up promises less than this share of the reference's rate runs in the first round only.
SLOW_SHARE = 0.25
MAX_SCATTER_POINTS = 400


@dataclass(frozen=True)
class Run:
    """One timed run. `logits`: Shape (pairs, labels)."""

    seconds: float
    statistics: Mapping[str, float]
    peak_memory_bytes: int
    logits: Logits


class Worker:
    """A system's process. `error`: why it does not run; None while it does."""

    def __init__(self, system: System, files: Files, pairs_file: Path, folder: Path, python: str) -> None:
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

    def run(self, rows: Sequence[int] | None = None) -> Run | None:
        """Score all pairs, or those at `rows`; None when that failed, which `error` then explains."""
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
            answer["seconds"], answer["statistics"], answer["peak_memory_bytes"], logits.reshape(len(logits), -1)
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
    """The processes of one measurement, closed together. `say`: gets one line for each that starts."""

    def __init__(
        self,
        files: Files,
        pairs: Pairs,
        environments: Path | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._files, self._environments, self._say = files, environments, say
        self._folder = tempfile.TemporaryDirectory()
        self._pairs_file = Path(self._folder.name) / "pairs.json"
        self._pairs_file.write_text(json.dumps(pairs))
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
        if system.program and shutil.which(system.program) is None:
            return f"`{system.program}` is not on PATH: it is no Python package and has to be installed by itself"
        python = sys.executable
        if system.environment is not None:
            found = None if self._environments is None else self._environments / system.environment / "bin" / "python"
            if found is None or not found.is_file():
                return f"needs the environment of benchmarks/peers/{system.environment}.txt: `make bench-peers`"
            python = str(found)
        self._say(f"Loading {system.name}")
        folder = Path(self._folder.name) / str(len(self._open))
        folder.mkdir()
        worker = Worker(system, self._files, self._pairs_file, folder, python)
        self._open.append(worker)
        return worker if worker.error is None else worker.error


def take_turns(workers: Mapping[str, Worker], rounds: int, reference: str) -> dict[str, dict[int, Run]]:
    """Runs of every worker by round, in rotating order. One much slower than the reference runs once."""
    runs: dict[str, dict[int, Run]] = {name: {} for name in workers}
    limit = workers[reference].warm_up_seconds / SLOW_SHARE if reference in workers else float("inf")
    for turn in range(rounds):
        names = [name for name in workers if not turn or workers[name].warm_up_seconds <= limit]
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if workers[name].error is None and (run := workers[name].run()) is not None:
                runs[name][turn] = run
    return runs


def figures(
    runs: Mapping[int, Run],
    reference: Mapping[int, Run],
    pairs: Pairs,
    *,
    tokens: int,
    activation: str,
    promise: Tier,
) -> dict[str, Any]:
    """What the runs of one system say: rates, stages, memory, and parity with the reference's logits."""
    first, expected = next(iter(runs.values())), next(iter(reference.values())).logits
    logits = first.logits
    claims = [claim for claim, _ in pairs]
    parity = compare(logits, expected, activate(activation, logits), activate(activation, expected), claims)
    seconds = statistics.median(run.seconds for run in runs.values())
    result = {
        "seconds": [run.seconds for run in runs.values()],
        "pairs_per_second": len(pairs) / seconds,
        "tokens_per_second": tokens / seconds,
        "ratio": statistics.median(
            reference[turn].seconds / run.seconds for turn, run in runs.items() if turn in reference
        ),
        "peak_memory_bytes": max(run.peak_memory_bytes for run in runs.values()),
        "parity": asdict(parity),
        "violations": parity.violations(promise),
    }
    if "padded_tokens" in first.statistics:
        result["padding_share"] = 1 - first.statistics["tokens"] / first.statistics["padded_tokens"]
    if "engine_seconds" in first.statistics:
        result["stages"] = stages(list(runs.values()), len(pairs))
    return result


def stages(runs: Sequence[Run], pairs: int) -> dict[str, Any]:
    """Medians over the runs. The engine's wall time is its threads' time, spread over as many as call it."""
    tokenizing = statistics.median(run.statistics["tokenize_seconds"] for run in runs)
    engine = statistics.median(run.statistics["engine_seconds"] / run.statistics["callers"] for run in runs)
    tokens = runs[0].statistics["padded_tokens"]
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


def with_threads(system: System, threads: int) -> System:
    """The same system on so many threads, under a name of its own."""
    word = "thread" if threads == 1 else "threads"
    return replace(system, name=f"{system.name}, {threads} {word}", arguments={**system.arguments, "threads": threads})


def sample(pairs: Pairs, limit: int | None) -> list[int]:
    """Rows of at most `limit` pairs: whole claims in a seeded random order, so that rankings can be compared."""
    draw = random.Random(0)
    rows_of: dict[str, list[int]] = {}
    for row, (claim, _) in enumerate(pairs):
        rows_of.setdefault(claim, []).append(row)
    claims = list(rows_of)
    draw.shuffle(claims)
    rows = [row for claim in claims for row in rows_of[claim]][:limit]
    draw.shuffle(rows)
    return rows


def token_lengths(tokenizer_file: Path, pairs: Pairs, max_length: int | None = None) -> list[int]:
    """Tokens of each pair, special tokens included, after truncation to `max_length`."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_padding()
    if max_length is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(max_length)
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(pairs)]


def mean_tokens(tokenizer_file: Path, pairs: Pairs) -> float:
    """Tokens of a pair, special tokens included."""
    return statistics.fmean(token_lengths(tokenizer_file, pairs))
