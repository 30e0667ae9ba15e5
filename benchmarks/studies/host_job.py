"""One run of `host.py`, in a process that imports only what scoring needs; prints its figures as JSON.

The engine is registered nowhere: it is handed to the job as part of a scorer.
"""

import json
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.job.plan import JobOptions
from pairscore.runtime.job.run import run_job
from pairscore.runtime.job.summary import peak_memory_bytes
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.text.tokenizer import PairTokenizer
from pairscore.runtime.types import FloatArray

_SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class HostJob:
    """What to run. `folder`: for the output. `tokens_per_second`: of the engine; None for one that takes no time."""

    bundle: str
    data: str
    folder: str
    callers: int
    token_budget: int
    tokens_per_second: float | None = None
    without_nanotoken: bool = False


class Nothing:
    """An engine that computes nothing; with a rate, it answers when a device that takes batches in turn would have."""

    name = "nothing"
    device = "none"

    def __init__(self, job: HostJob, labels: int) -> None:
        self.callers = job.callers
        self.token_budget = job.token_budget
        self._labels = labels
        self._rate = job.tokens_per_second
        self._lock = threading.Lock()
        self._free_at = 0.0

    def run(self, batch: Batch) -> FloatArray:
        """Zeros, once the inputs of a BERT graph have been asked for."""
        for name in ("input_ids", "token_type_ids"):
            batch.input(name)
        if self._rate:
            with self._lock:
                self._free_at = max(self._free_at, time.perf_counter()) + batch.input_ids.size / self._rate
                ready = self._free_at
            time.sleep(max(0.0, ready - time.perf_counter()))
        return np.zeros((len(batch.rows), self._labels), dtype=np.float32)


def main() -> None:
    """Run the job that the one argument describes."""
    print(json.dumps(run_once(HostJob(**json.loads(sys.argv[1])))))


def run_once(job: HostJob) -> dict[str, Any]:
    """One job in this process: rate, seconds by stage, CPU seconds by thread, how full the batches were."""
    if job.without_nanotoken:
        sys.modules["nanotoken"] = None  # type: ignore[assignment]  # as if it were not installed
    bundle = Bundle.open(job.bundle)
    manifest = bundle.manifest
    scorer = Scorer(
        bundle,
        "fp32",
        Nothing(job, len(manifest.labels)),
        PairTokenizer.of_bundle(bundle),
    )
    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        output = Path(folder) / "out"
        options = JobOptions(job.bundle, (job.data,), str(output))
        before = time.process_time()
        with CpuSeconds() as threads:
            summary = run_job(options, scorer=scorer)
        cpu = time.process_time() - before
        check_rows(Path(job.data), output)
    figures = summary.figures.as_dict()
    measured = summary.figures.statistics
    named = threads.by_name()
    device_idle = None
    if job.tokens_per_second:
        device_idle = round(1 - measured.tokens / job.tokens_per_second / summary.figures.seconds, 4)
    return {
        "pairs_per_second": figures["pairs_per_second"],
        "seconds": figures["seconds"],
        "seconds_by_stage": figures["seconds_by_stage"],
        "share_outside_engine": figures["share_outside_engine"],
        "engine_idle_share": figures["engine_idle_share"],
        "cpu_seconds": round(cpu, 3),
        "cpu_seconds_by_thread": {**named, "of libraries": round(max(0.0, cpu - sum(named.values())), 3)},
        "device_idle_share": device_idle,
        "batches": measured.batches,
        "batch_fill": round(measured.tokens / (measured.batches * job.token_budget), 4),
        "texts": measured.texts,
        "peak_memory_bytes": peak_memory_bytes(),
    }


def check_rows(data: Path, output: Path) -> None:
    """Raise ValueError unless the output has the input's rows, in order."""
    read, written = (pq.read_table(folder, columns=["id"])["id"] for folder in (data, output))
    if not read.equals(written):
        raise ValueError(f"the output's rows are not the input's: {len(written)} of {len(read)}")


class CpuSeconds:
    """CPU time of this process's Python threads by name, from Linux's scheduler; threads of libraries have no name.

    The time of a thread's last moments is missed: at most what it computes between two looks.
    """

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, int], float] = {}
        self._before: dict[tuple[str, int], float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> "CpuSeconds":
        self._look()
        self._before = dict(self._seconds)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._look()
        self._stop.set()
        self._thread.join()

    def by_name(self) -> dict[str, float]:
        """Seconds since the start of all threads of one name together."""
        total: dict[str, float] = {}
        for (name, number), seconds in self._seconds.items():
            total[name] = total.get(name, 0.0) + seconds - self._before.get((name, number), 0.0)
        return {name: round(seconds, 3) for name, seconds in sorted(total.items())}

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self._look()

    def _look(self) -> None:
        for thread in threading.enumerate():
            try:
                text = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text()
            except OSError:  # it has just ended, or this is not Linux
                continue
            name = thread.name.removeprefix("pairscore-").rstrip("_0123456789")
            self._seconds[name, thread.native_id or 0] = int(text.split()[0]) / 1e9


if __name__ == "__main__":
    main()
