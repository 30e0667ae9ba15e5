"""How many pairs a second the host can feed to an engine that takes no time: read, tokenize, assemble, write.

    python -m pairscore.benchmarks.studies.host --checkpoint models/climate-claims-minilm-l6 \
        --pairs ../shared/climate-fever/train.parquet --output benchmarks/results/host.json

The job is `pairscore score`'s own, Parquet to Parquet. Only the engine is not: it answers every batch with zeros at
once, so the scores mean nothing, and the rate is what a GPU of any speed could be kept busy at. Two inputs: every claim
crossed with every piece of evidence, where texts repeat, and the same with a number after each piece of evidence, where
every row brings a text of its own. Each with and without nanotoken, every run in a process of its own, in turns.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pairscore.benchmarks.environment import environment
from pairscore.benchmarks.studies.crossed import write_crossed
from pairscore.benchmarks.studies.host_job import HostJob
from pairscore.benchmarks.studies.large_jobs import keep_layers
from pairscore.export.bundle import export_bundle
from pairscore.runtime.bundle.manifest import sha256


@dataclass(frozen=True)
class Setting:
    """One way to run the job. `data`: the folder's name. `tokenizer`: nanotoken or tokenizers."""

    data: str
    tokenizer: str


def main() -> None:
    """Make the inputs, run every setting in turns, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--pairs", required=True, type=Path, help="Parquet with columns claim and evidence")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--token-budget", type=int, default=65_536, help="tokens in a batch")
    parser.add_argument("--callers", type=int, default=2, help="threads that call the engine")
    parser.add_argument(
        "--tokens-per-second",
        type=float,
        help="let the engine take the time of a device of this rate, computing nothing",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", nargs="+", choices=("crossed", "unique"), default=["crossed", "unique"])
    parser.add_argument("--tokenizers", nargs="+", choices=("nanotoken", "tokenizers"), default=_tokenizers())
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    chosen = [Setting(data, tokenizer) for data in options.data for tokenizer in options.tokenizers]

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_crossed(options.pairs, work / "crossed", options.rows, options.files, options.rows)
        write_unique(work / "crossed", work / "unique")
        keep_layers(options.checkpoint, work / "checkpoint", 1)
        export_bundle(str(work / "checkpoint"), work / "bundle")
        job = HostJob(
            bundle=str(work / "bundle"),
            data="",
            folder=folder,
            callers=options.callers,
            token_budget=options.token_budget,
            tokens_per_second=options.tokens_per_second,
        )
        runs: dict[Setting, list[dict[str, Any]]] = {setting: [] for setting in chosen}
        for _ in range(options.rounds):
            for setting in chosen:
                runs[setting].append(measured(work, setting, job))
                print(f"{setting.data}, {setting.tokenizer}: {runs[setting][-1]['pairs_per_second']:,.0f} pairs/s")
    result = {
        "environment": environment(),
        "nanotoken": _release("nanotoken"),
        "checkpoint": options.checkpoint.name,
        "data": {"file": options.pairs.name, "sha256": sha256(options.pairs), "rows": options.rows},
        "files": options.files,
        "token_budget": options.token_budget,
        "callers": options.callers,
        "tokens_per_second": options.tokens_per_second,
        "settings": [
            {
                "data": setting.data,
                "tokenizer": setting.tokenizer,
                "pairs_per_second": statistics.median(run["pairs_per_second"] for run in found),
                "runs": found,
            }
            for setting, found in runs.items()
        ],
    }
    print(json.dumps(result, indent=2))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n")


def write_unique(crossed: Path, folder: Path) -> None:
    """The crossed pairs, their `id` added to each piece of evidence."""
    folder.mkdir()
    for path in sorted(crossed.iterdir()):
        table = pq.read_table(path)
        evidence = pc.call_function("binary_join_element_wise", [table["evidence"], table["id"].cast(pa.string()), " "])
        table = table.set_column(table.schema.get_field_index("evidence"), "evidence", evidence)
        pq.write_table(table, folder / path.name, row_group_size=max(1, table.num_rows))


def measured(work: Path, setting: Setting, job: HostJob) -> dict[str, Any]:
    """One job in a new process."""
    job = replace(job, data=str(work / setting.data), without_nanotoken=setting.tokenizer != "nanotoken")
    command = [sys.executable, "-m", "pairscore.benchmarks.studies.host_job", json.dumps(asdict(job))]
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(text)
    return found


def _tokenizers() -> list[str]:
    return ["nanotoken", "tokenizers"] if _release("nanotoken") else ["tokenizers"]


def _release(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
