"""How many pairs a second the host can feed to an engine that takes no time: read, tokenize, assemble, write.

    python -m studies.host --checkpoint models/climate-claims-minilm-l6 \
        --pairs ../shared/climate-fever/train.parquet --output benchmarks/results/host.json

The job is `pairscore score`'s own, Parquet to Parquet. Only the engine is replaced by one that answers every batch with
zeros at once. So the scores mean nothing, and the rate is the highest at which this host could keep a GPU busy. Two
inputs: every claim crossed with every piece of evidence, where texts repeat, and the same with a number after each
piece of evidence, where every row brings a text of its own. Each is scored with and without nanotoken, every run in a
process of its own, in turns.
"""

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pairscore.runtime.bundle.manifest import Bundle
from pairscore.runtime.engines.batch import Batch
from pairscore.runtime.job.options import JobOptions
from pairscore.runtime.job.run import run_job
from pairscore.runtime.machine import peak_memory_bytes
from pairscore.runtime.scorer import Scorer
from pairscore.runtime.text.tokenizer import PairTokenizer
from pairscore.runtime.types import FloatArray
from studies import harness

_SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class HostJob:
    """What to run. `data`, `output`: folders. `tokens_per_second`: of the engine; None for one that takes no time."""

    bundle: Path
    data: Path
    output: Path
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
    """Make the inputs, run every setting in turns, write the JSON."""
    from pairscore.export.bundle import export_bundle  # not what the measured processes import

    parser = harness.study_options(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--token-budget", type=int, default=65_536, help="tokens in a batch")
    parser.add_argument("--callers", type=int, default=2, help="threads that call the engine")
    parser.add_argument("--tokens-per-second", type=float, help="let the engine take the time of a device of this rate")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    chosen = [(data, tokenizer) for data in ("crossed", "unique") for tokenizer in ("nanotoken", "tokenizers")]
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {setting: [] for setting in chosen}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        harness.write_crossed(options.pairs, work / "crossed", options.rows, options.files, options.rows)
        write_unique(work / "crossed", work / "unique")
        export_bundle(str(harness.keep_layers(options.checkpoint, work / "checkpoint", 1)), work / "bundle")
        for turn in range(options.rounds):
            for data, tokenizer in chosen:
                job = HostJob(
                    work / "bundle",
                    work / data,
                    work / f"out-{data}-{tokenizer}-{turn}",
                    options.callers,
                    options.token_budget,
                    options.tokens_per_second,
                    tokenizer != "nanotoken",
                )
                with ProcessPoolExecutor(1, get_context("spawn")) as process:
                    runs[data, tokenizer].append(process.submit(run_once, job).result())
                print(f"{data}, {tokenizer}: {runs[data, tokenizer][-1]['pairs_per_second']:,.0f} pairs/s")
    settings = [
        {
            "data": data,
            "tokenizer": tokenizer,
            "pairs_per_second": statistics.median(run["pairs_per_second"] for run in found),
            "runs": found,
        }
        for (data, tokenizer), found in runs.items()
    ]
    given = {name: vars(options)[name] for name in ("files", "token_budget", "callers", "tokens_per_second")}
    harness.write_result(
        options.output, harness.study_result(options, {"rows": options.rows}, **given, settings=settings)
    )


def write_unique(crossed: Path, folder: Path) -> None:
    """The same pairs, with its row's number behind each piece of evidence."""
    folder.mkdir()
    for path in sorted(crossed.iterdir()):
        table = pq.read_table(path)
        evidence = pc.call_function("binary_join_element_wise", [table["evidence"], table["id"].cast(pa.string()), " "])
        table = table.set_column(table.schema.get_field_index("evidence"), "evidence", evidence)
        pq.write_table(table, folder / path.name, row_group_size=max(1, table.num_rows))


def run_once(job: HostJob) -> dict[str, Any]:
    """One job in this process: rate, seconds by stage, CPU seconds by thread, how full the batches were."""
    if job.without_nanotoken:
        sys.modules["nanotoken"] = None  # type: ignore[assignment]  # as if it were not installed
    bundle = Bundle.open(job.bundle)
    scorer = Scorer(bundle, "fp32", Nothing(job, len(bundle.manifest.labels)), PairTokenizer.of_bundle(bundle))
    before = time.process_time()
    with CpuSeconds() as threads:
        summary = run_job(JobOptions(str(job.bundle), (str(job.data),), str(job.output)), scorer=scorer)
    cpu = time.process_time() - before
    check_rows(job.data, job.output)
    figures, measured, named = summary.figures.as_dict(), summary.figures.statistics, threads.by_name()
    kept = ("pairs_per_second", "seconds", "seconds_by_stage", "share_outside_engine", "engine_idle_share")
    busy = measured.tokens / job.tokens_per_second if job.tokens_per_second else None
    return {
        **{name: figures[name] for name in kept},
        "cpu_seconds": round(cpu, 3),
        "cpu_seconds_by_thread": {**named, "of libraries": round(max(0.0, cpu - sum(named.values())), 3)},
        "device_idle_share": None if busy is None else round(1 - busy / figures["seconds"], 4),
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
        self._spent: dict[tuple[str, int], tuple[float, float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> "CpuSeconds":
        self._look()
        self._spent = {thread: (last, last) for thread, (_, last) in self._spent.items()}
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._look()
        self._stop.set()
        self._thread.join()

    def by_name(self) -> Mapping[str, float]:
        """Seconds since the start of all threads of one name together."""
        total: dict[str, float] = {}
        for (name, _), (first, last) in sorted(self._spent.items()):
            total[name] = round(total.get(name, 0.0) + last - first, 3)
        return total

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self._look()

    def _look(self) -> None:
        for thread in threading.enumerate():
            try:
                text = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text()
            except OSError:  # it has just ended, or this is not Linux
                continue
            key = thread.name.removeprefix("pairscore-").rstrip("_0123456789"), thread.native_id or 0
            self._spent[key] = (self._spent.get(key, (0.0, 0.0))[0], int(text.split()[0]) / 1e9)


if __name__ == "__main__":
    main()
